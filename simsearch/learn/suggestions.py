"""Which images to label next: those that the labels so far leave unsure, and those that are like none of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simsearch.collection import Collection
from simsearch.errors import UsageError
from simsearch.learn.image_labels import LabelChoice, read_names
from simsearch.learn.moments import Classes, LabeledMoments, MapSettings, Vectors
from simsearch.models.projection import Projection
from simsearch.store.snapshot import ViewRecord, open_model_views

Reason = Literal["unsure", "new"]
"""`unsure`: two labels are nearly as probable. `new`: no labeled image is similar."""

DEFAULT_COLUMN = "label"

_SETTINGS = MapSettings(shrinkage=0.6, class_shrinkage=0.6, sharpness=2.0, class_weight=0.0)
_MAX_FEATURES = 512
_MAX_LABELED = 2_000
"""Coverage is measured against at most this many labeled images."""

_MAX_UNLABELED = 100_000
_N_CANDIDATES = 10
_SAME = 0.9
"""An image at least this similar to one that is suggested already is left out, as long as there are others."""

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelSuggestion:
    """An image to label next.

    `labels` are the two most probable labels of an unsure image with their probabilities; empty for a new one.
    `similarity` is that to the nearest labeled or suggested image, NaN where there was none.
    """

    image_id: int
    path: str
    reason: Reason
    labels: tuple[tuple[str, float], ...]
    similarity: float

    def to_dict(self) -> dict[str, Any]:
        """The suggestion as `learn --suggest --json` prints it."""
        return asdict(self) | {"similarity": None if np.isnan(self.similarity) else round(self.similarity, 6)}


def suggest_images(
    collection: Collection, n: int, *, backbone: str | None = None, labels: str | None = None,
    column: str | None = None, seed: int = 0,
) -> tuple[LabelSuggestion, ...]:  # fmt: skip
    """Suggest n images without a label to label next, by turns unsure and new ones.

    `labels` is a column of the collection or a label file; by default the column `label`, if there is one. `column` is
    a column only, which may be one that the collection does not have yet: then no image has a label. Unsure
    images have the smallest margin between their two most probable labels (linear discriminant analysis of the labeled
    images); new ones are the farthest from all that is labeled or suggested. With fewer than two labels, all are new.
    Of a large collection a random sample of 100,000 images is considered. Raises `UsageError`, `ModelNotIndexed`.
    """
    if n < 1:
        raise UsageError(f"the number of suggestions is {n}", "give 1 or more")
    stored = collection.model(backbone)
    wanted = column or DEFAULT_COLUMN
    chosen = labels or (wanted if wanted in collection.catalog.count_columns() else None)
    view_ids, names = np.empty(0, np.int64), dict[int, str]()
    if chosen is not None:
        view_ids, names = read_names(collection.catalog, stored, LabelChoice(chosen))
    rng = np.random.default_rng(seed)
    with open_model_views(collection.folder, stored, originals_only=True) as views:
        everything = views.list_view_ids()
        labeled = _draw(view_ids[[int(view_id) in names for view_id in view_ids]], _MAX_LABELED * 5, rng)
        others = _draw(np.setdiff1d(everything, np.fromiter(names, np.int64)), _MAX_UNLABELED, rng)
        if not len(others):
            raise UsageError("every image has a label", "name another column with --labels")
        records, rows = views.read_records(others)
        known = np.concatenate(
            [np.empty((0, rows.shape[1]), np.float32), *(r for _, r in views.iterate_blocks(labeled))]
        )
    label_names = sorted({names[int(view_id)] for view_id in labeled})
    classes = np.array([label_names.index(names[int(view_id)]) for view_id in labeled], np.int64)
    return _Suggester(records, rows, known, classes, label_names).suggest(n, rng)


class _Suggester:
    """Unlabeled images with their records and rows (n, d), and labeled ones: rows (m, d), classes (m,), names."""

    def __init__(
        self, records: list[ViewRecord], rows: Vectors, known: Vectors, classes: Classes, names: list[str]
    ) -> None:
        self._records, self._rows, self._known, self._classes, self._names = records, rows, known, classes, names
        self._nearest = np.full(len(rows), -np.inf, np.float32)
        self._is_taken = np.zeros(len(rows), bool)

    def suggest(self, n: int, rng: np.random.Generator) -> tuple[LabelSuggestion, ...]:
        for row in _draw(np.arange(len(self._known)), _MAX_LABELED, rng).tolist():
            np.maximum(self._nearest, self._rows @ self._known[row], out=self._nearest)
        found: list[LabelSuggestion] = []
        for unsure, new in zip_longest(self._find_unsure(n), range(n)):
            if unsure is not None:
                found.append(self._take(*unsure))
            if new is not None and not self._is_taken.all():
                found.append(self._take(self._find_new(), "new", ()))
            if len(found) >= n:
                break
        return tuple(found[:n])

    def _find_new(self) -> int:
        return int(np.where(self._is_taken, np.inf, self._nearest).argmin())

    def _find_unsure(self, n: int) -> Iterator[tuple[int, Reason, tuple[tuple[str, float], ...]]]:
        """The images with the smallest margins; near copies of what is suggested come last."""
        if len(self._names) < 2 or np.bincount(self._classes).max() < 2:
            return
        probabilities = self._compute_probabilities()
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
        first_two = np.take_along_axis(probabilities, best, 1)
        order = np.argsort(first_two[:, 0] - first_two[:, 1], kind="stable")[: _N_CANDIDATES * n].tolist()
        distinct = self._leave_out_similar(order)
        for row in [*distinct, *(row for row in order if row not in set(distinct))]:
            if not self._is_taken[row]:
                pairs = zip(best[row].tolist(), first_two[row].tolist(), strict=True)
                yield row, "unsure", tuple((self._names[label], round(share, 4)) for label, share in pairs)

    def _leave_out_similar(self, order: list[int]) -> list[int]:
        kept: list[int] = []
        for row in order:
            if not kept or float((self._rows[kept] @ self._rows[row]).max()) < _SAME:
                kept.append(row)
        return kept

    def _compute_probabilities(self) -> Vectors:
        known, rows = self._known, self._rows
        if known.shape[1] > _MAX_FEATURES:
            reduction = Projection.fit(known, _MAX_FEATURES)
            known = np.asarray((known - reduction.mean) @ reduction.axes, np.float32)
            rows = np.asarray((rows - reduction.mean) @ reduction.axes, np.float32)
        return LabeledMoments(known, self._classes).build_map(_SETTINGS, known).compute_probabilities(rows)

    def _take(self, row: int, reason: Reason, labels: tuple[tuple[str, float], ...]) -> LabelSuggestion:
        self._is_taken[row] = True
        similarity = float(self._nearest[row])
        np.maximum(self._nearest, self._rows @ self._rows[row], out=self._nearest)
        record = self._records[row]
        return LabelSuggestion(
            record.image_id, record.path, reason, labels, similarity if np.isfinite(similarity) else float("nan")
        )


def _draw(positions: Positions, n_most: int, rng: np.random.Generator) -> Positions:
    if len(positions) <= n_most:
        return positions
    return np.sort(rng.choice(positions, n_most, replace=False))
