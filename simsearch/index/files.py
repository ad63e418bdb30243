"""Index files: what FAISS writes, ids that are no longer meant, and a seal that tells a whole file from a torn one."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
import xxhash

from simsearch.files import replace_file
from simsearch.index.protocol import Ids

TEMPORARY_PREFIX = ".ann-"
"""How the names of files begin that are being written, and are not yet a cache."""

_MAGIC = b"SIMSANN1"
_TAIL_BYTES = len(_MAGIC) + 4
_BLOCK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class IndexStamp:
    """What an index was built from; `derivation` says what was made of the vectors, nothing where they are plain.

    `kind` is the kind of index. `base` is the digest of the file that this one adds to, empty where it stands alone.
    """

    collection: str
    fingerprint: str
    generation: int
    n_vectors: int
    derivation: str = ""
    kind: str = "flat"
    base: str = ""

    def has_same_source(self, other: IndexStamp) -> bool:
        """Whether both are of the same vectors, at any time."""
        mine, theirs = ((some.collection, some.fingerprint, some.derivation) for some in (self, other))
        return mine == theirs

    def has_same_state(self, other: IndexStamp) -> bool:
        """Whether both are of the same vectors at the same time, whatever the kind."""
        return self.has_same_source(other) and (self.generation, self.n_vectors) == (other.generation, other.n_vectors)


@dataclass(frozen=True, slots=True)
class IndexFooter:
    """The end of an index file: its stamp, the digest of what comes before, and how long the parts of that are.

    `facts` are what a coded index must be searched with.
    """

    stamp: IndexStamp
    n_bytes: int
    digest: str
    n_removed: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def write_index(
    index: Any, file: Path, stamp: IndexStamp, *, removed: Ids | None = None, facts: dict[str, Any] | None = None
) -> IndexFooter:
    """Write an index; the file appears whole or not at all. `removed` are ids of its base that are no longer meant.

    Raises `OSError`.
    """
    removed = np.empty(0, np.int64) if removed is None else removed
    with replace_file(file, prefix=TEMPORARY_PREFIX) as temporary, temporary.open("xb") as stream:
        n_bytes, digest = _write_payload(index, stream, removed)
        seal = IndexFooter(stamp, n_bytes, digest, len(removed), facts or {})
        text = json.dumps(dataclasses.asdict(seal)).encode()
        stream.write(text + len(text).to_bytes(4, "little") + _MAGIC)
        stream.flush()
        os.fsync(stream.fileno())
    return seal


def _write_payload(index: Any, stream: BinaryIO, removed: Ids) -> tuple[int, str]:
    """How much was written, and its digest."""
    hasher, n_bytes = xxhash.xxh3_128(), 0

    def write_block(block: bytes) -> int:
        nonlocal n_bytes
        hasher.update(block)
        n_bytes += len(block)
        return stream.write(block)

    try:
        faiss.write_index(index, faiss.PyCallbackIOWriter(write_block))
    except RuntimeError as error:  # what FAISS makes of an OSError inside `put`
        raise OSError(str(error)) from error
    write_block(removed.astype("<i8").tobytes())
    return n_bytes, hasher.hexdigest()


def map_index(file: Path) -> Any:
    """The index in `file`, mapped into memory and not read: to search only.

    Raises `RuntimeError` where FAISS cannot read it.
    """
    return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)


def read_index(file: Path) -> Any:
    """The index in `file`, read into memory: to be changed. Raises `OSError` or `RuntimeError`."""
    with file.open("rb") as stream:
        return faiss.read_index(faiss.PyCallbackIOReader(stream.read))


def read_removed_ids(file: Path, seal: IndexFooter) -> Ids:
    """The ids that `write` was told of. Raises `OSError`."""
    with file.open("rb") as stream:
        stream.seek(seal.n_bytes - 8 * seal.n_removed)
        return np.frombuffer(stream.read(8 * seal.n_removed), "<i8").astype(np.int64)


def read_stamp(file: Path) -> IndexStamp | None:
    """The stamp of an index file, or None where there is no whole one."""
    seal = read_footer(file)
    return seal.stamp if seal else None


def is_intact(file: Path) -> bool:
    """Whether an index file holds, byte for byte, what was written."""
    seal = read_footer(file)
    if seal is None:
        return False
    hasher, left = xxhash.xxh3_128(), seal.n_bytes
    with file.open("rb") as stream:
        while left and (block := stream.read(min(left, _BLOCK_BYTES))):
            hasher.update(block)
            left -= len(block)
    return hasher.hexdigest() == seal.digest


def read_footer(file: Path) -> IndexFooter | None:
    """The seal of an index file, or None where there is no whole one."""
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
            seal = IndexFooter(IndexStamp(**fields.pop("stamp")), **fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # missing, torn or not ours
        return None
    return seal if seal.n_bytes + length + _TAIL_BYTES == size else None
