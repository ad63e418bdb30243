"""Relevance feedback with simulated users: mAP after each click, and the time of an answer at 100,000 images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.growth import make_entry
from bench.setup import SHARED, find_weights, format_table, ingest
from simsearch import Collection, ModelChoice
from simsearch.models.choice import resolve_model
from simsearch.rerank.label_spreading import N_CANDIDATES, build_direction, spread_labels
from simsearch.search.examples import Example
from simsearch.store.snapshot import open_model_views
from simsearch.store.writer import CatalogWriter

N_LARGE = 100_000
N_USERS = 300
N_CLICKS = 10
_MIN_FEEDBACK = 3
_SHOWN = (0, 2, 4, 6, 8, 10)

Vectors = NDArray[np.float64]
Ids = NDArray[np.int64]
Ranker = Callable[[Vectors, list[int], list[int]], Vectors]
"""A function from vectors (n, d) and the positions of examples for and against to scores (n,)."""


def measure() -> str:
    """Measure and format the section of the report."""
    photographs = SHARED / "photos" / "caltech101_small"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backbone in ("builtin", "mobilenet_v2"):
            weights = None if backbone == "builtin" else find_weights(backbone)
            ingest(Path(folder) / "ix", [photographs], ModelChoice(backbone=backbone, weights=weights))
            vectors, classes = _load(Path(folder) / "ix", backbone)
            rows += _measure_users(backbone, vectors, classes)
    header = ["backbone", "ranking", *(f"{n} clicks" for n in _SHOWN)]
    answer_ms = _measure_answer_ms()
    return (
        "## Clicks\n\n"
        f"{N_USERS} simulated users; each has an image of one class of `caltech101_small`, and clicks by turns on the "
        "first result that is of the class and the first that is not. mAP over the images that are no example. Only "
        "classes on which no setting was chosen.\n\n"
        + format_table(header, rows)
        + f"\n\nAn answer with 5 examples for and 5 against at {N_LARGE:,} images of 384 d, stored examples, median: "
        f"{answer_ms[1]:.1f} ms; by averaging {answer_ms[0]:.1f} ms."
    )


def average(vectors: Vectors, liked: list[int], unliked: list[int]) -> Vectors:
    """The sum of the examples for less the sum of those against, as `combine_vectors`."""
    return np.asarray(vectors @ (vectors[liked].sum(axis=0) - vectors[unliked].sum(axis=0)))


def use_feedback(vectors: Vectors, liked: list[int], unliked: list[int]) -> Vectors:
    """The default: averaging until there are three examples of each kind, then the step `feedback`."""
    if min(len(liked), len(unliked)) < _MIN_FEEDBACK:
        return average(vectors, liked, unliked)
    examples, weights = [*liked, *unliked], np.array([1.0] * len(liked) + [-1.0] * len(unliked))
    direction = build_direction(vectors[examples].astype(np.float32), weights)
    similarities = vectors @ (direction / np.linalg.norm(direction))
    first = np.argsort(-similarities, kind="stable")[:N_CANDIDATES]
    points = np.union1d(first, examples)
    labels = np.zeros(len(points))
    labels[np.searchsorted(points, examples)] = weights
    scores = similarities - 1e3  # behind all that are reordered
    scores[points] = spread_labels(vectors[points].astype(np.float32), labels, similarities[points])
    return np.asarray(scores)


def follow_user(vectors: Vectors, classes: Ids, query: int, rank: Ranker, click_by: Ranker) -> list[float]:
    """The average precision before the first click, and after each, of a user who sees what `click_by` ranks."""
    liked, unliked, scores = [query], list[int](), []
    for n in range(N_CLICKS + 1):
        order = _order(vectors, liked, unliked, rank)
        ranks = np.flatnonzero(classes[order] == classes[query]) + 1
        scores.append(float(np.mean(np.arange(1, len(ranks) + 1) / ranks)))
        shown = _order(vectors, liked, unliked, click_by)
        is_right = classes[shown] == classes[query]
        clicked = int(shown[np.flatnonzero(is_right if n % 2 == 0 else ~is_right)[0]])
        (liked if n % 2 == 0 else unliked).append(clicked)
    return scores


def _order(vectors: Vectors, liked: list[int], unliked: list[int], rank: Ranker) -> Ids:
    scores = rank(vectors, liked, unliked)
    scores[[*liked, *unliked]] = -np.inf
    return np.argsort(-scores, kind="stable")[: len(vectors) - len(liked) - len(unliked)]


def _measure_users(backbone: str, vectors: Vectors, classes: Ids) -> list[list[str]]:
    rng = np.random.default_rng(0)
    names = rng.permutation(classes.max() + 1)
    reported = np.flatnonzero(np.isin(classes, names[len(names) // 2 :]))
    users = rng.permutation(reported)[:N_USERS].tolist()
    rows = []
    for name, rank, click_by in (
        ("averaging", average, average),
        ("feedback", use_feedback, use_feedback),
        ("feedback, clicks of averaging", use_feedback, average),
    ):
        means = np.mean([follow_user(vectors, classes, user, rank, click_by) for user in users], axis=0)
        rows.append([backbone, name, *(f"{means[n]:.3f}" for n in _SHOWN)])
    return rows


def _load(collection: Path, backbone: str) -> tuple[Vectors, Ids]:
    with Collection.open(collection) as opened, open_model_views(collection, opened.model(backbone)) as views:
        records, rows = views.read_records(views.list_view_ids())
    names = [Path(record.path).parent.name for record in records]
    return rows.astype(np.float64), np.unique(names, return_inverse=True)[1].astype(np.int64)


def _measure_answer_ms() -> tuple[float, float]:
    """Median milliseconds of an answer by averaging, and by feedback."""
    with tempfile.TemporaryDirectory() as folder:
        place, random, model = Path(folder) / "ix", np.random.default_rng(0), resolve_model(ModelChoice())
        with CatalogWriter.open_or_create(place) as writer, writer.transaction():
            stored = writer.add_model(model, 384, model.fingerprint)
            rows = random.standard_normal((N_LARGE, 384)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            writer.record_files((make_entry(number, row) for number, row in enumerate(rows)), stored.id)
            writer.end_run(writer.begin_run(stored.id, ["made up"]), embedded=N_LARGE, reused=0)
        with Collection.open(place) as collection:
            collection.search(1, k=20)  # builds the index
            return _time_answers(collection, "none"), _time_answers(collection, None)


def _time_answers(collection: Collection, rerank: str | None) -> float:
    times = []
    for first in range(1, 2_001, 100):
        examples = [Example(first + at, 1.0 if at < N_CLICKS // 2 else -1.0) for at in range(N_CLICKS)]
        started = time.perf_counter()
        collection.search(examples, k=20, rerank=rerank)
        times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times))
