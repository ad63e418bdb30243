"""Text-to-image retrieval: texts as queries, labels or those of a table, with the images that answer them."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simsearch.errors import SourceError, UsageError
from simsearch.evaluation.embedding import Vectors
from simsearch.evaluation.labels import find_root, make_relative
from simsearch.evaluation.metric_names import TASK_METRICS, compute_metric
from simsearch.evaluation.metrics import Rankings, rank_positions
from simsearch.evaluation.protocol import Positions, RetrievalTask
from simsearch.evaluation.results import TextScores
from simsearch.interchange.text_tables import TextTable
from simsearch.models.text.encoder import TextDirections, TextEncoder, encode_in_prompts

LABELS = "labels"
"""The value of `BenchmarkSpec.text` that takes the labels as texts."""

_METRICS = (
    "hit_at_1", "hit_at_5", "hit_at_10", "recall_at_10", "p_at_10", "map", "map_at_r", "r_precision", "mrr",
    "ndcg_at_10",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextQuery:
    """A text with the positions of the images that answer it."""

    text: str
    relevant: Positions


def build_text_queries(choice: str, task: RetrievalTask, source: str) -> tuple[TextQuery, ...]:
    """Build the queries of `labels`, with `_` as a space, or of a CSV file with the columns `text` and `path`.

    A path is relative to the source. Raises `SourceError` for a file that cannot be read, `UsageError` where no image
    answers a text.
    """
    relevant: dict[str, list[int]] = defaultdict(list)
    if choice == LABELS:
        for position, label in enumerate(task.labels):
            if label:
                relevant[label.replace("_", " ")].append(position)
    else:
        files = {path: at for at, image in enumerate(task.images) for path in image.paths}
        root = find_root(source, list(files))
        position_of = {make_relative(path, root): at for path, at in files.items()}
        for text, path in _read_table(choice):
            if (at := position_of.get(os.path.normpath(path))) is not None:
                relevant[text].append(at)
    if not relevant:
        raise UsageError(f"no image answers a text of {choice}", "check the labels, or the paths of the table")
    return tuple(TextQuery(text, np.unique(positions)) for text, positions in relevant.items())


def score_texts(
    model: str, queries: Sequence[TextQuery], encoder: TextEncoder, vectors: Vectors, prompts: Sequence[str] = (),
    chosen: Sequence[str] = (),
) -> TextScores:  # fmt: skip
    """Rank all images (n, d) for every text, and compute the metrics. Texts that cannot be encoded are left out.

    `chosen` are keys of metrics that come before the usual ones; those of special tasks do not apply to texts and are
    left out. Raises `UsageError` where no text can be encoded.
    """
    encoded: list[tuple[TextQuery, TextDirections]] = []
    unknown: list[str] = []
    for query in queries:
        try:
            found = encode_in_prompts(encoder, query.text, prompts)
        except UsageError:
            unknown.append(query.text)
            continue
        if found.notes:  # a part of the text is not known
            unknown.append(query.text)
        else:
            encoded.append((query, found))
    if not encoded:
        raise UsageError(f"{model} knows none of the {len(queries)} texts", "benchmark texts with another backbone")
    similarities = np.stack([(vectors @ found.rows.T).max(axis=1) for _, found in encoded])
    order = rank_positions(similarities)
    relevant = np.stack([np.isin(row, query.relevant) for (query, _), row in zip(encoded, order, strict=True)])
    rankings = Rankings.from_relevance(relevant, np.array([len(query.relevant) for query, _ in encoded], np.int64))
    names = dict.fromkeys((*(name for name in chosen if name not in TASK_METRICS), *_METRICS))
    scores = {name: float(compute_metric(name, rankings).mean()) for name in names}
    return TextScores(model=model, n_texts=len(encoded), unknown=tuple(unknown), scores=scores)


def _read_table(file: str) -> list[tuple[str, str]]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as lines:
            rows = list(TextTable(lines, ("text", "path")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(file, f"cannot read the texts in {file} ({error})", "give a CSV file, or labels") from error
    if not rows or not {"text", "path"} <= rows[0].keys():
        raise SourceError(file, f"{file} has no columns text and path", "write them in its first line")
    return [(row["text"], row["path"]) for row in rows if row["text"] and row["path"]]
