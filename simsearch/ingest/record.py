"""Embedded files to the catalog. Every run writes through this module, whether it embedded here or on a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from simsearch.errors import ImageError, NotAPicture, UnreadableFile
from simsearch.images.views import Augmentation
from simsearch.ingest.embed import NewViews
from simsearch.ingest.prepare import PreparedFile, add_hashes
from simsearch.ingest.timing import StageClock
from simsearch.models.embedder import MIN_VECTOR_NORM
from simsearch.sources.scan import FoundFile, Scan, Skip
from simsearch.store.catalog import EmbeddedView, FileEntry
from simsearch.store.writer import CatalogWriter

_ZERO_VECTOR_REASON = "the backbone returned an all-zero feature vector for this image; try another backbone"


@dataclass(slots=True)
class IngestStats:
    """Counts, skips and times of a run, filled while it goes on."""

    n_embedded: int = 0
    n_reused: int = 0
    n_gone: int = 0
    skips: list[Skip] = field(default_factory=list)
    clock: StageClock = field(default_factory=StageClock)
    notes: list[str] = field(default_factory=list)


class Recorder:
    """Writes the files of a run in the order of the scan, so that the same files get the same ids.

    One thread at a time may use it.
    """

    def __init__(self, writer: CatalogWriter, model_id: int, augmentation: Augmentation, stats: IngestStats) -> None:
        self._writer, self._model_id, self._augmentation, self._stats = writer, model_id, augmentation, stats
        self._zero_vector_digests: set[str] = set()

    def record(self, files: Sequence[PreparedFile], new: Mapping[str, NewViews]) -> None:
        """Write files in one transaction, the new views of an image with its first file. Failures become skips."""
        with self._stats.clock.measure("write"):
            views, files = self._build_views(new), add_hashes(files)
            entries: list[FileEntry] = []
            forgotten: list[str] = []
            for file in files:
                if file.failure is not None:
                    forgotten += self._record_failure(file.file, file.failure)
                elif file.digest in self._zero_vector_digests:
                    self._stats.skips.append(Skip(file.file.path, _ZERO_VECTOR_REASON))
                else:
                    entries.append(FileEntry(file.file, file.digest, file.properties, views.pop(file.digest, ())))
            with self._writer.transaction():
                self._writer.record_files(entries, self._model_id)
                self._writer.forget_files(forgotten)
        n_new = sum(bool(entry.views) for entry in entries)
        self._stats.n_embedded += n_new
        self._stats.n_reused += len(entries) - n_new

    def finish(self, scan: Scan) -> None:
        """Remove the files that the scan shows to be gone, and store the skips."""
        writer, stats = self._writer, self._stats
        found = {file.path for file in scan.files}
        unread = writer.list_unread_paths()  # their pictures need not be there
        gone = [path for path in writer.iterate_paths() if path not in found and scan.is_gone(path)]
        gone = [path for path in gone if path not in unread]
        stats.skips.sort(key=lambda skip: skip.path)
        with writer.transaction():
            stats.n_gone = writer.forget_files(gone)
            writer.forget_skips(lambda path: scan.is_gone(path) or path in found)
            writer.record_skips(stats.skips)

    def _record_failure(self, file: FoundFile, failure: ImageError) -> list[str]:
        """Add a skip, and return the path where the catalog's entry of the file is no longer true.

        A file that is no picture and does not have the extension of one, such as a text or a film, is no skip.
        """
        if not isinstance(failure, NotAPicture) or file.has_picture_extension:
            self._stats.skips.append(Skip(file.path, failure.reason))
        return [] if isinstance(failure, UnreadableFile) else [file.path]

    def _build_views(self, new: Mapping[str, NewViews]) -> dict[str, Sequence[EmbeddedView]]:
        """The rows of new views by digest. An image with a zero vector among its views is left out and remembered."""
        views: dict[str, Sequence[EmbeddedView]] = {}
        for digest, image_views in new.items():
            if not (np.linalg.norm(image_views.vectors, axis=1) > MIN_VECTOR_NORM).all():
                self._zero_vector_digests.add(digest)
                continue
            described = [self._augmentation.describe_view(digest, number) for number in image_views.numbers]
            rows = zip(described, image_views.vectors, strict=True)
            views[digest] = [EmbeddedView(kind, parameters, row) for (kind, parameters), row in rows]
        return views
