"""Export the vectors of a model, with the data of their images, to the file formats of other tools.

| format | output |
|---|---|
| `parquet` | one file: one row per view, `vector` is a list of fixed length |
| `npy` | a folder in the layout of clip-retrieval: `img_emb/img_emb_0000.npy` (n, d), and its rows in
  `metadata/metadata_0000.parquet` with `image_path`; embedding-reader and autofaiss read it |
| `csv`, `jsonl` | one text file: one row or line per view, `vector` is a JSON list |

Rows are sorted by view id. A path that is not valid UTF-8 has U+FFFD in its text, and its bytes as hexadecimal
digits in `path_hex`, which is empty for all other paths.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.files import create_output_folder, replace_output_file
from simsearch.interchange.tables import TableWriter
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.snapshot import ModelViews, ViewRecord, open_model_views

ExportFormat = Literal["parquet", "npy", "csv", "jsonl"]
VectorKind = Literal["float32", "float16", "none"]
"""The format of vectors: unchanged, rounded to half the size, or left out."""

FORMATS: tuple[str, ...] = get_args(ExportFormat)
ROWS_PER_FILE = 250_000
"""The number of rows in one .npy file of the `npy` layout."""

ExportRow = dict[str, Any]
"""The values of a row by column, in the order of the columns."""

RowBlock = tuple[list[ExportRow], NDArray[np.float32]]
"""Rows, and their vectors (n, d)."""


@dataclass(frozen=True, slots=True)
class _ExportOptions:
    """The format of vectors, and the number of rows in one .npy file."""

    vectors: VectorKind
    rows_per_file: int


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of an export: where it was written, its format and its number of rows."""

    path: Path
    format: ExportFormat
    n_rows: int

    def to_dict(self) -> dict[str, Any]:
        """The report as `export --json` prints it, below the model."""
        return {"path": str(self.path), "format": self.format, "rows": self.n_rows}


def export(
    catalog: Catalog,
    stored: StoredModel,
    output: Path,
    *,
    format: ExportFormat | None = None,
    vectors: VectorKind = "float32",
    rows_per_file: int = ROWS_PER_FILE,
) -> ExportReport:
    """Write the views of a model to the file or folder `output`.

    The default format is that of the extension, or `npy` without an extension. Memory does not grow with the
    collection. Augmented views are rows too, with `kind` and `parameters`.

    Raises `UsageError` on an unknown extension or a folder that is not empty, `MissingExtra` without pyarrow,
    `SimsearchError` if the output cannot be written.
    """
    chosen = format or _choose_format(output)
    if chosen == "npy" and vectors == "none":
        raise UsageError("the npy layout needs vectors", "export them, or choose csv, jsonl or parquet")
    with open_model_views(catalog.folder, stored) as views:
        n_rows = _WRITERS[chosen](views, output, _ExportOptions(vectors, rows_per_file))
    return ExportReport(output, chosen, n_rows)


def _choose_format(output: Path) -> ExportFormat:
    formats: dict[str, ExportFormat] = {
        ".parquet": "parquet",
        ".csv": "csv",
        ".jsonl": "jsonl",
        ".ndjson": "jsonl",
        "": "npy",
    }
    try:
        return formats[output.suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{output} has no known extension",
            "use .parquet, .csv or .jsonl, or give a folder and --format npy (NumPy)",
        ) from None


def encode_path(path: str) -> tuple[str, str | None]:
    """Encode a path as valid UTF-8 text, and its bytes in hexadecimal if they are not valid UTF-8."""
    raw = os.fsencode(path)
    text = raw.decode("utf-8", "replace")
    return text, None if os.fsencode(text) == raw else raw.hex()


def _build_row(record: ViewRecord, image_columns: Iterable[str], path_name: str) -> ExportRow:
    text, raw = encode_path(record.path)
    return {
        "view_id": record.view_id,
        "image_id": record.image_id,
        path_name: text,
        "path_hex": raw,
        "paths": [encode_path(path)[0] for path in record.paths],
        "kind": record.kind,
        "parameters": record.parameters,
        **dict(zip(image_columns, record.image_values, strict=True)),
    }


