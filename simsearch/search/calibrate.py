"""Calibrate a model on a collection: by the class folders, by a column, or by augmented copies of its images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simsearch.errors import ImageError, UsageError
from simsearch.images.augmentation import AugmentationRanges
from simsearch.images.decode import Pixels, decode_square
from simsearch.images.views import Augmentation
from simsearch.index.exact import ExactIndex
from simsearch.models.embedder import Embedder
from simsearch.search.calibration import Positions, ProbabilityCalibration, SampleQueries, calibrate
from simsearch.sources.progress import find_listener
from simsearch.store.catalog import StoredModel
from simsearch.store.originals import read_original
from simsearch.store.snapshot import Snapshot, StoredImage

BY_CLASS, BY_COPIES = "class", "copies"
N_QUERIES = 500
_N_COPIED = 200
_COPIES_BATCH = 32
_SEED_OF_COPIES = 20_261_129
"""An index contains no views of this seed, unless a user sets it."""


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """What makes an image relevant to a query.

    `by` is `class` (the name of the file's folder, as in filters), `copies` (augmented copies of an image), or a column
    of the user; None: `class` where most images have a class with other images, else `copies`. `seed` draws the sample.
    """

    by: str | None = None
    seed: int = 0
    n_queries: int = N_QUERIES

    def __post_init__(self) -> None:
        if self.n_queries < 1:
            raise UsageError(f"the sample has {self.n_queries} queries", "give 1 or more")


def calibrate_model(
    snapshot: Snapshot,
    stored: StoredModel,
    index: ExactIndex,
    options: CalibrationOptions,
    open_embedder: Callable[[], Embedder],
    max_pixels: int,
) -> ProbabilityCalibration:
    """Calibrate a model on a sample of the images of a collection; the database is the original view of every image.

    Raises `UsageError` if there are too few images or labels, or a `ModelError` if copies must be embedded.
    """
    view_ids, image_ids = snapshot.list_original_ids(stored.id)
    is_indexed = np.isin(view_ids, index.ids)
    rows = index.rows[index.find_positions(view_ids[is_indexed])]
    images = snapshot.read_images(image_ids[is_indexed].tolist())
    ordered = [images[image_id] for image_id in image_ids[is_indexed].tolist()]
    random = np.random.default_rng(options.seed)
    by = options.by or _choose_relation(ordered)
    if by == BY_COPIES:
        queries = _embed_copies(ordered, stored, random, open_embedder(), max_pixels)
        return calibrate(queries, rows, np.arange(len(rows)), "a copy of the same picture", options.seed)
    names = _list_labels(ordered, by)
    is_labeled = np.array([name is not None for name in names])
    codes = _encode_labels([name for name in names if name is not None])
    rows = rows[is_labeled]
    usable = np.flatnonzero(np.bincount(codes)[codes] > 1) if len(codes) else np.empty(0, np.int64)
    if len(np.unique(codes[usable])) < 2:
        problem = f"fewer than two values of {by} have several images"
        raise UsageError(problem, f"name a column with --by, or use augmented copies: --by {BY_COPIES}")
    sample = np.sort(random.permutation(usable)[: options.n_queries])
    return calibrate(SampleQueries(rows[sample], codes[sample], sample), rows, codes, f"of the same {by}", options.seed)


def _choose_relation(images: Sequence[StoredImage]) -> str:
    counts = Counter(_list_labels(images, BY_CLASS))
    n_in_classes = sum(count for count in counts.values() if count > 1)
    return BY_CLASS if len(counts) > 1 and 2 * n_in_classes > len(images) else BY_COPIES


def _list_labels(images: Sequence[StoredImage], by: str) -> list[str | None]:
    if by == BY_CLASS:
        return [os.path.basename(os.path.dirname(image.files[0].path)) for image in images]
    if not any(by in image.columns for image in images):
        raise UsageError(f"no image has a column {by!r}", f"name a column, {BY_CLASS} or {BY_COPIES}")
    return [None if by not in image.columns else str(image.columns[by]) for image in images]


def _encode_labels(names: Sequence[str]) -> Positions:
    return np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64).ravel()


def _embed_copies(
    images: Sequence[StoredImage], stored: StoredModel, random: np.random.Generator, embedder: Embedder, max_pixels: int
) -> SampleQueries:
    """Embed an augmented copy of each image of a sample; images that cannot be read are left out."""
    augmentation = Augmentation(1, _SEED_OF_COPIES, AugmentationRanges())
    squares: list[Pixels] = []
    positions: list[int] = []
    for position in random.permutation(len(images))[:_N_COPIED].tolist():
        image = images[position]
        try:
            raw = read_original(image, max_pixels)
            _, square = decode_square(raw, stored.model.resize_rule, max_pixels=max_pixels)
        except ImageError:
            continue
        squares.append(augmentation.render_views(square, image.digest, [1], stored.model.resize_rule)[0])
        positions.append(position)
    if len(positions) < 2:
        raise UsageError("fewer than two images can be read", "index the pictures at their current location")
    own = np.full(len(positions), -1, np.int64)
    rows = []
    with find_listener().on_activity(f"embedding {len(squares)} altered copies") as report:
        for at in range(0, len(squares), _COPIES_BATCH):
            rows.append(embedder.embed(np.stack(squares[at : at + _COPIES_BATCH])))
            report(at / len(squares))
    vectors = np.concatenate(rows)
    return SampleQueries(vectors, np.array(positions, np.int64), own)
