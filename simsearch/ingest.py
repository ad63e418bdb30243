"""Sources to catalog, as a pipeline: reading and decoding, embedding and writing overlap, each in its own threads.

files ─▶ read, digest, decode, augment (threads, a bounded number of files ahead, handed out in order)
      ─▶ batches ─▶ embed (as many at once as the engine has streams)
      ─▶ write (one thread, one transaction a batch, in order)
"""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, NotAPicture, Unreadable
from simsearch.images.sources import FoundFile, Scan, Skip
from simsearch.images.views import Augmentation
from simsearch.models.embedder import Embedder
from simsearch.models.model import Model
from simsearch.prepare import NO_PIXELS, Preparation, Prepared, StageClock, prepare
from simsearch.store.catalog import Catalog, EmbeddedView, Entry
from simsearch.store.writer import CatalogWriter

BATCH_SIZE = 32
"""Views embedded at once; a batch is also what one transaction keeps and what a killed run may lose."""

SHORTEST_UNIT = 0.99
"""Below this length a row has no direction: the network answered with zeros, or with no numbers."""

_ENTRIES_PER_COMMIT = 512
_LOOK_AHEAD = 3 * BATCH_SIZE
_BATCHES_WAITING = 2
_KNOWN_AT_ONCE = 500
_SIGHTLESS = "the backbone sees nothing in it (no direction in its features); try another backbone"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: files settled of all files, and images embedded."""

    n_done: int
    n_files: int
    n_embedded: int


@dataclass(frozen=True, slots=True)
class Job:
    """What a run works for: the model and its row, its views, how to load it, and the limit on pictures."""

    model: Model
    model_id: int
    augmentation: Augmentation
    open_embedder: Callable[[], Embedder]
    max_pixels: int
    progress: Callable[[Progress], None] = lambda _: None


@dataclass(slots=True)
class Tally:
    """What a run did."""

    n_embedded: int = 0
    n_reused: int = 0
    n_gone: int = 0
    skips: list[Skip] = field(default_factory=list)
    clock: StageClock = field(default_factory=StageClock)


def ingest(scan: Scan, writer: CatalogWriter, job: Job) -> Tally:
    """Bring the catalog up to date with what was found, batch by batch, and take out what is gone.

    The embedder is opened when the first picture needs it. Broken pictures become skips. Entries are written in
    the order of the scan, so that the same files get the same ids.
    """
    tally = Tally(skips=list(scan.skips))
    with Catalog.open(writer.folder) as reader:
        lookup = _Lookup(reader, job)
        with _Batches(writer, lookup, job, tally, n_files=len(scan.files)) as batches:
            changed = _changed(scan.files, lookup, on_unchanged=batches.skip_unchanged)
            for prepared in _prepare_all(changed, lookup, job, tally.clock):
                batches.add(prepared)
    _finish(scan, writer, tally)
    job.progress(Progress(len(scan.files), len(scan.files), tally.n_embedded))
    return tally


class _Lookup:
    """A reader that several threads ask in turn."""

    def __init__(self, catalog: Catalog, job: Job) -> None:
        self._catalog, self._model_id, self._numbers = catalog, job.model_id, job.augmentation.numbers
        self._lock = threading.Lock()

    def missing_views(self, digest: str) -> list[int]:
        """The numbers of the views that the image of that content has no vector of."""
        with self._lock:
            embedded = self._catalog.embedded_views(digest, self._model_id)
        return [number for number in self._numbers if number not in embedded]

    def unchanged(self, files: Sequence[FoundFile]) -> set[str]:
        """The paths that are what they were and have their vectors."""
        with self._lock:
            known = self._catalog.known_files([file.path for file in files], self._model_id)
        return {
            file.path
            for file in files
            if file.path in known
            and known[file.path].n_vectors >= len(self._numbers)
            and known[file.path].is_unchanged(file)
        }


def _changed(
    files: Sequence[FoundFile], lookup: _Lookup, *, on_unchanged: Callable[[int], None]
) -> Iterator[FoundFile]:
    """Those files that must be looked into; of the others only how many there are is told."""
    for start in range(0, len(files), _KNOWN_AT_ONCE):
        some = files[start : start + _KNOWN_AT_ONCE]
        unchanged = lookup.unchanged(some)
        on_unchanged(len(unchanged))
        yield from (file for file in some if file.path not in unchanged)


def _prepare_all(files: Iterable[FoundFile], lookup: _Lookup, job: Job, clock: StageClock) -> Iterator[Prepared]:
    """Each file read and decoded, in the order given, in threads that run a bounded number of files ahead."""
    preparation = Preparation(job.model, job.augmentation, lookup.missing_views, job.max_pixels)
    waiting: collections.deque[Future[Prepared]] = collections.deque()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="decode") as pool:
        try:
            for file in files:
                waiting.append(pool.submit(prepare, file, preparation, clock))
                if len(waiting) >= _LOOK_AHEAD:
                    yield _result(waiting.popleft(), clock, "wait_decode")
            while waiting:
                yield _result(waiting.popleft(), clock, "wait_decode")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _result(future: Future[Any], clock: StageClock, stage: str) -> Any:
    with clock.on(stage):
        return future.result()


@dataclass(slots=True)
class _Batch:
    """Files that are committed together, those of them with new views by content, and paths without a picture."""

    files: list[Prepared] = field(default_factory=list)
    new: dict[str, Prepared] = field(default_factory=dict)
    n_views: int = 0
    forgotten: list[str] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        n_rows = len(self.files) + len(self.forgotten)
        return self.n_views >= BATCH_SIZE or n_rows >= _ENTRIES_PER_COMMIT


class _Batches:
    """Collects files into batches, and has them embedded and written, a bounded number of batches behind."""

    def __init__(self, writer: CatalogWriter, lookup: _Lookup, job: Job, tally: Tally, *, n_files: int) -> None:
        self._writer, self._lookup, self._job, self._tally = writer, lookup, job, tally
        self._n_files, self._n_done = n_files, 0
        self._open = _Batch()
        self._embedder: Embedder | None = None
        self._engine: ThreadPoolExecutor | None = None
        self._pen = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write")
        self._embedding: collections.deque[tuple[_Batch, Future[NDArray[np.float32]]]] = collections.deque()
        self._writing: collections.deque[tuple[_Batch, Future[None]]] = collections.deque()
        self._under_way: set[str] = set()
        self._sightless: set[str] = set()

    def __enter__(self) -> _Batches:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                self._send()
                self._settle(n_left=0)
        finally:
            for pool in (self._engine, self._pen):
                if pool is not None:
                    pool.shutdown(cancel_futures=True)

    def skip_unchanged(self, n: int) -> None:
        """Count files that need nothing."""
        self._tally.n_reused += n
        self._advance(n)

    def add(self, prepared: Prepared) -> None:
        """Take a file in; a full batch goes on its way."""
        self._advance(1)
        if prepared.failure is not None:
            self._add_failure(prepared, prepared.failure)
            return
        if len(prepared.pixels) and self._is_known(prepared.digest):
            prepared = replace(prepared, pixels=NO_PIXELS)  # a copy of it went on its way after this one was decoded
        self._open.files.append(prepared)
        if len(prepared.pixels):
            self._open.new[prepared.digest] = prepared
            self._open.n_views += len(prepared.pixels)
            self._under_way.add(prepared.digest)
        if self._open.is_full:
            self._send()

    def _is_known(self, digest: str) -> bool:
        return digest in self._under_way or not self._lookup.missing_views(digest)

    def _add_failure(self, prepared: Prepared, failure: ImageError) -> None:
        if not isinstance(failure, NotAPicture) or prepared.file.claims_picture:
            # else a text, a film: nobody said that it was a picture
            self._tally.skips.append(Skip(prepared.file.path, failure.reason))
        if not isinstance(failure, Unreadable):  # what the catalog knew of this path is there no more
            self._open.forgotten.append(prepared.file.path)
            if self._open.is_full:
                self._send()

    def _send(self) -> None:
        """Give the open batch to the engine, and wait while too many are ahead of it."""
        batch, self._open = self._open, _Batch()
        if not (batch.files or batch.forgotten):
            return
        future: Future[NDArray[np.float32]] = Future()
        if batch.new:
            future = self._engine_for_pixels().submit(self._embed, batch)
        else:
            future.set_result(np.empty((0, 0), np.float32))
        self._embedding.append((batch, future))
        n_parallel = self._embedder.n_parallel if self._embedder else 1
        self._settle(n_left=n_parallel + _BATCHES_WAITING)

    def _engine_for_pixels(self) -> ThreadPoolExecutor:
        """Threads for as many batches at once as the embedder takes; both come with the first picture to embed."""
        if self._engine is None:
            self._embedder = self._job.open_embedder()
            self._engine = ThreadPoolExecutor(max_workers=self._embedder.n_parallel, thread_name_prefix="embed")
        return self._engine

    def _settle(self, n_left: int) -> None:
        """Hand embedded batches to the writer, until so many are left; what failed in a thread is raised here."""
        while self._embedding and (len(self._embedding) > n_left or self._embedding[0][1].done()):
            batch, future = self._embedding.popleft()
            rows = _result(future, self._tally.clock, "wait_embed")
            self._writing.append((batch, self._pen.submit(self._write, batch, rows)))
        while self._writing and (len(self._writing) > n_left or self._writing[0][1].done()):
            batch, written = self._writing.popleft()
            _result(written, self._tally.clock, "wait_write")
            self._under_way -= batch.new.keys()  # from here on the catalog knows them

    def _embed(self, batch: _Batch) -> NDArray[np.float32]:
        """The vectors (n, d) of the batch's new views, in their order."""
        assert self._embedder is not None  # it came with the engine
        with self._tally.clock.on("embed"):
            return self._embedder.embed(np.concatenate([new.pixels for new in batch.new.values()]))

    def _write(self, batch: _Batch, rows: NDArray[np.float32]) -> None:
        with self._tally.clock.on("write"):
            views = self._embedded_views(batch, rows)
            entries = []
            for prepared in batch.files:
                if prepared.digest in self._sightless:
                    self._tally.skips.append(Skip(prepared.file.path, _SIGHTLESS))
                    continue
                new = views.pop(prepared.digest, ())  # the first of equal contents takes them
                entries.append(Entry(prepared.file, prepared.digest, prepared.facts, new))
            with self._writer.transaction():
                self._writer.record(entries, self._job.model_id)
                self._writer.forget_files(batch.forgotten)
            n_new = sum(bool(entry.views) for entry in entries)
            self._tally.n_embedded += n_new
            self._tally.n_reused += len(entries) - n_new

    def _embedded_views(self, batch: _Batch, rows: NDArray[np.float32]) -> dict[str, Sequence[EmbeddedView]]:
        """The new views of each content; one of which any has no direction is noted as sightless."""
        views: dict[str, Sequence[EmbeddedView]] = {}
        start = 0
        for digest, new in batch.new.items():
            vectors = rows[start : start + len(new.numbers)]
            start += len(new.numbers)
            if not (np.linalg.norm(vectors, axis=1) > SHORTEST_UNIT).all():
                self._sightless.add(digest)
                continue
            described = [self._job.augmentation.description(digest, number) for number in new.numbers]
            views[digest] = [EmbeddedView(*names, row) for names, row in zip(described, vectors, strict=True)]
        return views

    def _advance(self, n: int) -> None:
        self._n_done += n
        self._job.progress(Progress(self._n_done, self._n_files, self._tally.n_embedded))


def _finish(scan: Scan, writer: CatalogWriter, tally: Tally) -> None:
    """Take out what the scan shows to be gone, and remember the skips."""
    found = {file.path for file in scan.files}
    gone = [path for path in writer.paths() if path not in found and scan.missed(path)]
    tally.skips.sort(key=lambda skip: skip.path)
    with writer.transaction():
        tally.n_gone = writer.forget_files(gone)
        writer.forget_skips(lambda path: scan.missed(path) or path in found)
        writer.record_skips(tally.skips)