def _iterate_blocks(views: ModelViews, path_name: str, chosen: NDArray[np.int64] | None = None) -> Iterator[RowBlock]:
    for records, vectors in views.iterate_blocks(chosen):
        yield [_build_row(record, views.image_columns, path_name) for record in records], vectors


def _list_columns(views: ModelViews, path_name: str) -> dict[str, str]:
    """List the columns with their SQL types, in the order of `_build_row`."""
    texts = {path_name: "TEXT", "path_hex": "TEXT", "paths": "TEXTS", "kind": "TEXT", "parameters": "TEXT"}
    return {"view_id": "INTEGER", "image_id": "INTEGER", **texts, **views.image_columns}


def _build_metadata(views: ModelViews) -> dict[str, str]:
    model = views.stored.model
    return {
        "simsearch.model": views.stored.fingerprint,
        "simsearch.backbone": model.backbone,
        "simsearch.details": model.to_json(),
    }


def _write_parquet(views: ModelViews, output: Path, options: _ExportOptions) -> int:
    width = None if options.vectors == "none" else (views.stored.width, options.vectors)
    n_rows = 0
    with (
        replace_output_file(output) as temporary,
        TableWriter(temporary, _list_columns(views, "path"), width, _build_metadata(views)) as table,
    ):
        for rows, vectors in _iterate_blocks(views, "path"):
            table.write(rows, vectors)
            n_rows += len(rows)
    return n_rows


def _write_npy(views: ModelViews, output: Path, options: _ExportOptions) -> int:
    ids = views.list_view_ids()
    parts = [ids[start : start + options.rows_per_file] for start in range(0, len(ids), options.rows_per_file)] or [ids]
    with create_output_folder(output) as temporary:
        (temporary / "img_emb").mkdir()
        (temporary / "metadata").mkdir()
        for number, part in enumerate(parts):
            table_file = temporary / "metadata" / f"metadata_{number:04}.parquet"
            with (
                (temporary / "img_emb" / f"img_emb_{number:04}.npy").open("wb") as stream,
                TableWriter(table_file, _list_columns(views, "image_path"), None, _build_metadata(views)) as table,
            ):
                descr = np.lib.format.dtype_to_descr(np.dtype(options.vectors).newbyteorder("<"))
                header = {"descr": descr, "fortran_order": False, "shape": (len(part), views.stored.width)}
                np.lib.format.write_array_header_1_0(stream, header)
                for rows, vectors in _iterate_blocks(views, "image_path", part):
                    stream.write(vectors.astype(descr).tobytes())
                    table.write(rows, vectors)
    return len(ids)


def _write_csv(views: ModelViews, output: Path, options: _ExportOptions) -> int:
    columns = [*_list_columns(views, "path"), *([] if options.vectors == "none" else ["vector"])]
    n_rows = 0
    with replace_output_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for rows, vectors in _iterate_blocks(views, "path"):
            for row, text in zip(rows, _format_vectors(vectors, options.vectors), strict=True):
                filled = row | {"paths": json.dumps(row["paths"], ensure_ascii=False)}
                writer.writerow(filled if text is None else filled | {"vector": text})
            n_rows += len(rows)
    return n_rows


def _write_jsonl(views: ModelViews, output: Path, options: _ExportOptions) -> int:
    n_rows = 0
    with replace_output_file(output) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for rows, vectors in _iterate_blocks(views, "path"):
            for row, text in zip(rows, _format_vectors(vectors, options.vectors), strict=True):
                line = json.dumps(row | {"parameters": json.loads(row["parameters"])}, ensure_ascii=False)
                stream.write((line if text is None else f'{line[:-1]}, "vector": {text}}}') + "\n")
            n_rows += len(rows)
    return n_rows


def _format_vectors(vectors: NDArray[np.float32], kind: VectorKind) -> list[str] | list[None]:
    """Format each vector as a JSON list, with the digits that preserve every bit: 9 for float32, 5 for float16."""
    if kind == "none":
        return [None] * len(vectors)
    digits = "%.9g" if kind == "float32" else "%.5g"
    form = "[" + ", ".join([digits] * vectors.shape[1]) + "]"
    return [form % tuple(row) for row in vectors.astype(kind).tolist()]


_WRITERS: dict[ExportFormat, Callable[[ModelViews, Path, _ExportOptions], int]] = {
    "parquet": _write_parquet,
    "npy": _write_npy,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}
