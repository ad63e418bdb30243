"""Parquet tables, written and read in blocks. The only module here that imports pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import MissingExtra, SourceError
from simsearch.text import summarize_error

TableRow = dict[str, Any]
"""The values of one row by column name."""

TableColumns = dict[str, list[Any]]
"""The values (n,) of some rows by column name."""

_ROWS_PER_GROUP = 10_000
"""The rows of one row group, which pyarrow holds in memory before writing."""

_BLOCK_ROWS = 1_000


class TableWriter:
    """Writes a Parquet file: columns with SQL types, and a column `vector` if its width and type are given."""

    def __init__(
        self,
        file: Path,
        columns: Mapping[str, str],
        vector: tuple[int, str] | None,
        about: Mapping[str, str],
    ) -> None:
        self._pa, parquet = _import_pyarrow()
        fields = [self._pa.field(name, self._choose_type(kind)) for name, kind in columns.items()]
        self._dtype = None if vector is None else vector[1]
        if vector is not None:
            value = self._pa.float16() if vector[1] == "float16" else self._pa.float32()
            fields.append(self._pa.field("vector", self._pa.list_(value, vector[0])))
        self._schema = self._pa.schema(fields, metadata=dict(about))
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._batches: list[Any] = []

    def _choose_type(self, kind: str) -> Any:
        types = {"INTEGER": self._pa.int64(), "REAL": self._pa.float64(), "TEXTS": self._pa.list_(self._pa.string())}
        return types.get(kind.upper(), self._pa.string())

    def write(self, rows: Sequence[Mapping[str, Any]], vectors: NDArray[np.float32]) -> None:
        """Write rows, each with all columns, and their vectors (n, d)."""
        plain = [field for field in self._schema if field.name != "vector" or self._dtype is None]
        arrays = [self._pa.array([row[field.name] for row in rows], field.type) for field in plain]
        if self._dtype is not None:
            flat = self._pa.array(np.ascontiguousarray(vectors, self._dtype).ravel())
            arrays.append(self._pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
        self._batches.append(self._pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        if sum(len(batch) for batch in self._batches) >= _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._batches:
            self._writer.write_table(self._pa.Table.from_batches(self._batches))
            self._batches = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


class TableReader:
    """Reads a Parquet file.

    Raises `SourceError` if the file is not Parquet, `MissingExtra` without pyarrow.
    """

    def __init__(self, file: Path) -> None:
        pa, parquet = _import_pyarrow()
        self.file = file
        try:
            self._file = parquet.ParquetFile(file, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            problem = f"{file} cannot be read as Parquet ({summarize_error(error)})"
            raise SourceError(str(file), problem, "check the path, or export the file again") from error
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        self.n_rows: int = self._file.metadata.num_rows

    def find_list_size(self, column: str) -> int | None:
        """Find the length of the lists of a column; None if its type has no fixed length."""
        return getattr(self._file.schema_arrow.field(column).type, "list_size", None)

    @property
    def scalar_columns(self) -> tuple[str, ...]:
        """The columns of numbers, texts, booleans and times: neither lists, structures nor bytes."""
        types = _import_pyarrow()[0].types
        schema = self._file.schema_arrow
        tests = (types.is_nested, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
        return tuple(field.name for field in schema if not any(test(field.type) for test in tests))

    def iterate_blocks(
        self, columns: Sequence[str], vector: str | None, *, n_rows: int = _BLOCK_ROWS
    ) -> Iterator[tuple[TableColumns, Any]]:
        """Read blocks of up to `n_rows`: the values of `columns`, and the vectors of `vector`, (n, d) or lists."""
        wanted = list(dict.fromkeys([*columns, *([] if vector is None else [vector])]))
        for batch in self._file.iter_batches(n_rows, columns=wanted):
            values: TableColumns = {name: batch.column(name).to_pylist() for name in columns}
            yield values, None if vector is None else _convert_vectors(batch.column(vector))

    def iterate_rows(self, columns: Sequence[str], *, n_rows: int = _BLOCK_ROWS) -> Iterator[TableRow]:
        """Read the rows of some columns; memory holds up to `n_rows`."""
        for batch in self._file.iter_batches(n_rows, columns=list(columns)):
            yield from batch.to_pylist()


def _convert_vectors(column: Any) -> Any:
    """Convert a column of lists to an array (n, d) if all have one length and no nulls, else to a list."""
    if len(column) and _is_number_list(column.type) and not column.null_count:
        flat = column.flatten()
        if len(flat) % len(column) == 0 and not flat.null_count:
            width = len(flat) // len(column)
            if all(length == width for length in _list_lengths(column)):
                return flat.to_numpy(zero_copy_only=False).reshape(len(column), width)
    return column.to_pylist()


def _is_number_list(kind: Any) -> bool:
    """Whether a column type is a list of numbers, and not of lists or texts."""
    pa, _ = _import_pyarrow()
    value = getattr(kind, "value_type", None)
    return value is not None and bool(pa.types.is_floating(value) or pa.types.is_integer(value))


def _list_lengths(column: Any) -> Any:
    size = getattr(column.type, "list_size", None)
    return [size] if size is not None else np.diff(column.offsets.to_numpy()).tolist()


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("Parquet", "parquet") from error
    return pyarrow, pyarrow.parquet
