"""FAISS files: caches of a model's vectors. The only import of faiss.

A cache is one file: what FAISS writes, followed by a stamp that says of which collection, model and generation
it is. FAISS reads from the front and never sees the stamp; a file without one, or with a wrong one, is no cache.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import faiss
import numpy as np
import xxhash
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

WORKSHOP_PREFIX = ".ann-"
"""How the names of files begin that are being written, and are not yet a cache."""

_FEW = 512
"""So many vectors are taken out of an index and searched by themselves; beyond that the index skips the others."""

_N_THREADS = faiss.omp_get_max_threads()
_MAGIC = b"SIMSANN1"
_TAIL_BYTES = len(_MAGIC) + 4


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a cache was built from; `derivation` says what was made of the vectors, nothing where they are plain."""

    collection: str
    fingerprint: str
    generation: int
    n_vectors: int
    derivation: str = ""


@dataclass(frozen=True, slots=True)
class _Seal:
    """The end of a cache file: its stamp, and the length and digest of what FAISS wrote before it."""

    stamp: Stamp
    n_bytes: int
    digest: str


class Searchable(Protocol):
    """Unit vectors known by id: an index, or the part of one that a filter leaves."""

    def __len__(self) -> int: ...

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """The n nearest of each query: similarities and ids, (q, min(n, len)) each, falling similarity.

        Queries (q, d) are unit rows. Similarities are clipped to [-1, 1], which rounding may leave by 1e-7.
        """
        ...

    def within(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        """All that are more similar to a query (d,) than `least`: similarities and ids, in no order."""
        ...


class AnnIndex:
    """Exact inner products over unit vectors, known by the catalog's view ids."""

    def __init__(self, index: faiss.IndexIDMap, *, is_mapped: bool = False) -> None:
        self._index = index
        self._is_mapped = is_mapped
        self._places: tuple[Ids, NDArray[np.intp]] | None = None

    @classmethod
    def empty(cls, width: int) -> AnnIndex:
        """An index without vectors. IndexIDMap and not IDMap2: nothing here looks vectors up by id."""
        return cls(faiss.IndexIDMap(faiss.IndexFlatIP(width)))

    @classmethod
    def map(cls, file: Path) -> AnnIndex:
        """The index in `file`, mapped into memory and not read: to search only."""
        return cls(faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC), is_mapped=True)

    @classmethod
    def read(cls, file: Path) -> AnnIndex:
        """The index in `file`, read into memory: to be changed."""
        with file.open("rb") as stream:
            return cls(faiss.read_index(faiss.PyCallbackIOReader(stream.read)))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of the vectors, in the order in which they lie."""
        ids: NDArray[np.int64] = faiss.vector_to_array(self._index.id_map)
        return ids

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(n, d) float32 in the order of `ids`."""
        rows: NDArray[np.float32] = self._index.index.reconstruct_n(0, len(self))
        return rows

    @property
    def rows(self) -> NDArray[np.float32]:
        """(n, d) float32 in the order of `ids`, where they lie: not to be written to, nor kept when the index goes."""
        flat = faiss.downcast_index(self._index.index)
        if not len(self):
            return np.empty((0, flat.d), np.float32)
        rows: NDArray[np.float32] = faiss.rev_swig_ptr(flat.get_xb(), len(self) * flat.d).reshape(len(self), flat.d)
        rows.flags.writeable = False
        return rows

    def positions_of(self, ids: Ids) -> NDArray[np.intp]:
        """Where the vectors of those ids (m,), all of which are here, lie: positions (m,) in `rows`."""
        held, order = self._sorted()
        return order[np.searchsorted(held, ids)]

    def only(self, ids: Ids) -> Searchable:
        """The part that is of those ids (m,), as far as they are here; it lives no longer than the index."""
        held, _ = self._sorted()
        places = np.searchsorted(held, ids)
        ids = ids[(places < len(held)) & (held[np.minimum(places, len(held) - 1)] == ids)] if len(held) else held
        if len(ids) > _FEW:
            return _Part(self._index, ids)
        few = AnnIndex.empty(self._index.d)
        few.add(ids, self.rows[self.positions_of(ids)])
        return few

    def _sorted(self) -> tuple[Ids, NDArray[np.intp]]:
        """The ids in rising order, and where each lies."""
        if self._places is None:
            held = self.ids
            order = np.argsort(held, kind="stable")
            self._places = held[order], order
        return self._places

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors (n, d) under ids (n,) that are not in the index yet."""
        self._check_changeable()
        self._places = None
        self._index.add_with_ids(np.ascontiguousarray(vectors), ids)

    def reserve(self, n: int) -> None:
        """Make room for n more vectors in one step; growing block by block would hold the vectors twice."""
        self._check_changeable()
        flat = faiss.downcast_index(self._index.index)
        size = flat.codes.size()
        flat.codes.resize(size + n * flat.code_size)
        flat.codes.resize(size)  # the room stays

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Take vectors out."""
        self._check_changeable()
        self._places = None
        self._index.remove_ids(ids)

    def search(self, queries: NDArray[np.float32], n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As `Searchable` says."""
        return _search(self._index, queries, min(n, len(self)))

    def within(self, query: NDArray[np.float32], least: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As `Searchable` says."""
        return _within(self._index, query, least)

    def save(self, file: Path, stamp: Stamp) -> None:
        """Write the cache; it appears whole or not at all.

        Raises `OSError`.
        """
        handle, workshop = tempfile.mkstemp(prefix=WORKSHOP_PREFIX, dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                hasher, n_bytes = xxhash.xxh3_128(), 0

                def write(block: bytes) -> int:
                    nonlocal n_bytes
                    hasher.update(block)
                    n_bytes += len(block)
                    return stream.write(block)

                try:
                    faiss.write_index(self._index, faiss.PyCallbackIOWriter(write))
                except RuntimeError as error:  # what FAISS makes of an OSError inside `write`
                    raise OSError(str(error)) from error
                seal = json.dumps(dataclasses.asdict(_Seal(stamp, n_bytes, hasher.hexdigest()))).encode()
                stream.write(seal + len(seal).to_bytes(4, "little") + _MAGIC)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(workshop, file)
        except BaseException:
            Path(workshop).unlink(missing_ok=True)
            raise

    def _check_changeable(self) -> None:
        if self._is_mapped:  # FAISS 1.15 crashes the process here
            raise ValueError("a mapped index cannot be changed; read it")


class _Part:
    """Those vectors of an index that are of some ids; FAISS skips the others while it scans."""

    def __init__(self, index: faiss.IndexIDMap, ids: Ids) -> None:
        self._index = index
        self._n = len(ids)
        bits = np.zeros(int(ids.max()) // 8 * 8 + 8, np.bool_)
        bits[ids] = True
        selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        self._parameters = faiss.SearchParameters(sel=selector)

    def __len__(self) -> int:
        return self._n

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        return _search(self._index, queries, min(n, self._n), self._parameters)

    def within(self, query: Vectors, least: float) -> tuple[Vectors, Ids]:
        return _within(self._index, query, least, self._parameters)


def _search(
    index: faiss.IndexIDMap, queries: Vectors, n: int, parameters: faiss.SearchParameters | None = None
) -> tuple[Vectors, Ids]:
    if n == 0:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    # One query is faster in one thread: FAISS 1.15 shares its scan out at a cost (bench/RESULTS.md, Query).
    faiss.omp_set_num_threads(1 if len(queries) == 1 else _N_THREADS)
    similarities, ids = index.search(np.ascontiguousarray(queries), n, params=parameters)
    return np.clip(similarities, -1, 1), ids


def _within(
    index: faiss.IndexIDMap, query: Vectors, least: float, parameters: faiss.SearchParameters | None = None
) -> tuple[Vectors, Ids]:
    faiss.omp_set_num_threads(1)
    _, similarities, ids = index.range_search(np.ascontiguousarray(query[None]), least, params=parameters)
    return np.clip(similarities, -1, 1), ids


def read_stamp(file: Path) -> Stamp | None:
    """The stamp of a cache file, or None where there is no whole cache."""
    seal = _read_seal(file)
    return seal.stamp if seal else None


def is_intact(file: Path) -> bool:
    """Whether a cache file holds, byte for byte, what was written."""
    seal = _read_seal(file)
    if seal is None:
        return False
    hasher, left = xxhash.xxh3_128(), seal.n_bytes
    with file.open("rb") as stream:
        while left and (block := stream.read(min(left, 1 << 22))):
            hasher.update(block)
            left -= len(block)
    return hasher.hexdigest() == seal.digest


def _read_seal(file: Path) -> _Seal | None:
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES))
            tail = stream.read()
            if tail[4:] != _MAGIC:
                return None
            length = int.from_bytes(tail[:4], "little")
            stream.seek(max(0, size - _TAIL_BYTES - length))
            fields = json.loads(stream.read(length))
            seal = _Seal(Stamp(**fields.pop("stamp")), **fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # missing, torn or not ours
        return None
    return seal if seal.n_bytes + length + _TAIL_BYTES == size else None


def kmeans(vectors: NDArray[np.float32], k: int, seed: int = 0) -> NDArray[np.float32]:
    """Spherical k-means: k unit centres (k, d) of unit rows (n, d), n >= k; the same for the same seed.

    The best of twenty runs from random starts. Of more than 2,048 rows a centre, a sample is taken with the seed.
    """
    # One point a centre is enough: without it FAISS warns on stderr below 39.
    settings = {"niter": 25, "nredo": 20, "seed": seed, "spherical": True, "min_points_per_centroid": 1}
    clustering = faiss.Kmeans(vectors.shape[1], k, max_points_per_centroid=2048, **settings)
    faiss.omp_set_num_threads(1)  # FAISS 1.15 shares out each of many small steps: 10,000 x 50 d take 0.1 s, else 2 s
    clustering.train(np.ascontiguousarray(vectors))
    centres: NDArray[np.float32] = clustering.centroids
    return centres
