"""The content of label files: CSV, TSV, JSON, Parquet and TREC qrels, and the tables of MTEB."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, TypeGuard

from simsearch.errors import UsageError
from simsearch.evaluation.mteb import QRELS_COLUMNS, find_tables, read_parquet_rows, read_qrels_tables
from simsearch.interchange.text_tables import TextTable

FILE_COLUMNS = ("path", "file", "filename", "image", "name")
_TREC_COLUMNS = ("query-id", "iteration", "corpus-id", "score")
_TREC_ENDINGS = (".qrels", ".qrel", ".txt", ".trec")


def load_label_table(file: str) -> Any:
    """Load a label file: the value of a JSON file, else a list of rows by column.

    Raises `UsageError` when the file cannot be read, `SourceError` for a damaged Parquet file, `MissingExtra` without
    pyarrow.
    """
    lower = file.lower()
    if tables := find_tables(file):
        return read_qrels_tables(tables)
    if lower.endswith(".parquet") and Path(file).is_file():
        return read_parquet_rows(Path(file))
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            if lower.endswith((".pkl", ".pickle")):
                raise UsageError(
                    f"{file} is a pickle, and reading one can run code",
                    "convert a revisited Oxford or Paris file with bench/convert_revisited.py, others to CSV or JSON",
                )
            if lower.endswith(".json"):
                return json.load(text)
            if lower.endswith(_TREC_ENDINGS):
                return [_parse_trec_line(line) for line in text if line.strip()]
            return list(TextTable(text, (*FILE_COLUMNS, *QRELS_COLUMNS)))
    except UsageError:  # which is a ValueError, too
        raise
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})", "check the path of --labels") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise UsageError(
            f"{file} cannot be read ({error})", "the file must be CSV or JSON, qrels or Parquet"
        ) from error


def is_qrels(content: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Whether rows are judgements of pairs of a query and a document."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(row, dict) and set(QRELS_COLUMNS) <= row.keys() for row in content)
    )


def _parse_trec_line(line: str) -> dict[str, Any]:
    values = line.split()
    if len(values) != len(_TREC_COLUMNS):
        raise ValueError(f"a line of TREC qrels has 4 values, not {len(values)}: {line.strip()[:60]}")
    return dict(zip(_TREC_COLUMNS, values, strict=True))
