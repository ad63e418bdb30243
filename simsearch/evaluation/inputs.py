"""What a benchmark works on: the pictures that are there, and a collection that holds their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simsearch.collection import Collection, ViewChoice
from simsearch.errors import ImageError, NoImages
from simsearch.evaluation.protocol import Item
from simsearch.evaluation.spec import Question, Watching
from simsearch.images.decode import decode, default_max_pixels, read
from simsearch.sources.scan import FoundFile, Scan, scan
from simsearch.store.catalog import Catalog

_GLANCE_PX = 64


@dataclass(frozen=True, slots=True)
class Found:
    """The files of the source, and those of them that claim to be pictures; the pictures of the folder of queries, by
    content; and what cannot be read: files out of reach, folders that cannot be listed, queries."""

    files: tuple[str, ...]
    claiming: frozenset[str]
    asked: tuple[Item, ...]
    unread: tuple[str, ...]

    @classmethod
    def of(cls, question: Question) -> Found:
        """Look for them.

        Raises `SourceError`.
        """
        found = _listed(question.source)
        claiming = frozenset(file.path for file in found.files if file.claims_picture)
        unread = [skip.path for skip in found.skips]
        asked: list[Item] = []
        if question.truths.queries is not None:
            queries = _listed(question.truths.queries)
            asked, broken = _read(queries.files, question.max_pixels or default_max_pixels())
            unread += [skip.path for skip in queries.skips] + broken
        return cls(tuple(file.path for file in found.files), claiming, tuple(asked), tuple(dict.fromkeys(unread)))


def _listed(source: str) -> Scan:
    found = scan([source], b"")
    if not found.files:
        raise NoImages(source, f"no images in {source}", "check the path")
    return found


def _read(files: Sequence[FoundFile], limit_px: int) -> tuple[list[Item], list[str]]:
    """The pictures among the files, by content, and those that claim to be some and cannot be read."""
    paths: dict[str, list[str]] = {}
    broken = []
    for file in files:
        try:
            raw = read(file.path, claims_picture=file.claims_picture, max_pixels=limit_px)
            decode(raw.data, raw.path, max_pixels=limit_px, target_px=_GLANCE_PX)
            paths.setdefault(raw.digest, []).append(file.path)
        except ImageError:
            if file.claims_picture:
                broken.append(file.path)
    return [Item(digest, tuple(found)) for digest, found in paths.items()], broken


def embed(question: Question, watching: Watching) -> tuple[list[str], list[str]]:
    """Bring the collection up to date; the fingerprint of each model once, and what a person should know.

    Augmented views are added to those that are there, and never taken away.
    """
    models: list[str] = []
    notes: list[str] = []
    most_views = max(question.view_counts)
    for choice in question.choices:
        watching.on_stage(f"embedding with {choice.backbone}")
        report = Collection.ingest(
            question.into, [question.source], choice, max_pixels=question.max_pixels, progress=watching.on_ingest
        )
        if _n_views(question.into, report.model) < most_views:
            Collection.ingest(
                question.into, [question.source], choice, augment=ViewChoice(most_views),
                max_pixels=question.max_pixels, progress=watching.on_ingest,
            )  # fmt: skip
        models.append(report.model)
        notes += report.notes
    return list(dict.fromkeys(models)), notes


def _n_views(folder: str, fingerprint: str) -> int:
    """How many augmented views of every image a model has in its collection."""
    with Catalog.open(Path(folder)) as catalog:
        stored = catalog.find_model(fingerprint)
    return 0 if stored is None else stored.augmentation.n_views
