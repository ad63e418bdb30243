"""Read the vectors of another tool in blocks, and check them.

| source | content |
|---|---|
| a folder | `img_emb/*.npy` and `metadata/*.parquet`, paired in the order of their names (clip-retrieval); or `*.npy`,
  each with its table, or `*.parquet` with a column of vectors (embedding-reader) |
| `.npy` | (n, d); the paths are in a table with the same name: .parquet, .csv or .txt (one path per line) |
| `.parquet`, `.csv`, `.jsonl` | a column of paths and a column of vectors (lists; in CSV as JSON) |

With keys in place of paths a key may be any text or number, a .npy without a table has the numbers of its rows, and all
other columns are read, too. The output of `simsearch export` can be read too; rows of augmented views (`kind` other
than `original`) are left out.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import SourceError
from simsearch.interchange.annotations import parse_cell
from simsearch.interchange.tables import TableColumns, TableReader, TableRow
from simsearch.interchange.text_tables import TextTable
from simsearch.sources.path_codec import is_valid_path
from simsearch.text import count

_PATH_COLUMNS = ("path", "image_path", "filepath", "file_path", "filename", "file_name", "file", "url")
_KEY_COLUMNS = (*_PATH_COLUMNS, "key", "id", "image_id", "name")
_VECTOR_COLUMNS = ("vector", "embedding", "embeddings", "emb", "image_embedding", "features")
_BLOCK_ROWS = 1_000
_KEYED_BLOCK_ROWS = 5_000
_MIN_LENGTH = 1e-6
_NOT_NUMBERS = ("a vector is not a list of numbers", "export it again, with one list of numbers per image")
_NOT_FINITE = ("a number is not finite", "remove the row, or embed the picture again")

TableBlocks = Iterator[tuple[TableColumns, Any]]
"""Blocks of columns, with their vectors as (n, d), or as lists whose lengths are not checked yet."""


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """The names of the columns of paths and vectors; None for the first of the usual names that exists.

    With `has_keys` the column `path` has keys of any kind, and every other column is read.
    """

    path: str | None = None
    vector: str | None = None
    has_keys: bool = False

    @property
    def usual_paths(self) -> tuple[str, ...]:
        """The usual names of the column of paths or keys."""
        return _KEY_COLUMNS if self.has_keys else _PATH_COLUMNS

    @property
    def block_rows(self) -> int:
        """The number of rows that are read together."""
        return _KEYED_BLOCK_ROWS if self.has_keys else _BLOCK_ROWS


@dataclass(frozen=True, slots=True)
class EmbeddingBlock:
    """Paths or keys as they are written in the source, their vectors (n, d), unit rows, and all columns if wanted."""

    paths: Sequence[str]
    vectors: NDArray[np.float32]
    columns: TableColumns = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _VectorFile:
    """One file of vectors, or a pair of files: its name in messages, and a function that reads it from the start."""

    name: str
    read: Callable[[], TableBlocks]


class EmbeddingSource:
    """A source of vectors of one width."""

    def __init__(self, source: Path, parts: Sequence[_VectorFile], columns: ColumnNames) -> None:
        self.source = source
        self._parts = parts
        self._columns = columns
        first = next(self._iterate_checked_blocks(None), None)
        if first is None:
            raise _build_error(source, f"{source} has no vectors", "use another source")
        self.width: int = first.vectors.shape[1]
        self.key_column: str | None = columns.path or next(
            (name for name in columns.usual_paths if name in first.columns), None
        )

    def iterate_blocks(self) -> Iterator[EmbeddingBlock]:
        """Read all rows in order, about a thousand at a time, with vectors normalized to length 1.

        Raises `SourceError` at the first row without a path, with another width than before, with a number that is not
        finite, or with only zeros.
        """
        return self._iterate_checked_blocks(self.width)

    def _iterate_checked_blocks(self, width: int | None) -> Iterator[EmbeddingBlock]:
        for part in self._parts:
            n_read = 0
            for columns, numbers in part.read():
                where = _BlockLocation(self.source, part.name, n_read)
                vectors = _normalize_rows(numbers, width, where)
                block = EmbeddingBlock(
                    _read_paths(columns, self._columns, where), vectors, columns if self._columns.has_keys else {}
                )
                n_read += len(vectors)
                width = vectors.shape[1]
                if "kind" in columns:
                    block = _select_rows(block, [kind in (None, "", "original") for kind in columns["kind"]])
                if block.paths:
                    yield block


def _select_rows(block: EmbeddingBlock, is_kept: Sequence[bool]) -> EmbeddingBlock:
    columns = {name: list(itertools.compress(values, is_kept)) for name, values in block.columns.items()}
    return EmbeddingBlock(list(itertools.compress(block.paths, is_kept)), block.vectors[np.array(is_kept)], columns)


@dataclass(frozen=True, slots=True)
class _BlockLocation:
    """The start of a block, for error messages."""

    source: Path
    part: str
    first_row: int

    def build_error(self, row: int, problem: str, advice: str) -> SourceError:
        return _build_error(self.source, f"{self.part}, row {self.first_row + row + 1}: {problem}", advice)


def open_embeddings(
    source: Path, *, metadata: Path | None = None, columns: ColumnNames | None = None
) -> EmbeddingSource:
    """Open the vectors in `source`; `metadata` is the table of a .npy file if it has another name.

    Raises `SourceError` if the source is missing, unsupported or empty, or if the files of vectors and metadata differ
    in number or length; `MissingExtra` for Parquet without pyarrow.
    """
    columns = columns or ColumnNames()
    if source.is_dir():
        parts = _open_folder(source, metadata, columns)
    elif not source.is_file():
        raise _build_error(source, f"{source} does not exist", "check the path")
    elif source.suffix.lower() == ".npy":
        parts = _open_npy_files([source], metadata, columns)
    else:
        parts = [_VectorFile(source.name, lambda: _read_table(source, columns, with_vectors=True))]
    return EmbeddingSource(source, parts, columns)


def _open_folder(folder: Path, metadata: Path | None, columns: ColumnNames) -> list[_VectorFile]:
    if arrays := sorted((folder / "img_emb").glob("*.npy")):
        return _pair_files(folder, arrays, sorted((folder / "metadata").glob("*.parquet")), columns)
    if arrays := sorted(folder.glob("*.npy")):
        if metadata is not None and metadata.is_dir():
            return _pair_files(folder, arrays, sorted(metadata.glob("*.parquet")), columns)
        return _open_npy_files(arrays, metadata, columns)
    if tables := sorted(folder.glob("*.parquet")):
        return [_VectorFile(table.name, _bind_table(table, columns)) for table in tables]
    advice = "use a folder in the layout of clip-retrieval, or a .npy, .parquet, .csv or .jsonl file"
    raise _build_error(folder, f"{folder} has no img_emb/*.npy, *.npy or *.parquet", advice)


def _bind_table(table: Path, columns: ColumnNames) -> Callable[[], TableBlocks]:
    return lambda: _read_table(table, columns, with_vectors=True)


def _open_npy_files(arrays: Sequence[Path], metadata: Path | None, columns: ColumnNames) -> list[_VectorFile]:
    """Open .npy files, each with its table; with keys a file without a table has the numbers of the rows as keys."""
    parts, n_before = [], 0
    for array in arrays:
        table = metadata if metadata is not None and len(arrays) == 1 else _find_table(array, columns)
        if table is None:
            parts.append(_VectorFile(array.name, _bind_numbered(array, n_before)))
            n_before += len(_open_npy(array))
        else:
            parts.append(_open_npy_pair(array, table, columns))
    return parts


def _bind_numbered(array: Path, n_before: int) -> Callable[[], TableBlocks]:
    def read() -> TableBlocks:
        for start in range(0, len(_open_npy(array)), _KEYED_BLOCK_ROWS):
            block = _open_npy(array)[start : start + _KEYED_BLOCK_ROWS]
            yield {"key": list(range(n_before + start, n_before + start + len(block)))}, block

    return read


def _pair_files(
    folder: Path, arrays: Sequence[Path], tables: Sequence[Path], columns: ColumnNames
) -> list[_VectorFile]:
    if len(arrays) != len(tables):
        problem = f"{folder} has {count(len(arrays), '.npy file')} and {count(len(tables), 'table')} of metadata"
        raise _build_error(folder, problem, "each .npy needs a .parquet: export again, or remove the extra file")
    return [_open_npy_pair(array, table, columns) for array, table in zip(arrays, tables, strict=True)]


def _open_npy_pair(array: Path, table: Path, columns: ColumnNames) -> _VectorFile:
    """Open a .npy file and its table, and check that their lengths are equal."""
    n_rows, n_vectors = _count_rows(table, columns), len(_open_npy(array))
    if n_rows != n_vectors:
        problem = f"{array.name} has {n_vectors} vectors and {table.name} {n_rows} rows"
        raise _build_error(array, problem, "use two files of the same export")

    def read() -> TableBlocks:
        start = 0
        for values, _ in _read_table(table, columns, with_vectors=False):
            end = start + _count_values(values)
            yield values, _open_npy(array)[start:end]  # mapped anew, so that memory holds one block
            start = end

    return _VectorFile(array.name, read)


def _count_rows(table: Path, columns: ColumnNames) -> int:
    if table.suffix.lower() == ".parquet" and table.is_file():
        reader = TableReader(table)
        _find_column(table, reader.columns, columns.path, columns.usual_paths)
        return reader.n_rows
    return sum(_count_values(values) for values, _ in _read_table(table, columns, with_vectors=False))


def _count_values(columns: TableColumns) -> int:
    return len(next(iter(columns.values())))


def _open_npy(file: Path) -> NDArray[Any]:
    try:
        vectors = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _build_error(
            file, f"{file} cannot be read as .npy ({error})", "export it again with numpy.save"
        ) from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        found = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else "an archive"
        raise _build_error(file, f"{file} is {found}, not an array (n, d) of numbers", "save one row per image")
    return vectors


def _find_table(array: Path, columns: ColumnNames) -> Path | None:
    """Find the table beside a .npy file; None where there is none and none is needed."""
    for suffix in (".parquet", ".csv", ".txt"):
        if (table := array.with_suffix(suffix)).is_file():
            return table
    if columns.has_keys:
        return None
    problem = f"{array} has no table of paths"
    raise _build_error(array, problem, f"add {array.stem}.csv with a column `path`, or give the table (--metadata)")


def _read_table(file: Path, columns: ColumnNames, *, with_vectors: bool) -> TableBlocks:
    """Read columns in blocks, at least that of the paths; also the vectors, if they are in the same file."""
    kind = file.suffix.lower()
    if kind == ".parquet":
        table = TableReader(file)
        vector = _find_column(file, table.columns, columns.vector, _VECTOR_COLUMNS) if with_vectors else None
        path = _find_column(file, table.columns, columns.path, columns.usual_paths)
        also = [name for name in ("path_hex", "kind") if name in table.columns]
        others = [name for name in table.scalar_columns if columns.has_keys and name != vector]
        yield from table.iterate_blocks(list(dict.fromkeys([path, *also, *others])), vector, n_rows=columns.block_rows)
    elif kind in (".csv", ".tsv", ".jsonl", ".ndjson", ".txt"):
        yield from _read_text_table(file, columns, with_vectors=with_vectors)
    else:
        raise _build_error(file, f"{file} has an unsupported format", "use a .npy, .parquet, .csv or .jsonl file")


def _read_text_table(file: Path, columns: ColumnNames, *, with_vectors: bool) -> TableBlocks:
    keys = columns.usual_paths if columns.path is None else (columns.path,)
    readers: dict[str, Callable[[Iterable[str]], Iterator[TableRow]]] = {
        ".csv": lambda lines: TextTable(lines, keys),
        ".tsv": lambda lines: TextTable(lines, keys),
        ".txt": _parse_path_lines,
    }
    kind = file.suffix.lower()
    read = readers.get(kind, _parse_json_lines)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = read(stream)
            while block := list(itertools.islice(rows, columns.block_rows)):
                values: TableColumns = {
                    name: [row.get(name) for row in block] for name in dict.fromkeys(itertools.chain(*block))
                }
                if columns.has_keys and kind in (".csv", ".tsv"):
                    _parse_cells(file, values, columns)
                vector = _find_column(file, block[0], columns.vector, _VECTOR_COLUMNS) if with_vectors else None
                yield values, None if vector is None else [_parse_numbers(text) for text in values.pop(vector)]
    except RecursionError as error:
        raise _build_error(file, f"{file} cannot be read (its JSON is nested too deeply)", "export it again") from error
    except (OSError, ValueError, csv.Error) as error:  # ValueError also for text that is not UTF-8 or not JSON
        raise _build_error(file, f"{file} cannot be read ({error})", "export it again") from error


def _parse_cells(file: Path, values: TableColumns, columns: ColumnNames) -> None:
    """Parse the cells of a CSV file other than keys and vectors as numbers and booleans, in place."""
    key = _find_column(file, values, columns.path, columns.usual_paths)
    for name in values.keys() - {key, columns.vector, *_VECTOR_COLUMNS}:
        values[name] = [parse_cell(cell) if isinstance(cell, str) else cell for cell in values[name]]


def _parse_path_lines(lines: Iterable[str]) -> Iterator[TableRow]:
    return ({"path": line.rstrip("\r\n")} for line in lines)


def _parse_json_lines(lines: Iterable[str]) -> Iterator[TableRow]:
    for number, line in enumerate(lines, start=1):
        if not line.isspace():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is not a JSON object")
            yield row


def _parse_numbers(value: Any) -> Any:
    """Parse a list of numbers, written as JSON or separated by blanks or commas."""
    if not isinstance(value, str):
        return value
    inner = value.strip().removeprefix("[").removesuffix("]")
    return [float(number) for number in inner.replace(",", " ").split()]


def _find_column(file: Path, columns: Iterable[str], name: str | None, usual: Sequence[str]) -> str:
    """Find the column `name`, or the first of the usual names."""
    existing = list(columns)
    for candidate in usual if name is None else [name]:
        if candidate in existing:
            return candidate
    wanted = name or f"{', '.join(usual[:-1])} or {usual[-1]}"
    problem = f"{file.name} has no column {wanted}; it has {', '.join(existing) or 'none'}"
    raise _build_error(file, problem, "rename the column")


def _read_paths(values: TableColumns, columns: ColumnNames, where: _BlockLocation) -> list[str]:
    name = _find_column(Path(where.part), values, columns.path, columns.usual_paths)
    encoded = values.get("path_hex", itertools.repeat(None))
    return [
        _decode_path(raw, where, number) if raw else _check_path(path, name, columns.has_keys, where, number)
        for number, (path, raw) in enumerate(zip(values[name], encoded, strict=False))
    ]


def _decode_path(raw: Any, where: _BlockLocation, number: int) -> str:
    try:
        return os.fsdecode(bytes.fromhex(raw))
    except (TypeError, ValueError) as error:
        raise where.build_error(number, f"path_hex {raw!r} is not hexadecimal", "export it again") from error


def _check_path(path: Any, name: str, is_key: bool, where: _BlockLocation, number: int) -> str:
    """Check the path or key of a row, in the column `name`; a whole number may be a key."""
    if is_key and isinstance(path, int):
        path = str(path)
    if not isinstance(path, str) or not path:
        if is_key:
            raise where.build_error(number, f"the key in column {name} is missing", "every vector needs a key")
        raise where.build_error(number, "the path is missing", "every vector needs the path of its picture")
    if not is_valid_path(path):
        raise where.build_error(number, f"{path!r} cannot be the path of a file", "correct the path")
    return path


def normalize_rows(numbers: NDArray[Any], source: Path, first_row: int) -> NDArray[np.float32]:
    """Convert numbers (n, d) to rows of unit length. Raises `SourceError`, which counts rows from `first_row` + 1."""
    return _normalize_rows(numbers, None, _BlockLocation(source, source.name, first_row))


def _normalize_rows(numbers: Any, width: int | None, where: _BlockLocation) -> NDArray[np.float32]:
    """Convert the numbers to (n, d) float32 rows of unit length, and check them."""
    if not isinstance(numbers, np.ndarray):
        numbers = _stack_lists(numbers, width, where)
    if width is not None and numbers.shape[1] != width:
        raise where.build_error(0, *_describe_wrong_width(numbers.shape[1], width))
    with np.errstate(over="ignore"):  # a long double that is too large becomes infinite
        wide = numbers.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    if not (has_length := np.isfinite(lengths)).all():
        if not (finite := np.isfinite(wide).all(axis=1)).all():
            raise where.build_error(int((~finite).argmax()), *_NOT_FINITE)
        # Squares of large numbers overflow, so these rows are first divided by a power of two, which is exact.
        large = wide[~has_length]
        wide[~has_length] = np.ldexp(large, -np.frexp(np.abs(large).max(axis=1, keepdims=True))[1])
        lengths[~has_length] = np.linalg.norm(wide[~has_length], axis=1)
    if (is_short := lengths <= _MIN_LENGTH).any():
        raise where.build_error(int(is_short.argmax()), "all numbers are zero", "remove the row")
    rows: NDArray[np.float32] = (wide / lengths[:, None]).astype(np.float32)
    return rows


def _stack_lists(lists: Sequence[Any], width: int | None, where: _BlockLocation) -> NDArray[np.float64]:
    """Stack lists of numbers to (n, d), and check that each is a flat list of the same length."""
    rows: list[NDArray[np.float64]] = []
    for number, values in enumerate(lists):
        try:
            row = np.array([] if values is None else values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise where.build_error(number, *_NOT_NUMBERS) from error
        except OverflowError as error:  # an integer beyond the range of a float
            raise where.build_error(number, *_NOT_FINITE) from error
        if row.ndim != 1 or isinstance(values, str | bytes):
            raise where.build_error(number, *_NOT_NUMBERS)
        width = width or len(row)
        if len(row) != width or not width:
            raise where.build_error(number, *_describe_wrong_width(len(row), width))
        rows.append(row)
    return np.stack(rows)


def _describe_wrong_width(found: int, expected: int) -> tuple[str, str]:
    return f"{found} numbers where {expected or 'some'} are expected", "all vectors must be of one model"


def _build_error(source: Path, problem: str, advice: str) -> SourceError:
    return SourceError(str(source), problem, advice)
