"""Import vectors without their pictures: keys, vectors and columns, in batches of one transaction each.

A key is an address, a path or an id. Each becomes an image whose picture has not been read: size and format are
unknown, and nothing is decoded. Indexing its file later gives the image its content, and keeps its vectors and columns.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from simsearch.errors import SourceError, UsageError
from simsearch.filters import FIELD_KINDS
from simsearch.index.backends import open_index_backend
from simsearch.ingest.pipeline import Progress
from simsearch.ingest.plan import check_new_folder
from simsearch.interchange.annotations import AnnotationValue
from simsearch.interchange.embeddings import EmbeddingBlock, normalize_rows
from simsearch.interchange.importer import ImportReport, build_imported_model, check_name
from simsearch.interchange.tables import TableColumns
from simsearch.models.choice import list_backbone_names
from simsearch.sources.path_codec import is_valid_path
from simsearch.sources.scan import PICTURE_EXTENSIONS
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.writer import CatalogWriter, UnreadImages
from simsearch.text import replace_invalid_unicode

_ARRAY_BLOCK_ROWS = 5_000
_MAX_INTEGER = 2**63
_SIZE_COLUMNS = ("width", "height")


class KeyedVectors(Protocol):
    """Vectors of one width with their keys, that can be read several times; the column of the keys where it has one."""

    width: int
    key_column: str | None

    def iterate_blocks(self) -> Iterator[EmbeddingBlock]:
        """Read all rows in order, some thousand at a time. Raises `SourceError` on a row that is not valid."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorImportOptions:
    """What to import without pictures.

    `source` names the vectors in messages, `name` is the name of their backbone, `root` the folder that relative paths
    start at, `columns` the columns to take as the user's own, None for all.
    """

    source: Path
    name: str
    root: Path = field(default_factory=Path)
    columns: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip() or self.name in list_backbone_names():
            raise UsageError(f"{self.name!r} is not a name for imported vectors", "give another --name, such as clip")


class ArraySource:
    """Vectors (n, d) in memory with n keys, and columns of n values each.

    Raises `SourceError` where the lengths differ.
    """

    def __init__(self, keys: Sequence[Any], vectors: NDArray[Any], columns: Mapping[str, Sequence[Any]]) -> None:
        self._keys, self._vectors, self._columns = keys, np.asarray(vectors), columns
        if self._vectors.ndim != 2 or self._vectors.dtype.kind not in "fiu" or not len(self._vectors):
            problem = f"vectors of shape {self._vectors.shape} and type {self._vectors.dtype} are not (n, d) numbers"
            raise SourceError("vectors", problem, "give one row of floats for each key")
        for name, values in {"keys": keys, **columns}.items():
            if len(values) != len(self._vectors):
                problem = f"{name} has {len(values):,} values for {len(self._vectors):,} vectors"
                raise SourceError("vectors", problem, "give one value for each vector")
        self.width: int = self._vectors.shape[1]
        self.key_column: str | None = None

    def iterate_blocks(self) -> Iterator[EmbeddingBlock]:
        """As `KeyedVectors` says."""
        for start in range(0, len(self._vectors), _ARRAY_BLOCK_ROWS):
            end = min(start + _ARRAY_BLOCK_ROWS, len(self._vectors))
            rows = normalize_rows(self._vectors[start:end], Path("vectors"), start)
            keys = [_read_array_key(self._keys[at], at) for at in range(start, end)]
            yield EmbeddingBlock(keys, rows, {name: list(values[start:end]) for name, values in self._columns.items()})


def _read_array_key(key: Any, position: int) -> str:
    text = str(int(key)) if isinstance(key, int | np.integer) else key
    text = os.fspath(text) if isinstance(text, os.PathLike) else text
    if not isinstance(text, str) or not text:
        raise SourceError("vectors", f"key {position + 1} is {key!r}", "give texts, paths or whole numbers as keys")
    if not is_valid_path(text):
        raise SourceError(text, f"{text!r} cannot be a key", "correct it")
    return text


def import_vectors(
    folder: Path,
    catalog: Catalog | None,
    source: KeyedVectors,
    options: VectorImportOptions,
    progress: Callable[[Progress], None] = lambda _: None,
) -> ImportReport:
    """Import vectors without reading their pictures. If several rows have one key, the last counts.

    All rows are checked before anything is written. Vectors never change: a key that has a vector of this backbone
    keeps it. After an interrupted import the same call continues. Memory holds a block of rows, and 17 bytes for each
    row.

    Raises `SourceError` on the first row that is not valid, `UsageError` if the name is in use, `MissingExtra`, or a
    `CollectionError`; nothing is written then.
    """
    is_last = _find_last_rows(source, options)
    model = build_imported_model(options.name, options.source, source.width)
    if catalog is None:
        check_new_folder(folder)
    else:
        check_name(catalog, model, source.width)
    with CatalogWriter.open_or_create(folder) as writer:
        with writer.transaction():
            stored = writer.add_model(model, source.width, model.fingerprint)
            run_id = writer.begin_run(stored.id, [str(options.source)])
        n_added, n_kept = _write_blocks(writer, stored, source, options, is_last, progress)
        with writer.transaction():
            writer.end_run(run_id, embedded=n_added, reused=int(is_last.sum()) - n_added)
        with open_index_backend(writer) as indexes:
            indexes.refresh(stored.fingerprint)
        n_images = writer.count_images(stored.id)
    return ImportReport(
        str(folder), stored.fingerprint, options.name, source.width, len(is_last), int((~is_last).sum()), n_added,
        n_kept, n_images, (),
    )  # fmt: skip


