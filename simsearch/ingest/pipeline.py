"""Files to catalog, as a pipeline: reading and decoding, embedding, and writing overlap, each in its own threads.

files ─▶ read, hash, decode, augment (threads, a bounded number of files ahead, yielded in order)
      ─▶ batches ─▶ embed (as many at the same time as the engine has streams)
      ─▶ write (one thread, one transaction a batch, in order)
"""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from simsearch.images.views import Augmentation
from simsearch.ingest.embed import MAX_WAITING_BATCHES, EmbeddedBatch, EmbeddingContext, embed_batches
from simsearch.ingest.prepare import PreparationContext, PreparedFile, prepare_files
from simsearch.ingest.record import IngestStats, Recorder
from simsearch.ingest.timing import StageClock
from simsearch.models.embedder import Embedder
from simsearch.models.model import Model
from simsearch.sources.scan import FoundFile, Scan
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter

_LOOK_UP_BATCH_SIZE = 500
"""Files that are compared with the catalog by one query."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a run: files done, of all files, and images embedded."""

    n_done: int
    n_files: int
    n_embedded: int


@dataclass(frozen=True, slots=True)
class IngestJob:
    """What a run embeds with: the model, its row in the catalog, its views, how to load it, and the pixel limit.

    With `rehash` every file is read, also where size and modification time are unchanged.
    """

    model: Model
    model_id: int
    augmentation: Augmentation
    open_embedder: Callable[[], Embedder]
    max_pixels: int
    progress: Callable[[Progress], None] = lambda _: None
    rehash: bool = False


def run_pipeline(scan: Scan, reader: Catalog, writer: CatalogWriter, job: IngestJob) -> IngestStats:
    """Bring the catalog up to date with the files of a scan, batch by batch, and remove the files that are gone.

    `reader` and `writer` are two connections to the same catalog. The embedder is loaded when the first picture needs
    it. Pictures that cannot be read become skips. Files are recorded in the order of the scan, so that the same files
    get the same ids.
    """
    stats = IngestStats(skips=list(scan.skips))
    recorder = Recorder(writer, job.model_id, job.augmentation, stats)
    counter = ProgressCounter(job, stats, n_files=len(scan.files))
    lookup = CatalogLookup(reader, job)
    embedding = EmbeddingContext(job.open_embedder, lookup.has_all_views, stats.clock)
    preparation = PreparationContext(job.model, job.augmentation, lookup.find_missing_views, job.max_pixels)
    changed = select_changed(scan.files, lookup, counter)
    with (
        contextlib.closing(prepare_files(changed, preparation, stats.clock)) as prepared,
        _WriteQueue(recorder, embedding.in_progress, stats.clock) as queue,
        contextlib.closing(embed_batches(counter.count_each(prepared), embedding)) as batches,
    ):
        for batch in batches:
            queue.record(batch)
    recorder.finish(scan)
    counter.finish()
    return stats


class ProgressCounter:
    """Counts the files of a run, and reports each count to the job's progress callback."""

    def __init__(self, job: IngestJob, stats: IngestStats, *, n_files: int) -> None:
        self._report, self._stats = job.progress, stats
        self._n_files, self._n_done = n_files, 0

    def advance(self, n: int) -> None:
        """Count n more files that are done, or on their way to the catalog."""
        self._n_done += n
        self._report(Progress(self._n_done, self._n_files, self._stats.n_embedded))

    def add_reused(self, n: int) -> None:
        """Count n more files that need no work."""
        self._stats.n_reused += n
        self.advance(n)

    def count_each(self, prepared: Iterable[PreparedFile]) -> Iterator[PreparedFile]:
        """Yield the same files, each counted."""
        for file in prepared:
            self.advance(1)
            yield file

    def finish(self) -> None:
        """Report that all files are in the catalog."""
        self._report(Progress(self._n_files, self._n_files, self._stats.n_embedded))


class CatalogLookup:
    """Compares files with the catalog; several threads may call it, one at a time reads."""

    def __init__(self, catalog: Catalog, job: IngestJob) -> None:
        self._catalog, self._model_id, self._numbers = catalog, job.model_id, job.augmentation.numbers
        self._must_rehash = job.rehash
        self._lock = threading.Lock()

    def find_missing_views(self, digest: str) -> list[int]:
        """List the numbers of the views of an image that have no vector."""
        with self._lock:
            embedded = self._catalog.find_embedded_views(digest, self._model_id)
        return [number for number in self._numbers if number not in embedded]

    def has_all_views(self, digest: str) -> bool:
        """Whether every view of an image has a vector."""
        return not self.find_missing_views(digest)

    def find_unchanged(self, files: Sequence[FoundFile]) -> set[str]:
        """The paths of files that have not changed and whose images have all their vectors; none with `rehash`."""
        if self._must_rehash:
            return set()
        with self._lock:
            known = self._catalog.find_known_files([file.path for file in files], self._model_id)
        return {
            file.path
            for file in files
            if file.path in known
            and known[file.path].n_vectors >= len(self._numbers)
            and known[file.path].is_unchanged(file)
        }


def select_changed(files: Sequence[FoundFile], lookup: CatalogLookup, counter: ProgressCounter) -> Iterator[FoundFile]:
    """Yield the files that must be read, and count the others as reused."""
    for start in range(0, len(files), _LOOK_UP_BATCH_SIZE):
        some = files[start : start + _LOOK_UP_BATCH_SIZE]
        unchanged = lookup.find_unchanged(some)
        counter.add_reused(len(unchanged))
        yield from (file for file in some if file.path not in unchanged)


class _WriteQueue:
    """Records batches in a thread of its own, at most `MAX_WAITING_BATCHES` behind."""

    def __init__(self, recorder: Recorder, in_progress: set[str], clock: StageClock) -> None:
        self._recorder, self._in_progress, self._clock = recorder, in_progress, clock
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write")
        self._pending: collections.deque[tuple[EmbeddedBatch, Future[None]]] = collections.deque()

    def __enter__(self) -> _WriteQueue:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                self._wait_until_left(n_left=0)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def record(self, batch: EmbeddedBatch) -> None:
        """Queue a batch, and wait while too many are pending."""
        self._pending.append((batch, self._pool.submit(self._recorder.record, batch.files, batch.new_views)))
        self._wait_until_left(n_left=MAX_WAITING_BATCHES)

    def _wait_until_left(self, n_left: int) -> None:
        """Wait until at most `n_left` batches are pending. Raises what the writing thread raised."""
        while self._pending and (len(self._pending) > n_left or self._pending[0][1].done()):
            batch, written = self._pending.popleft()
            self._clock.wait_for(written, "wait_write")
            self._in_progress -= batch.new_views.keys()  # from now on the catalog has them
