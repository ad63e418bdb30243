"""Sources to catalog: what is new is read, decoded and embedded, ahead of each other, and committed in batches."""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, NotAPicture, Unreadable
from simsearch.images.decode import Pixels, decode, decode_target_px, fit, read
from simsearch.images.sources import FoundFile, Scan, Skip
from simsearch.models.embedder import Embedder
from simsearch.models.model import Model
from simsearch.store.catalog import Catalog, Entry, ImageFacts
from simsearch.store.writer import CatalogWriter

BATCH_SIZE = 32
"""Pictures embedded at once; a batch is also what one transaction keeps and what a killed run may lose."""

_ENTRIES_PER_COMMIT = 512
_LOOK_AHEAD = 3 * BATCH_SIZE
_KNOWN_AT_ONCE = 500
SHORTEST_UNIT = 0.99
"""Below this length a row has no direction: the network answered with zeros, or with no numbers."""


@dataclass(slots=True)
class Progress:
    """How far a run is: files of all files, and those embedded."""

    n_done: int
    n_files: int
    n_embedded: int


@dataclass(slots=True)
class Tally:
    """What a run did. `stages` are busy seconds of each stage, summed over its threads."""

    n_files: int = 0
    n_embedded: int = 0
    n_reused: int = 0
    n_gone: int = 0
    skips: list[Skip] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "decode": 0.0, "embed": 0.0, "write": 0.0})


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A file, read. Without pixels it needs no embedding; with a failure it cannot have any."""

    file: FoundFile
    digest: str = ""
    facts: ImageFacts | None = None
    pixels: Pixels | None = None
    failure: ImageError | None = None


class _Preparer:
    """Reads and decodes in threads, a bounded number of files ahead, and hands them out in order."""

    def __init__(self, catalog: Catalog, model: Model, model_id: int, max_pixels: int, tally: Tally) -> None:
        self._catalog, self._model, self._model_id = catalog, model, model_id
        self._max_pixels, self._tally = max_pixels, tally
        self._catalog_lock, self._tally_lock = threading.Lock(), threading.Lock()

    def prepare_all(self, files: Iterable[FoundFile]) -> Iterator[_Prepared]:
        """Each file prepared, in the order given."""
        waiting: collections.deque[Future[_Prepared]] = collections.deque()
        pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="decode")
        try:
            for file in files:
                waiting.append(pool.submit(self._prepare, file))
                if len(waiting) >= _LOOK_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(self, file: FoundFile) -> _Prepared:
        started = time.perf_counter()
        try:
            raw = read(file.path, claims_picture=file.claims_picture, max_pixels=self._max_pixels)
        except ImageError as failure:
            return _Prepared(file, failure=failure)
        finally:
            started = self._clock("read", started)
        as_read = FoundFile(file.path, raw.size_bytes, raw.mtime_ns)
        with self._catalog_lock:
            if self._catalog.is_embedded(raw.digest, self._model_id):
                return _Prepared(as_read, raw.digest)
        started = time.perf_counter()
        try:
            side, resize = self._model.side_px, self._model.resize
            target_px = decode_target_px(side, resize)
            picture = decode(raw.data, file.path, max_pixels=self._max_pixels, target_px=target_px)
            facts = ImageFacts(picture.width, picture.height, picture.format)
            return _Prepared(as_read, raw.digest, facts, fit(picture, side, resize))
        except ImageError as failure:
            return _Prepared(as_read, failure=failure)
        finally:
            self._clock("decode", started)

    def _clock(self, stage: str, started: float) -> float:
        now = time.perf_counter()
        with self._tally_lock:
            self._tally.stages[stage] += now - started
        return now


def ingest(
    scan: Scan,
    writer: CatalogWriter,
    model_id: int,
    model: Model,
    open_embedder: Callable[[], Embedder],
    *,
    max_pixels: int,
    progress: Callable[[Progress], None],
) -> Tally:
    """Bring the catalog up to date with what was found, batch by batch, and take out what is gone.

    The embedder is opened when the first picture needs it. Broken pictures become skips.
    """
    tally = Tally(skips=list(scan.skips))
    with Catalog.open(writer.folder) as reader:
        preparer = _Preparer(reader, model, model_id, max_pixels, tally)
        batch = _Batch(writer, model_id, open_embedder, tally)
        n_settled = 0

        def settle(prepared: _Prepared | None) -> None:
            nonlocal n_settled
            n_settled += 1
            if prepared is not None:
                batch.add(prepared)
            progress(Progress(n_settled, len(scan.files), tally.n_embedded))

        changed = _changed(scan.files, reader, model_id, unchanged=lambda: _count_reused(tally, settle))
        for prepared in preparer.prepare_all(changed):
            settle(prepared)
        batch.flush()
    progress(Progress(len(scan.files), len(scan.files), tally.n_embedded))
    _finish(scan, writer, tally)
    return tally


def _count_reused(tally: Tally, settle: Callable[[None], None]) -> None:
    tally.n_files += 1
    tally.n_reused += 1
    settle(None)


def _changed(
    files: Sequence[FoundFile], catalog: Catalog, model_id: int, *, unchanged: Callable[[], None]
) -> Iterator[FoundFile]:
    """Those files that must be looked into; `unchanged` is called for each of the others."""
    for start in range(0, len(files), _KNOWN_AT_ONCE):
        some = files[start : start + _KNOWN_AT_ONCE]
        known = catalog.known_files([file.path for file in some], model_id)
        for file in some:
            before = known.get(file.path)
            if before is not None and before.is_embedded and before.is_unchanged(file):
                unchanged()
            else:
                yield file


class _Batch:
    """Collects prepared files, embeds the new pictures among them, and commits all of them together."""

    def __init__(
        self, writer: CatalogWriter, model_id: int, open_embedder: Callable[[], Embedder], tally: Tally
    ) -> None:
        self._writer, self._model_id, self._tally = writer, model_id, tally
        self._open_embedder = open_embedder
        self._embedder: Embedder | None = None
        self._files: list[_Prepared] = []
        self._pixels: dict[str, Pixels] = {}

    def add(self, prepared: _Prepared) -> None:
        """Take a file in; a full batch is committed."""
        if prepared.failure is not None:
            self._add_failure(prepared, prepared.failure)
            return
        if prepared.pixels is not None and self._writer.is_embedded(prepared.digest, self._model_id):
            prepared = replace(prepared, pixels=None)  # a copy of it was committed after this one was decoded
        self._files.append(prepared)
        if prepared.pixels is not None:
            self._pixels.setdefault(prepared.digest, prepared.pixels)
        if len(self._pixels) >= BATCH_SIZE or len(self._files) >= _ENTRIES_PER_COMMIT:
            self.flush()

    def flush(self) -> None:
        """Embed and commit what is waiting."""
        if not self._files:
            return
        vectors = self._embed()
        started = time.perf_counter()
        entries, has_new = [], dict.fromkeys(vectors, True)
        for prepared in self._files:
            vector = vectors.get(prepared.digest)
            if prepared.pixels is not None and vector is None:
                reason = "the backbone sees nothing in it (no direction in its features); try another backbone"
                self._tally.skips.append(Skip(prepared.file.path, reason))
                continue
            is_first = has_new.pop(prepared.digest, False)
            self._tally.n_embedded += is_first
            self._tally.n_reused += not is_first
            entries.append(Entry(prepared.file, prepared.digest, prepared.facts, vector if is_first else None))
        with self._writer.transaction():
            self._writer.record(entries, self._model_id)
        self._tally.n_files += len(entries)
        self._tally.stages["write"] += time.perf_counter() - started
        self._files, self._pixels = [], {}

    def _embed(self) -> dict[str, NDArray[np.float32]]:
        """Vectors by digest, of the pictures that have one."""
        if not self._pixels:
            return {}
        if self._embedder is None:
            self._embedder = self._open_embedder()
        started = time.perf_counter()
        rows = self._embedder.embed(np.stack(list(self._pixels.values())))
        self._tally.stages["embed"] += time.perf_counter() - started
        has_direction = np.linalg.norm(rows, axis=1) > SHORTEST_UNIT
        return {digest: row for digest, row, good in zip(self._pixels, rows, has_direction, strict=True) if good}

    def _add_failure(self, prepared: _Prepared, failure: ImageError) -> None:
        path = prepared.file.path
        if isinstance(failure, NotAPicture) and not prepared.file.claims_picture:
            return  # a text, a film: nobody said that it was a picture
        self._tally.skips.append(Skip(path, failure.reason))
        if not isinstance(failure, Unreadable):  # what the catalog knew of this path is there no more
            with self._writer.transaction():
                self._writer.forget_files([path])


def _finish(scan: Scan, writer: CatalogWriter, tally: Tally) -> None:
    """Take out what the scan shows to be gone, and remember the skips."""
    found = {file.path for file in scan.files}
    gone = [path for path in writer.paths() if path not in found and scan.missed(path)]
    with writer.transaction():
        tally.n_gone = writer.forget_files(gone)
        writer.forget_skips(lambda path: scan.missed(path) or path in found)
        writer.record_skips(tally.skips)
