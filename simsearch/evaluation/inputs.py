"""What a benchmark works on: the pictures that are there, and a collection that holds their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simsearch.collection import Collection
from simsearch.errors import ImageError, NoImages
from simsearch.evaluation.protocol import TaskImage
from simsearch.evaluation.spec import BenchmarkCallbacks, BenchmarkSpec
from simsearch.images.decode import compute_default_max_pixels, decode_image, read_raw_file
from simsearch.images.views import ViewChoice
from simsearch.sources.scan import FoundFile, Scan, scan_sources

_CHECK_SIDE_PX = 64


@dataclass(frozen=True, slots=True)
class BenchmarkInputs:
    """The files of the source, and those of them that claim to be pictures; the pictures of the folder of queries, by
    content; and what cannot be read: files out of reach, folders that cannot be listed, queries."""

    files: tuple[str, ...]
    claimed_images: frozenset[str]
    queries: tuple[TaskImage, ...]
    unreadable: tuple[str, ...]

    @classmethod
    def collect(cls, question: BenchmarkSpec) -> BenchmarkInputs:
        """Look for them.

        Raises `SourceError`.
        """
        found = _scan_source(question.source)
        claiming = frozenset(file.path for file in found.files if file.has_picture_extension)
        unread = [skip.path for skip in found.skips]
        asked: list[TaskImage] = []
        if question.label_source.queries is not None:
            queries = _scan_source(question.label_source.queries)
            asked, broken = _group_by_content(queries.files, question.max_pixels or compute_default_max_pixels())
            unread += [skip.path for skip in queries.skips] + broken
        return cls(tuple(file.path for file in found.files), claiming, tuple(asked), tuple(dict.fromkeys(unread)))


def _scan_source(source: str) -> Scan:
    found = scan_sources([source], b"")
    if not found.files:
        raise NoImages(source, f"no images in {source}", "check the path")
    return found


def _group_by_content(files: Sequence[FoundFile], limit_px: int) -> tuple[list[TaskImage], list[str]]:
    """The pictures among the files, by content, and those that claim to be some and cannot be read."""
    paths: dict[str, list[str]] = {}
    broken = []
    for file in files:
        try:
            raw = read_raw_file(file.path, has_picture_extension=file.has_picture_extension, max_pixels=limit_px)
            decode_image(raw.data, raw.path, max_pixels=limit_px, target_px=_CHECK_SIDE_PX)
            paths.setdefault(raw.digest, []).append(file.path)
        except ImageError:
            if file.has_picture_extension:
                broken.append(file.path)
    return [TaskImage(digest, tuple(found)) for digest, found in paths.items()], broken


def update_collection(question: BenchmarkSpec, watching: BenchmarkCallbacks) -> tuple[list[str], list[str]]:
    """Bring the collection up to date; the fingerprint of each model once, and what a person should know.

    Augmented views are added to those that are there, and never taken away.
    """
    models: list[str] = []
    notes: list[str] = []
    most_views = max(question.view_counts)
    for choice in question.choices:
        watching.on_stage(f"embedding with {choice.backbone}")
        with Collection.open(question.collection_folder, create=True) as collection:
            report = collection.ingest(
                [question.source], choice, max_pixels=question.max_pixels, progress=watching.on_ingest
            )
            stored = collection.catalog.find_model(report.model)
            if stored is None or stored.augmentation.n_views < most_views:
                collection.ingest(
                    [question.source], choice, augment=ViewChoice(most_views),
                    max_pixels=question.max_pixels, progress=watching.on_ingest,
                )  # fmt: skip
        models.append(report.model)
        notes += report.notes
    return list(dict.fromkeys(models)), notes
