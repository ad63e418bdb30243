"""Data sets in the layout of MTEB: Parquet tables of a corpus, of queries and of qrels, with the images in them.

A table `corpus` and one `query` (or `queries`) have the columns `id` and `image` (bytes and path, as Hugging Face's
`datasets` stores images); the table `qrels` has `query-id`, `corpus-id` and `score`. A table is one file or several,
`corpus-00000-of-00002.parquet` or `corpus/test-00000-of-00001.parquet`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from simsearch.errors import SourceError
from simsearch.files import create_output_folder
from simsearch.interchange.tables import TableReader

CORPUS, QUERY, QRELS = "corpus", "query", "qrels"
QRELS_COLUMNS = ("query-id", "corpus-id")

_IMAGE_COLUMNS = ("id", "image")
_N_ROWS = 32
"""Rows, with their images, that are in memory at once."""

_STAMP = "unpacked.json"
_EXTENSIONS = {
    b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MtebTables:
    """The Parquet files of a data set by table, each in order of their names."""

    corpus: tuple[Path, ...]
    query: tuple[Path, ...]
    qrels: tuple[Path, ...]


def find_tables(folder: str | Path) -> MtebTables | None:
    """Find the tables of a data set in a folder; None where it is no such folder.

    Of several splits, `test` is taken.
    """
    if not os.path.isdir(folder):
        return None
    found: dict[str, list[Path]] = {CORPUS: [], QUERY: [], QRELS: []}
    for file in sorted(Path(folder).rglob("*.parquet")):
        words = (*file.relative_to(folder).parent.parts, file.name)
        if table := next((name for word in words for name in found if _names_table(word, name)), None):
            found[table].append(file)
    if not all(found.values()):
        return None
    return MtebTables(*(tuple(_select_split(files)) for files in found.values()))


def _names_table(word: str, table: str) -> bool:
    names = (QUERY, "queries") if table == QUERY else (table,)
    return any(word == name or word.startswith((f"{name}-", f"{name}.")) for name in names)


def _select_split(files: Sequence[Path]) -> Sequence[Path]:
    test = [file for file in files if "test" in file.name]
    return test or files


def unpack_images(tables: MtebTables, folder: Path, source: str) -> None:
    """Write the images of the corpus and of the queries as files into a folder, once for the same tables.

    Raises `SourceError` for tables without images, `UsageError` where the folder holds other things, `MissingExtra`
    without pyarrow.
    """
    stamp = _describe_files([*tables.corpus, *tables.query])
    former = _read_stamp(folder)
    if former == stamp:
        return
    if former is not None:  # images of other tables, written by this function
        shutil.rmtree(folder)
    with create_output_folder(folder) as place:
        for name, files in ((CORPUS, tables.corpus), (QUERY, tables.query)):
            (place / name).mkdir()
            if not sum(_unpack_images(file, place / name) for file in files):
                problem = f"the table {name} of {source} has no images"
                raise SourceError(source, problem, "only image retrieval can be measured")
        (place / _STAMP).write_text(json.dumps(stamp))


def _describe_files(files: Sequence[Path]) -> list[list[Any]]:
    return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _read_stamp(folder: Path) -> Any:
    try:
        return json.loads((folder / _STAMP).read_bytes())
    except (OSError, ValueError):
        return None


def _unpack_images(file: Path, folder: Path) -> int:
    """Write the images of a table as files named by their ids; return their number."""
    reader = TableReader(file)
    if missing := [name for name in _IMAGE_COLUMNS if name not in reader.columns]:
        raise SourceError(str(file), f"{file} has no column {missing[0]}", "give the tables as MTEB publishes them")
    n_images = 0
    for row in reader.iterate_rows(_IMAGE_COLUMNS, n_rows=_N_ROWS):
        content = row["image"].get("bytes") if isinstance(row["image"], dict) else row["image"]
        if isinstance(content, bytes):
            (folder / f"{encode_id(row['id'])}{_choose_extension(content)}").write_bytes(content)
            n_images += 1
    return n_images


def encode_id(name: object) -> str:
    """Encode an id as a file name that no other id has."""
    text = quote(str(name), safe="")
    return f"%2E{text[1:]}" if text.startswith(".") else text


def _choose_extension(content: bytes) -> str:
    if content[8:12] == b"WEBP":
        return ".webp"
    return next((extension for start, extension in _EXTENSIONS.items() if content.startswith(start)), ".img")


def read_qrels_tables(tables: MtebTables) -> list[dict[str, Any]]:
    """Read the rows of the table of relevance, with `query-id`, `corpus-id` and `score`.

    Raises `SourceError` where a column is missing.
    """
    rows: list[dict[str, Any]] = []
    for file in tables.qrels:
        rows += read_parquet_rows(file, (*QRELS_COLUMNS, "score"))
    return rows


def read_parquet_rows(file: Path, needed: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Read all rows of a Parquet file without its images and vectors.

    Raises `SourceError` if it cannot be read or has no column of `needed`, `MissingExtra` without pyarrow.
    """
    reader = TableReader(file)
    if missing := [name for name in needed if name not in reader.columns]:
        raise SourceError(str(file), f"{file} has no column {missing[0]}", f"give the columns {', '.join(needed)}")
    wanted = needed or [name for name in reader.columns if name not in ("image", "vector", "embedding")]
    return list(reader.iterate_rows(wanted))
