"""Vector files: the vectors of an index in 16 bits a dimension, from which its candidates are ranked.

A row holds integers: a unit vector, scaled so that its largest absolute value becomes 32,767. The length of the row
gives the scale back. Similarities differ by about 3e-6 from those of float32; with float16 they would by 1e-5 to 2e-4,
at the same size.

A vector file lies beside an index whose codes do not rank precisely enough. It is a cache like the index file: it is
derived from the catalog, ends in a footer of the same form, appears complete or not at all, and is never changed. Rows
are read with `pread`, not through a memory map: where a file is truncated while it is in use, rows are missing, and the
process does not end. A row that is missing or damaged is read from the catalog.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import xxhash
from numpy.typing import NDArray

from simsearch.files import open_regular_file
from simsearch.index.files import TEMPORARY_PREFIX, IndexFooter, IndexStamp, read_footer, write_footer
from simsearch.index.integrity import has_known_damage, mark_damaged
from simsearch.index.protocol import Ids, VectorReader, Vectors

KIND = "vectors"
"""The kind in the stamp of a vector file."""

_LARGEST = 32_767
"""The largest absolute value in every valid row; rows that are missing, and most damaged ones, have another."""

_NORM_TOLERANCE = 1e-3
"""Vectors whose squared length differs by more from 1 are not stored: the catalog is read for them."""

_MIN_PIECE_ROWS = 64
_MAX_PIECE_SHARE = 4
"""From 64 rows on they are read in one piece, where that has at most four times as many rows as are wanted."""

_BLOCK_ROWS = 16_384


class VectorFile:
    """Scaled unit rows (n, d) as little-endian int16, by ascending id. May be read by several threads."""

    def __init__(self, descriptor: int, footer: IndexFooter) -> None:
        """Use `open`, which translates `ValueError`, `TypeError` and `KeyError`. The object closes the descriptor."""
        self._close = weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        self.stamp, facts = footer.stamp, footer.facts
        self.width, self._n = int(facts["width"]), int(facts["n_rows"])
        self._first, last = int(facts["first"]), int(facts["last"])
        self._are_all_unit = not facts["n_other"]
        self._row_bytes = 2 * self.width
        if self.width <= 0 or self._n < 0 or footer.n_bytes != self._n * (self._row_bytes + 8):
            raise ValueError("the size does not match")
        self._ids = None if last - self._first + 1 == self._n else self._read_ids()

    @classmethod
    def open(cls, file: Path) -> Self:
        """Open a vector file. Raises `OSError` where it is missing, incomplete, foreign, or known to be damaged."""
        with open_regular_file(file) as stream:
            footer = read_footer(file)
            if footer is None or footer.stamp.kind != KIND or has_known_damage(stream.fileno()):
                raise OSError(errno.EIO, "not an intact vector file", str(file))
            try:
                return cls(os.dup(stream.fileno()), footer)
            except (KeyError, TypeError, ValueError) as error:
                raise OSError(errno.EIO, f"the content is damaged ({error})", str(file)) from error

    def __len__(self) -> int:
        return self._n

    @property
    def has_consecutive_ids(self) -> bool:
        """Whether the ids follow each other, so that the first and the last one tell all."""
        return self._ids is None

    @property
    def ids(self) -> Ids:
        """The ids of the rows, ascending."""
        return np.arange(self._first, self._first + self._n, dtype=np.int64) if self._ids is None else self._ids

    @property
    def is_damaged(self) -> bool:
        """Whether a row was missing or damaged when it was read."""
        return has_known_damage(self._descriptor)

    def iterate_blocks(self) -> Iterator[tuple[Ids, Vectors]]:
        """Read all rows as blocks of ids (b,) and unit vectors (b, d); damaged rows are left out."""
        ids = self.ids
        for start in range(0, self._n, _BLOCK_ROWS):
            some = ids[start : start + _BLOCK_ROWS]
            rows, is_valid = self.read(some)
            yield (some, rows) if is_valid.all() else (some[is_valid], rows[is_valid])

    def read(self, ids: Ids) -> tuple[Vectors, NDArray[np.bool_]]:
        """Read unit vectors (m, d) of ids (m,), and which of them are valid (m,): in the file, and not damaged."""
        positions, is_held = self._find_positions(ids)
        codes = np.frombuffer(self._read_rows(positions), "<i2").reshape(-1, self.width)
        is_valid = is_held & (np.abs(codes).max(axis=1) == _LARGEST) & self._are_in_file(positions)
        rows = codes.astype(np.float32)
        squares = np.einsum("ij,ij->i", rows, rows)
        if not is_valid.all():
            if self._are_all_unit and not is_valid[is_held].all():
                mark_damaged(self._descriptor)
            squares[~is_valid] = 1
        rows /= np.sqrt(squares)[:, None]
        return rows, is_valid

    def _find_positions(self, ids: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """Find the positions (m,) of ids (m,), and which ids are in the file (m,); the position of others is 0."""
        if self._ids is None:
            positions = ids - self._first
            is_held = (positions >= 0) & (positions < self._n)
        else:
            positions = np.minimum(np.searchsorted(self._ids, ids), self._n - 1)
            is_held = self._ids[positions] == ids
        return (positions if is_held.all() else np.where(is_held, positions, 0)), is_held

    def _are_in_file(self, positions: Ids) -> NDArray[np.bool_] | bool:
        """Whether the file still holds all of each row. Ask after reading: a file that is being cut off gives zeros."""
        n_bytes = os.fstat(self._descriptor).st_size
        return n_bytes >= self._n * self._row_bytes or (positions + 1) * self._row_bytes <= n_bytes

    def _read_rows(self, positions: Ids) -> bytes:
        """Read the bytes of rows, in their order; zeros where the file ends before them."""
        size = self._row_bytes
        if len(positions) >= _MIN_PIECE_ROWS:
            first, last = int(positions.min()), int(positions.max())
            if last - first < _MAX_PIECE_SHARE * len(positions):
                piece = np.frombuffer(self._read_piece(first * size, (last - first + 1) * size), "<i2")
                return piece.reshape(-1, self.width)[positions - first].tobytes()
        descriptor = self._descriptor
        pieces = [os.pread(descriptor, size, start) for start in (positions * size).tolist()]
        data = b"".join(pieces)
        if len(data) < size * len(positions):
            data = b"".join([piece.ljust(size, b"\0") for piece in pieces])
        return data

    def _read_piece(self, start: int, n_bytes: int) -> bytes:
        """Read a piece; zeros where the file ends before it. One call of the system reads at most 2 GB."""
        pieces = []
        while n_bytes and (piece := os.pread(self._descriptor, n_bytes, start)):
            pieces.append(piece)
            start, n_bytes = start + len(piece), n_bytes - len(piece)
        return b"".join([*pieces, bytes(n_bytes)])

    def _read_ids(self) -> Ids:
        ids = np.frombuffer(self._read_piece(self._n * self._row_bytes, 8 * self._n), "<i8").astype(np.int64)
        if not len(ids) or not (np.diff(ids) > 0).all():
            raise ValueError("the ids do not ascend")
        return ids


class VectorFileWriter:
    """Writes a vector file under a temporary name in the folder of `file`; `publish` renames it.

    Without `publish` the temporary file is deleted when the object is. Raises `OSError`.
    """

    def __init__(self, file: Path, width: int) -> None:
        self._file, self._width = file, width
        self._temporary = file.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        self._stream = self._temporary.open("xb")
        self._delete = weakref.finalize(self, _discard, self._stream, self._temporary)
        self._hasher = xxhash.xxh3_128()
        self._ids: list[Ids] = []
        self._last = -1
        self._n_other = 0

    def add(self, ids: Ids, rows: Vectors) -> None:
        """Append vectors (m, d) of ids (m,), which ascend beyond those written before.

        Raises `OSError`, `ValueError`.
        """
        if not len(ids):
            return
        if ids[0] <= self._last or not (np.diff(ids) > 0).all():
            raise ValueError("the ids of a vector file must ascend")
        self._last = int(ids[-1])
        self._ids.append(ids)
        is_unit = np.abs(np.einsum("ij,ij->i", rows, rows) - 1) < _NORM_TOLERANCE
        self._n_other += int((~is_unit).sum())
        largest = np.where(is_unit, np.abs(rows).max(axis=1), np.inf)
        self._write(np.rint(rows * (_LARGEST / largest)[:, None]).astype("<i2").tobytes())

    def finish(self, stamp: IndexStamp) -> VectorFile:
        """Complete the file with the state of its index, and open it under its temporary name. Raises `OSError`."""
        ids = np.concatenate([*self._ids, np.empty(0, np.int64)])
        self._write(ids.astype("<i8").tobytes())
        first, last = (int(ids[0]), int(ids[-1])) if len(ids) else (0, -1)
        facts = {"width": self._width, "n_rows": len(ids), "first": first, "last": last, "n_other": self._n_other}
        n_bytes = len(ids) * (2 * self._width + 8)
        footer = IndexFooter(replace(stamp, kind=KIND, base=""), n_bytes, self._hasher.hexdigest(), facts=facts)
        with self._stream as stream:
            write_footer(footer, stream)
        return VectorFile.open(self._temporary)

    def publish(self) -> None:
        """Rename the finished file to its name. Raises `OSError`."""
        os.replace(self._temporary, self._file)
        self._delete.detach()

    def _write(self, block: bytes) -> None:
        self._hasher.update(block)
        self._stream.write(block)


class CandidateReader:
    """Reads vectors from a vector file, and those that it lacks from the catalog."""

    def __init__(self, vectors: VectorFile, read_from_catalog: VectorReader) -> None:
        self.vectors = vectors
        self._read_from_catalog = read_from_catalog

    def __call__(self, ids: Ids) -> Vectors:
        """Read the vectors (m, d) of ids (m,), in their order."""
        rows, is_valid = self.vectors.read(ids)
        if not is_valid.all():
            rows[~is_valid] = self._read_from_catalog(ids[~is_valid])
        return rows


def _discard(stream: BinaryIO, file: Path) -> None:
    with contextlib.suppress(OSError):
        stream.close()
        file.unlink()