def _find_last_rows(source: KeyedVectors, options: VectorImportOptions) -> NDArray[np.bool_]:
    """Read and check all rows; return for each (n,) whether no later row has its key."""
    resolver = _KeyResolver(options.root)
    digests = [
        b"".join(xxhash.xxh3_128_digest(os.fsencode(resolver.resolve(key))) for key in block.paths)
        for block in source.iterate_blocks()
    ]
    keys = np.frombuffer(b"".join(digests), "V16")
    is_last = np.zeros(len(keys), bool)
    _, positions = np.unique(keys[::-1], return_index=True)
    is_last[len(keys) - 1 - positions] = True
    return is_last


def _write_blocks(
    writer: CatalogWriter, stored: StoredModel, source: KeyedVectors, options: VectorImportOptions,
    is_last: NDArray[np.bool_], progress: Callable[[Progress], None],
) -> tuple[int, int]:  # fmt: skip
    """Write the rows, a transaction for each block; return how many vectors were added, and how many differ."""
    resolver, reader = _KeyResolver(options.root), _ColumnReader(options.columns, source.key_column)
    n_read = n_added = n_kept = 0
    for block in source.iterate_blocks():
        is_chosen = is_last[n_read : n_read + len(block.paths)]
        n_read += len(block.paths)
        columns = {name: list(itertools.compress(values, is_chosen)) for name, values in block.columns.items()}
        batch = UnreadImages(
            [resolver.resolve(key) for key in itertools.compress(block.paths, is_chosen)], block.vectors[is_chosen],
            reader.read_columns(columns), reader.read_sizes(columns),
        )  # fmt: skip
        with writer.transaction():
            counts = writer.record_unread_images(stored.id, batch)
        n_added += counts.n_added
        if counts.kept:
            n_kept += _count_different(writer, stored, batch.vectors, counts.kept)
        progress(Progress(n_read, len(is_last), n_added))
    return n_added, n_kept


def _count_different(
    writer: CatalogWriter, stored: StoredModel, vectors: NDArray[np.float32], kept: Sequence[tuple[int, int]]
) -> int:
    """Count the rows whose key keeps a stored vector that differs from the row's."""
    position_of = {view_id: at for at, view_id in kept}
    n = 0
    for ids, rows in writer.iterate_vectors(stored, np.array([view_id for _, view_id in kept], np.int64)):
        same = np.isclose(rows, vectors[[position_of[int(id_)] for id_ in ids]], atol=1e-6).all(axis=1)
        n += int((~same).sum())
    return n


class _KeyResolver:
    """Turns keys into the paths of a catalog: addresses and ids as they are, paths as `simsearch index` names files."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._resolve_folder = functools.lru_cache(maxsize=10_000)(os.path.realpath)

    def resolve(self, key: str) -> str:
        """Resolve a key."""
        if "://" in key or not is_path(key):
            return key
        folder, name = os.path.split(os.path.join(self._root, key))
        return os.path.join(self._resolve_folder(folder or "."), name)


def is_path(key: str) -> bool:
    """Whether a key without a scheme is a path: it has a separator, or the extension of a picture."""
    return "/" in key or os.sep in key or os.path.splitext(key)[1].lower() in PICTURE_EXTENSIONS


class _ColumnReader:
    """Reads the user's own columns, and the sizes of the pictures, from the columns of a table."""

    def __init__(self, wanted: Sequence[str] | None, key: str | None) -> None:
        self._wanted = None if wanted is None else frozenset(wanted)
        self._ignored = {key, "path_hex", "kind", *_SIZE_COLUMNS}
        self._names: dict[str, str] = {}

    def read_columns(self, columns: TableColumns) -> list[tuple[str, list[AnnotationValue | None]]]:
        """The names and values to store, None for no value.

        A column with the name of a field of the filters gets a `_` at its end.
        """
        for name in columns:
            if name not in self._names:
                self._names[name] = self._choose_name(name)
        return [
            (self._names[name], [convert_cell(value) for value in values])
            for name, values in columns.items()
            if self._names[name]
        ]

    def read_sizes(self, columns: TableColumns) -> list[tuple[int, int]]:
        """The columns `width` and `height` in px, (0, 0) where not whole numbers above 0; empty without them."""
        if not all(name in columns for name in _SIZE_COLUMNS):
            return []
        return list(itertools.starmap(_read_size, zip(*(columns[name] for name in _SIZE_COLUMNS), strict=True)))

    def _choose_name(self, name: str) -> str:
        """The name under which a column is stored; empty for one that is not taken."""
        if not name or name in self._ignored or (self._wanted is not None and name not in self._wanted):
            return ""
        return f"{name}_" if name in FIELD_KINDS else replace_invalid_unicode(name)


def _read_size(*sides: Any) -> tuple[int, int]:
    width, height = map(convert_cell, sides)
    is_known = all(isinstance(side, int) and 0 < side < 2**31 for side in (width, height))
    return (int(width or 0), int(height or 0)) if is_known else (0, 0)


def convert_cell(value: Any) -> AnnotationValue | None:
    """Convert a value of a table to a text or a number; None for no value, and for what is neither."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return replace_invalid_unicode(value) or None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -_MAX_INTEGER <= value < _MAX_INTEGER else float(value)
    if isinstance(value, float | decimal.Decimal):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    return None
