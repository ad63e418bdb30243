"""Index files: the FAISS index, the ids removed from its base, and a footer that identifies a complete file.

FAISS reads a file from the front and ignores the footer. An index file is a cache: its footer names the collection,
the model and the change token of the vectors that it was built from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import faiss
import numpy as np
import xxhash

from simsearch.files import open_regular_file, replace_file
from simsearch.index.protocol import Ids

TEMPORARY_PREFIX = ".ann-"
"""The prefix of files that are still being written."""

_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{16}(\.faiss|\.recent)?")  # earlier with a suffix

_MAGIC = b"SIMSANN1"
_TAIL_BYTES = len(_MAGIC) + 4
_BLOCK_BYTES = 1 << 22
_DELTA_SUFFIX = ".recent"
_VECTORS_SUFFIX = ".vectors"


@dataclass(frozen=True, slots=True)
class IndexStamp:
    """The state of the vectors that an index was built from; `change_token` is that of the model.

    `derivation` is the label of the transformation of the vectors, empty where there is none. `kind` is the kind of
    index. `base` is the digest of the base file that a delta file belongs to, empty for a base file. The field names
    are keys of JSON stored in index files.
    """

    collection: str
    fingerprint: str
    change_token: int
    n_vectors: int
    derivation: str = ""
    kind: str = "flat"
    base: str = ""

    def has_same_source(self, other: IndexStamp) -> bool:
        """Whether both are of the same vectors, perhaps in different states."""
        mine, theirs = ((some.collection, some.fingerprint, some.derivation) for some in (self, other))
        return mine == theirs

    def has_same_state(self, other: IndexStamp) -> bool:
        """Whether both are of the same vectors in the same state; the kind of index may differ."""
        mine, theirs = ((some.change_token, some.n_vectors) for some in (self, other))
        return self.has_same_source(other) and mine == theirs


@dataclass(frozen=True, slots=True)
class IndexFooter:
    """The end of an index file: its stamp, and the length and the digest of the content before the footer.

    The content ends with `n_removed` ids. `facts` are the `IndexDetails` of a quantized index. Those of a vector file
    are its width, the numbers of its rows and of those that are no unit vectors, and its first and last id. The field
    names are keys of JSON stored in index files.
    """

    stamp: IndexStamp
    n_bytes: int
    digest: str
    n_removed: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def write_index(
    index: Any, file: Path, stamp: IndexStamp, *, removed: Ids | None = None, facts: dict[str, Any] | None = None
) -> IndexFooter:
    """Write an index to a file, atomically. `removed` are the ids removed from the base that a delta file belongs to.

    Raises `OSError`.
    """
    removed = np.empty(0, np.int64) if removed is None else removed
    with replace_file(file, prefix=TEMPORARY_PREFIX, keeps_suffix=False) as temporary, temporary.open("xb") as stream:
        n_bytes, digest = _write_payload(index, stream, removed)
        footer = IndexFooter(stamp, n_bytes, digest, len(removed), facts or {})
        write_footer(footer, stream)
    return footer


def write_footer(footer: IndexFooter, stream: BinaryIO) -> None:
    """Write the footer after the content, and wait until all is on the disk. Raises `OSError`."""
    text = json.dumps(dataclasses.asdict(footer)).encode()
    stream.write(text + len(text).to_bytes(4, "little") + _MAGIC)
    stream.flush()
    os.fsync(stream.fileno())


def _write_payload(index: Any, stream: BinaryIO, removed: Ids) -> tuple[int, str]:
    """Write index and removed ids; return the number of bytes and their digest."""
    hasher, n_bytes = xxhash.xxh3_128(), 0

    def write_block(block: bytes) -> int:
        nonlocal n_bytes
        hasher.update(block)
        n_bytes += len(block)
        return stream.write(block)

    try:
        faiss.write_index(index, faiss.PyCallbackIOWriter(write_block))
    except RuntimeError as error:  # FAISS raises this for an OSError inside `write_block`
        raise OSError(str(error)) from error
    write_block(removed.astype("<i8").tobytes())
    return n_bytes, hasher.hexdigest()


@contextlib.contextmanager
def translate_faiss_errors(file: Path) -> Iterator[None]:
    """Raise what a block raises for an index file with a damaged content as `OSError`.

    A damaged header can have the size of a huge index, or the type of another one.
    """
    try:
        yield
    except (RuntimeError, AssertionError, MemoryError, ArithmeticError, AttributeError, LookupError, TypeError,
            ValueError) as error:  # fmt: skip
        raise OSError(errno.EIO, f"the content is damaged ({error})", str(file)) from error


def map_index(file: Path) -> Any:
    """Open the FAISS index in `file` memory-mapped, for searching only. Raises `OSError`."""
    with translate_faiss_errors(file):
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)


def read_index(file: Path) -> Any:
    """Read the FAISS index in `file` into memory, for changing it. Raises `OSError`."""
    with open_regular_file(file) as stream, translate_faiss_errors(file):
        return faiss.read_index(faiss.PyCallbackIOReader(stream.read))


def read_removed_ids(file: Path, footer: IndexFooter) -> Ids:
    """Read the `removed` ids that `write_index` wrote. Raises `OSError`."""
    with open_regular_file(file) as stream:
        stream.seek(footer.n_bytes - 8 * footer.n_removed)
        return np.frombuffer(stream.read(8 * footer.n_removed), "<i8").astype(np.int64)


def read_stamp(file: Path) -> IndexStamp | None:
    """Read the stamp of an index file; None where there is no complete file."""
    footer = read_footer(file)
    return footer.stamp if footer else None


def is_intact(file: Path) -> bool:
    """Whether the content of an index file has the digest that its footer states."""
    footer = read_footer(file)
    if footer is None:
        return False
    hasher, left = xxhash.xxh3_128(), footer.n_bytes
    with open_regular_file(file) as stream:
        while left and (block := stream.read(min(left, _BLOCK_BYTES))):
            hasher.update(block)
            left -= len(block)
    return hasher.hexdigest() == footer.digest


def read_footer(file: Path) -> IndexFooter | None:
    """Read the footer of an index file; None where there is no complete file."""
    try:
        with open_regular_file(file) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES))
            tail = stream.read()
            if tail[4:] != _MAGIC:
                return None
            length = int.from_bytes(tail[:4], "little")
            stream.seek(max(0, size - _TAIL_BYTES - length))
            fields = json.loads(stream.read(length))
            stamp = fields.pop("stamp")
            if "generation" in stamp:  # of an older simsearch, whose catalog may lie in a read-only folder
                stamp["change_token"] = stamp.pop("generation")
            footer = IndexFooter(IndexStamp(**stamp), **fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # missing, truncated or foreign
        return None
    return footer if footer.n_bytes + length + _TAIL_BYTES == size else None


def delete_temporary_files(folder: Path) -> None:
    """Delete the incomplete index files of killed runs in `folder`."""
    for file in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if _TEMPORARY_NAME.fullmatch(file.name):
            with contextlib.suppress(OSError):
                file.unlink()


def locate_delta(file: Path) -> Path:
    """The delta file beside a base file: vectors added to the base, and ids removed from it."""
    return file.with_suffix(_DELTA_SUFFIX)


def locate_vector_file(file: Path) -> Path:
    """The vector file beside a base file: its vectors in 16 bits a dimension."""
    return file.with_suffix(_VECTORS_SUFFIX)


def is_current(file: Path, footer: IndexFooter, stamp: IndexStamp) -> bool:
    """Whether a base file, alone or with its delta file, has the state of `stamp`."""
    if footer.stamp.has_same_state(stamp):
        return True
    delta = read_stamp(locate_delta(file))
    return (
        footer.stamp.has_same_source(stamp)
        and delta is not None
        and delta.has_same_state(stamp)
        and delta.base == footer.digest
    )
