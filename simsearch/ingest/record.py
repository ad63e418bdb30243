"""What came of files, into the catalog: the one path that every run takes, wherever it embedded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, NotAPicture, UnreadableFile
from simsearch.images.views import Augmentation
from simsearch.ingest.prepare import PreparedFile, StageClock
from simsearch.sources.scan import FoundFile, Scan, Skip
from simsearch.store.catalog import EmbeddedView, FileEntry
from simsearch.store.writer import CatalogWriter

MIN_VECTOR_NORM = 0.99
"""Below this length a row has no direction: the network answered with zeros, or with no numbers."""

_ZERO_VECTOR_REASON = "the backbone sees nothing in it (no direction in its features); try another backbone"


@dataclass(frozen=True, slots=True)
class NewViews:
    """The vectors (n, d) of those views of one content that are numbered `numbers` (n)."""

    numbers: Sequence[int]
    vectors: NDArray[np.float32]


@dataclass(slots=True)
class IngestStats:
    """What a run did."""

    n_embedded: int = 0
    n_reused: int = 0
    n_gone: int = 0
    skips: list[Skip] = field(default_factory=list)
    clock: StageClock = field(default_factory=StageClock)
    notes: list[str] = field(default_factory=list)


class Recorder:
    """Writes files of a run in the order of the scan, so that the same files get the same ids. Of one thread."""

    def __init__(self, writer: CatalogWriter, model_id: int, augmentation: Augmentation, tally: IngestStats) -> None:
        self._writer, self._model_id, self._augmentation, self._tally = writer, model_id, augmentation, tally
        self._zero_vector_digests: set[str] = set()

    def record(self, files: Sequence[PreparedFile], new: Mapping[str, NewViews]) -> None:
        """Write files, in one transaction, each content with its new views the first time. Failures become skips."""
        with self._tally.clock.measure("write"):
            views = self._build_views(new)
            entries: list[FileEntry] = []
            forgotten: list[str] = []
            for file in files:
                if file.failure is not None:
                    forgotten += self._record_failure(file.file, file.failure)
                elif file.digest in self._zero_vector_digests:
                    self._tally.skips.append(Skip(file.file.path, _ZERO_VECTOR_REASON))
                else:
                    entries.append(FileEntry(file.file, file.digest, file.facts, views.pop(file.digest, ())))
            with self._writer.transaction():
                self._writer.record_files(entries, self._model_id)
                self._writer.forget_files(forgotten)
        n_new = sum(bool(entry.views) for entry in entries)
        self._tally.n_embedded += n_new
        self._tally.n_reused += len(entries) - n_new

    def finish(self, scan: Scan) -> None:
        """Take out what the scan shows to be gone, and remember the skips."""
        writer, tally = self._writer, self._tally
        found = {file.path for file in scan.files}
        gone = [path for path in writer.iterate_paths() if path not in found and scan.is_gone(path)]
        tally.skips.sort(key=lambda skip: skip.path)
        with writer.transaction():
            tally.n_gone = writer.forget_files(gone)
            writer.forget_skips(lambda path: scan.is_gone(path) or path in found)
            writer.record_skips(tally.skips)

    def _record_failure(self, file: FoundFile, failure: ImageError) -> list[str]:
        """Note a skip; the path, where what the catalog knew of it is there no more."""
        if not isinstance(failure, NotAPicture) or file.has_picture_extension:
            # else a text, a film: nobody said that it was a picture
            self._tally.skips.append(Skip(file.path, failure.reason))
        return [] if isinstance(failure, UnreadableFile) else [file.path]

    def _build_views(self, new: Mapping[str, NewViews]) -> dict[str, Sequence[EmbeddedView]]:
        """The new views of each content; one of which any has no direction is noted as sightless."""
        views: dict[str, Sequence[EmbeddedView]] = {}
        for digest, of_content in new.items():
            if not (np.linalg.norm(of_content.vectors, axis=1) > MIN_VECTOR_NORM).all():
                self._zero_vector_digests.add(digest)
                continue
            described = [self._augmentation.describe_view(digest, number) for number in of_content.numbers]
            rows = zip(described, of_content.vectors, strict=True)
            views[digest] = [EmbeddedView(*names, row) for names, row in rows]
        return views
