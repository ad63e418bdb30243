"""Sources to catalog, as a pipeline: reading and decoding, embedding and writing overlap, each in its own threads.

files ─▶ read, digest, decode, augment (threads, a bounded number of files ahead, handed out in order)
      ─▶ batches ─▶ embed (as many at once as the engine has streams)
      ─▶ write (one thread, one transaction a batch, in order)
"""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from simsearch.images.views import Augmentation
from simsearch.ingest.embed import BATCH_SIZE, MAX_WAITING_BATCHES, EmbeddedBatch, EmbeddingContext, embed_batches
from simsearch.ingest.prepare import PreparationContext, PreparedFile, StageClock, decode_views, read_file
from simsearch.ingest.record import IngestStats, Recorder
from simsearch.models.embedder import Embedder
from simsearch.models.model import Model
from simsearch.sources.reader import ConcurrentReader
from simsearch.sources.scan import FoundFile, Scan
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter

_MAX_FILES_AHEAD = 3 * BATCH_SIZE
_LOOK_UP_BATCH_SIZE = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: files settled of all files, and images embedded."""

    n_done: int
    n_files: int
    n_embedded: int


@dataclass(frozen=True, slots=True)
class IngestJob:
    """What a run works for: the model and its row, its views, how to load it, and the limit on pictures."""

    model: Model
    model_id: int
    augmentation: Augmentation
    open_embedder: Callable[[], Embedder]
    max_pixels: int
    progress: Callable[[Progress], None] = lambda _: None


def run_pipeline(scan: Scan, reader: Catalog, writer: CatalogWriter, job: IngestJob) -> IngestStats:
    """Bring the catalog up to date with the files of a scan, batch by batch, and remove the files that are gone.

    `reader` and `writer` are two connections to the same catalog. The embedder is loaded when the first picture needs
    it. Pictures that cannot be read become skips. Files are recorded in the order of the scan, so that the same files
    get the same ids.
    """
    tally = IngestStats(skips=list(scan.skips))
    recorder = Recorder(writer, job.model_id, job.augmentation, tally)
    count = ProgressCounter(job, tally, n_files=len(scan.files))
    lookup = CatalogLookup(reader, job)
    embedding = EmbeddingContext(job.open_embedder, lookup.has_all_views, tally.clock)
    preparation = PreparationContext(job.model, job.augmentation, lookup.find_missing_views, job.max_pixels)
    changed = select_changed(scan.files, lookup, count)
    with (
        contextlib.closing(prepare_files(changed, preparation, tally.clock)) as prepared,
        _WriteQueue(recorder, embedding.in_progress, tally.clock) as queue,
        contextlib.closing(embed_batches(count.count_each(prepared), embedding)) as batches,
    ):
        for batch in batches:
            queue.record(batch)
    recorder.finish(scan)
    count.finish()
    return tally


class ProgressCounter:
    """Tells how far a run is."""

    def __init__(self, job: IngestJob, tally: IngestStats, *, n_files: int) -> None:
        self._report, self._tally = job.progress, tally
        self._n_files, self._n_done = n_files, 0

    def advance(self, n: int) -> None:
        """So many files more are settled, or on their way to the catalog."""
        self._n_done += n
        self._report(Progress(self._n_done, self._n_files, self._tally.n_embedded))

    def add_reused(self, n: int) -> None:
        """So many files more need nothing."""
        self._tally.n_reused += n
        self.advance(n)

    def count_each(self, prepared: Iterable[PreparedFile]) -> Iterator[PreparedFile]:
        """The same, counted one by one."""
        for one in prepared:
            self.advance(1)
            yield one

    def finish(self) -> None:
        """All of it is in the catalog."""
        self._report(Progress(self._n_files, self._n_files, self._tally.n_embedded))


class CatalogLookup:
    """A reader that several threads ask in turn."""

    def __init__(self, catalog: Catalog, job: IngestJob) -> None:
        self._catalog, self._model_id, self._numbers = catalog, job.model_id, job.augmentation.numbers
        self._lock = threading.Lock()

    def find_missing_views(self, digest: str) -> list[int]:
        """The numbers of the views that the image of that content has no vector of."""
        with self._lock:
            embedded = self._catalog.find_embedded_views(digest, self._model_id)
        return [number for number in self._numbers if number not in embedded]

    def has_all_views(self, digest: str) -> bool:
        """Whether the image of that content has a vector of every view."""
        return not self.find_missing_views(digest)

    def find_unchanged(self, files: Sequence[FoundFile]) -> set[str]:
        """The paths that are what they were and have their vectors."""
        with self._lock:
            known = self._catalog.find_known_files([file.path for file in files], self._model_id)
        return {
            file.path
            for file in files
            if file.path in known
            and known[file.path].n_vectors >= len(self._numbers)
            and known[file.path].is_unchanged(file)
        }


def select_changed(files: Sequence[FoundFile], lookup: CatalogLookup, count: ProgressCounter) -> Iterator[FoundFile]:
    """Those files that must be looked into; the others are counted."""
    for start in range(0, len(files), _LOOK_UP_BATCH_SIZE):
        some = files[start : start + _LOOK_UP_BATCH_SIZE]
        unchanged = lookup.find_unchanged(some)
        count.add_reused(len(unchanged))
        yield from (file for file in some if file.path not in unchanged)


def prepare_files(
    files: Iterable[FoundFile], preparation: PreparationContext, clock: StageClock, n_threads: int | None = None
) -> Generator[PreparedFile, None, None]:
    """Each file read and decoded, in the order given, in threads that run a bounded number of files ahead.

    `n_threads` decode, as many as there are processors where it is None.
    """
    waiting: collections.deque[Future[PreparedFile]] = collections.deque()
    work = partial(decode_views, preparation=preparation, clock=clock)
    with ConcurrentReader(n_threads) as reading:
        for file in files:
            waiting.append(reading.submit(file, partial(read_file, file, preparation, clock), work))
            if len(waiting) >= _MAX_FILES_AHEAD:
                yield _wait_for_result(waiting.popleft(), clock, "wait_decode")
        while waiting:
            yield _wait_for_result(waiting.popleft(), clock, "wait_decode")


def _wait_for_result(future: Future[Any], clock: StageClock, stage: str) -> Any:
    with clock.measure(stage):
        return future.result()


class _WriteQueue:
    """Records batches in a thread of its own, a bounded number of batches behind."""

    def __init__(self, recorder: Recorder, under_way: set[str], clock: StageClock) -> None:
        self._recorder, self._in_progress, self._clock = recorder, under_way, clock
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
        """Take a batch, and wait while too many are ahead of it."""
        self._pending.append((batch, self._pool.submit(self._recorder.record, batch.files, batch.new_views)))
        self._wait_until_left(n_left=MAX_WAITING_BATCHES)

    def _wait_until_left(self, n_left: int) -> None:
        """Wait until no more than so many are left; what failed in the thread is raised here."""
        while self._pending and (len(self._pending) > n_left or self._pending[0][1].done()):
            batch, written = self._pending.popleft()
            _wait_for_result(written, self._clock, "wait_write")
            self._in_progress -= batch.new_views.keys()  # from here on the catalog knows them
