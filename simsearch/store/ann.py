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

import faiss
import numpy as np
import xxhash
from numpy.typing import NDArray

WORKSHOP_PREFIX = ".ann-"
"""How the names of files begin that are being written, and are not yet a cache."""

_N_THREADS = faiss.omp_get_max_threads()
_MAGIC = b"SIMSANN1"
_TAIL_BYTES = len(_MAGIC) + 4


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a cache was built from."""

    collection: str
    fingerprint: str
    generation: int
    n_vectors: int


@dataclass(frozen=True, slots=True)
class _Seal:
    """The end of a cache file: its stamp, and the length and digest of what FAISS wrote before it."""

    stamp: Stamp
    n_bytes: int
    digest: str


class AnnIndex:
    """Exact inner products over unit vectors, known by the catalog's view ids."""

    def __init__(self, index: faiss.IndexIDMap, *, is_mapped: bool = False) -> None:
        self._index = index
        self._is_mapped = is_mapped

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

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add vectors (n, d) under ids (n,) that are not in the index yet."""
        self._check_changeable()
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
        self._index.remove_ids(ids)

    def search(self, queries: NDArray[np.float32], n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The n nearest of each query: similarities and ids, (q, min(n, len)) each, falling similarity.

        Queries (q, d) are unit rows. Similarities are clipped to [-1, 1], which rounding may leave by 1e-7.
        """
        n = min(n, len(self))
        if n == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        # One query is faster in one thread: FAISS 1.15 shares its scan out at a cost (bench/RESULTS.md, Query).
        faiss.omp_set_num_threads(1 if len(queries) == 1 else _N_THREADS)
        similarities, ids = self._index.search(np.ascontiguousarray(queries), n)
        return np.clip(similarities, -1, 1), ids

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

    Of more than 2,048 rows a centre, FAISS takes a sample drawn with the seed.
    """
    # One point a centre is enough: without it FAISS warns on stderr below 39.
    settings = {"niter": 25, "seed": seed, "spherical": True, "min_points_per_centroid": 1}
    clustering = faiss.Kmeans(vectors.shape[1], k, max_points_per_centroid=2048, **settings)
    faiss.omp_set_num_threads(1)  # FAISS 1.15 shares out each of many small steps: 10,000 x 50 d take 0.1 s, else 2 s
    clustering.train(np.ascontiguousarray(vectors))
    centres: NDArray[np.float32] = clustering.centroids
    return centres
