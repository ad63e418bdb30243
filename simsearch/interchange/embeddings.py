"""Vectors that another tool made, read block by block and checked: what a collection can take in.

| source | what is read |
|---|---|
| a folder | `img_emb/*.npy` and `metadata/*.parquet`, paired in the order of their names (clip-retrieval) |
| `.npy` | (n, d); the paths are in a table beside it: the same name in .parquet, .csv or .txt (a path a line) |
| `.parquet`, `.csv`, `.jsonl` | a column of paths and one of vectors (lists; in CSV as JSON) |

What `simsearch export` wrote is read back; rows of augmented views (`kind` other than `original`) are left out.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import SourceError
from simsearch.interchange.tables import TableReader

_PATH_COLUMNS = ("path", "image_path", "filepath", "file_path", "filename", "file_name", "file", "url")
_VECTOR_COLUMNS = ("vector", "embedding", "embeddings", "emb", "image_embedding", "features")
_N_AT_ONCE = 1_000
_SHORTEST = 1e-6
_LONGEST_FIELD = 1 << 24

csv.field_size_limit(_LONGEST_FIELD)  # Python's own limit is less than 10,000 numbers

Row = dict[str, Any]
Rows = Iterator[tuple[list[Row], Any]]
"""Blocks of rows, with their numbers as (n, d) or, not yet known to be of one length, as lists."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold the paths and the vectors; None: the first that is there of the names tools use."""

    path: str | None = None
    vector: str | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingBlock:
    """Paths as they stand in the source, and their vectors (n, d), unit rows."""

    paths: tuple[str, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of vectors (or a pair of files): its name for messages, and a way to read it from its start."""

    name: str
    read: Callable[[], Rows]


class Embeddings:
    """A source of vectors of one width."""

    def __init__(self, source: Path, parts: Sequence[_Part], columns: Columns) -> None:
        self.source = source
        self._parts = parts
        self._columns = columns
        first = next(self._checked(None), None)
        if first is None:
            raise _wrong(source, f"{source} holds no vectors", "name another source")
        self.width: int = first.vectors.shape[1]

    def blocks(self) -> Iterator[EmbeddingBlock]:
        """All of it, in order, about a thousand rows at a time; lengths are made one.

        Raises `SourceError` at the first row that has no path, another width than those before, a number that is
        not finite, or only zeros.
        """
        return self._checked(self.width)

    def _checked(self, width: int | None) -> Iterator[EmbeddingBlock]:
        for part in self._parts:
            done = 0
            for rows, numbers in part.read():
                where = _Place(self.source, part.name, done)
                vectors = _unit_rows(numbers, len(rows), width, where)
                paths = [_path(row, self._columns, where, number) for number, row in enumerate(rows)]
                kept = [number for number, row in enumerate(rows) if row.get("kind") in (None, "", "original")]
                done += len(rows)
                width = vectors.shape[1]
                if kept:
                    yield EmbeddingBlock(tuple(paths[number] for number in kept), vectors[kept])


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a block begins: for messages."""

    source: Path
    part: str
    first: int

    def wrong(self, row: int, problem: str, advice: str) -> SourceError:
        return _wrong(self.source, f"{self.part}, row {self.first + row + 1}: {problem}", advice)


def open_embeddings(source: Path, *, metadata: Path | None = None, columns: Columns | None = None) -> Embeddings:
    """The vectors in `source`; `metadata` is the table beside a .npy, where it has another name.

    Raises `SourceError` when it is missing, no such source, or empty; when files of vectors and of metadata differ
    in number or length; `MissingExtra` when Parquet is to be read without pyarrow.
    """
    columns = columns or Columns()
    if source.is_dir():
        parts = _paired(source, columns)
    elif not source.is_file():
        raise _wrong(source, f"there is no {source}", "check the path")
    elif source.suffix.lower() == ".npy":
        parts = [_npy_part(source, metadata or _beside(source), columns)]
    else:
        parts = [_Part(source.name, lambda: _table(source, columns, with_vectors=True))]
    return Embeddings(source, parts, columns)


def _paired(folder: Path, columns: Columns) -> list[_Part]:
    arrays, tables = sorted((folder / "img_emb").glob("*.npy")), sorted((folder / "metadata").glob("*.parquet"))
    if not arrays:
        advice = "name a folder as clip-retrieval writes it, or a .npy, .parquet, .csv or .jsonl file"
        raise _wrong(folder, f"{folder} has no img_emb/*.npy", advice)
    if len(arrays) != len(tables):
        problem = f"{folder} has {len(arrays)} files in img_emb and {len(tables)} in metadata"
        raise _wrong(folder, problem, "each .npy needs its .parquet: export again, or take the odd one out")
    return [_npy_part(array, table, columns) for array, table in zip(arrays, tables, strict=True)]


def _npy_part(array: Path, table: Path, columns: Columns) -> _Part:
    """A .npy and its table: both are opened, and their lengths compared, before anything is read."""
    vectors = _open_npy(array)
    n_rows = sum(len(rows) for rows, _ in _table(table, columns, with_vectors=False))
    if n_rows != len(vectors):
        problem = f"{array.name} has {len(vectors)} vectors and {table.name} {n_rows} rows"
        raise _wrong(array, problem, "they must be of the same export")

    def read() -> Rows:
        start = 0
        for rows, _ in _table(table, columns, with_vectors=False):
            yield rows, vectors[start : start + len(rows)]
            start += len(rows)

    return _Part(array.name, read)


def _open_npy(file: Path) -> NDArray[Any]:
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _wrong(file, f"{file} cannot be read as .npy ({error})", "export it again with numpy.save") from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        found = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else "an archive"
        raise _wrong(file, f"{file} holds {found}, not vectors (n, d) of numbers", "save one row an image")
    return vectors


def _beside(array: Path) -> Path:
    for suffix in (".parquet", ".csv", ".txt"):
        if (table := array.with_suffix(suffix)).is_file():
            return table
    problem = f"nothing beside {array} says whose vectors these are"
    raise _wrong(array, problem, f"put {array.stem}.csv beside it, with a column `path`, or name the table")


def _table(file: Path, columns: Columns, *, with_vectors: bool) -> Rows:
    """Rows, each with at least its path, in blocks; their vectors where they are in the same file."""
    kind = file.suffix.lower()
    if kind == ".parquet":
        table = TableReader(file)
        vector = _column(file, table.columns, columns.vector, _VECTOR_COLUMNS) if with_vectors else None
        path = _column(file, table.columns, columns.path, _PATH_COLUMNS)
        also = [name for name in ("path_hex", "kind") if name in table.columns]
        yield from table.blocks([path, *also], vector)
    elif kind in (".csv", ".jsonl", ".ndjson", ".txt"):
        yield from _text_table(file, columns, with_vectors=with_vectors)
    else:
        raise _wrong(file, f"{file} is in no format that is read", "name a .npy, .parquet, .csv or .jsonl file")


def _text_table(file: Path, columns: Columns, *, with_vectors: bool) -> Rows:
    readers: dict[str, Callable[[Iterable[str]], Iterator[Row]]] = {".csv": csv.DictReader, ".txt": _path_lines}
    read = readers.get(file.suffix.lower(), _json_lines)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = read(stream)
            while block := list(itertools.islice(rows, _N_AT_ONCE)):
                vector = _column(file, block[0], columns.vector, _VECTOR_COLUMNS) if with_vectors else None
                yield block, None if vector is None else [_numbers(row.get(vector)) for row in block]
    except (OSError, ValueError, csv.Error) as error:  # among them: no UTF-8, no JSON
        raise _wrong(file, f"{file} cannot be read ({error})", "export it again") from error


def _path_lines(lines: Iterable[str]) -> Iterator[Row]:
    return ({"path": line.rstrip("\r\n")} for line in lines)


def _json_lines(lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.isspace():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object")
            yield row


def _numbers(value: Any) -> Any:
    """A list of numbers, written as JSON or with blanks or commas between them."""
    if not isinstance(value, str):
        return value
    inner = value.strip().removeprefix("[").removesuffix("]")
    return [float(number) for number in inner.replace(",", " ").split()]


def _column(file: Path, there: Iterable[str], asked: str | None, usual: Sequence[str]) -> str:
    names = list(there)
    for name in usual if asked is None else [asked]:
        if name in names:
            return name
    wanted = asked or f"{', '.join(usual[:-1])} or {usual[-1]}"
    problem = f"{file.name} has no column {wanted}; it has {', '.join(names) or 'none'}"
    raise _wrong(file, problem, "say which column holds it")


def _path(row: Row, columns: Columns, where: _Place, number: int) -> str:
    if raw := row.get("path_hex"):
        return os.fsdecode(bytes.fromhex(raw))
    name = _column(Path(where.part), row, columns.path, _PATH_COLUMNS)
    path = row[name]
    if not isinstance(path, str) or not path:
        raise where.wrong(number, "there is no path", "every vector needs the path of its picture")
    return path


def _unit_rows(numbers: Any, n: int, width: int | None, where: _Place) -> NDArray[np.float32]:
    """The numbers as (n, d) float32 rows of unit length."""
    if not isinstance(numbers, np.ndarray):
        for row, values in enumerate(numbers):
            width = width or len(values or ())
            if not values or len(values) != width:
                found = f"{len(values or ())} numbers where {width} are expected"
                raise where.wrong(row, found, "all vectors must be of one model")
        try:
            numbers = np.array(numbers, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise where.wrong(0, "a vector is no list of numbers", "export it again") from error
    if width is not None and numbers.shape[1] != width:
        found = f"{numbers.shape[1]} numbers where {width} are expected"
        raise where.wrong(0, found, "all vectors must be of one model")
    wide = numbers.astype(np.float64)
    if not (finite := np.isfinite(wide).all(axis=1)).all():
        raise where.wrong(int((~finite).argmax()), "a number is not finite", "leave that row out, or embed it again")
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (lengths > _SHORTEST).all():
        raise where.wrong(int((lengths[:, 0] <= _SHORTEST).argmax()), "all zeros", "leave that row out")
    rows: NDArray[np.float32] = (wide / lengths).astype(np.float32)
    return rows


def _wrong(source: Path, problem: str, advice: str) -> SourceError:
    return SourceError(str(source), problem, advice)
