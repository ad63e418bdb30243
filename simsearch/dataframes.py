"""Tables of columns as a pandas `DataFrame` or a `pyarrow.Table`, both from the extra `parquet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simsearch.errors import MissingExtra

Columns = Mapping[str, Sequence[Any]]
"""The values of each column, all of one length; None where there is no value."""


def build_data_frame(columns: Columns) -> Any:
    """Build a `pandas.DataFrame`. Raises `MissingExtra` without pandas."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("a pandas table", "parquet") from error
    return pandas.DataFrame({name: list(values) for name, values in columns.items()})


def build_arrow_table(columns: Columns) -> Any:
    """Build a `pyarrow.Table`; a column of numbers and texts becomes one of texts. Raises `MissingExtra`."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtra("an Arrow table", "parquet") from error
    return pyarrow.table({name: _build_array(pyarrow, values) for name, values in columns.items()})


def _build_array(pyarrow: Any, values: Sequence[Any]) -> Any:
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # of several types
        return pyarrow.array([None if value is None else str(value) for value in values])


def collect_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Collect rows as columns, in the order in which the names first occur."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
