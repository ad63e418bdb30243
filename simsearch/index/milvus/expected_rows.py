"""What the catalog says Milvus is to hold of a model, as it is at one moment.

Read through a connection of its own, so that the catalog can be asked, and written to by others, meanwhile.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from simsearch.errors import CollectionDamaged
from simsearch.index import Ids, Vectors
from simsearch.index.milvus.schema import CatalogImageRow, MilvusRow, build_image_fields, build_row
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.connection import CATALOG_NAME, connect_to_read, translate_errors

_CHUNK_SIZE = 500
"""How many values go into one statement."""


class ExpectedRows:
    """What Milvus is to hold of a model. `last_change` and the generation of `stored` are of the same moment."""

    def __init__(self, connection: sqlite3.Connection, catalog: Catalog, stored: StoredModel) -> None:
        self._connection = connection
        self._folder = catalog.folder
        self.stored = catalog.find_model(stored.fingerprint) or stored
        self.last_change = catalog.find_last_change()

    def __len__(self) -> int:
        return int(self._query_value("SELECT count(*) FROM vectors WHERE model_id = ?", (self.stored.id,)))

    @property
    def last_view_id(self) -> int:
        """The largest id of a view with a vector, 0 where there is none."""
        return int(
            self._query_value("SELECT ifnull(max(view_id), 0) FROM vectors WHERE model_id = ?", (self.stored.id,))
        )

    def sample(self, n_most: int) -> list[int]:
        """The ids of at most that many views, drawn among all; always the same ones of the same state."""
        rows = self._connection.execute("SELECT view_id FROM vectors WHERE model_id = ?", (self.stored.id,))
        ids = [row[0] for row in rows]
        return sorted(random.Random(0).sample(ids, min(n_most, len(ids))))

    def list_changed_images(self, change: int) -> list[int]:
        """The ids of the images that have changed since the change of that number, deleted ones among them."""
        query = "SELECT image_id FROM changes WHERE number > ? ORDER BY image_id"
        return [row[0] for row in self._connection.execute(query, (change,))]

    def read_image_rows(self, image_ids: Sequence[int]) -> list[MilvusRow]:
        """The rows of all views of some images."""
        found: list[tuple[int, int, str]] = []
        for some, marks in _split_chunks(image_ids):
            query = f"""SELECT view_id, image_id, kind FROM views JOIN vectors ON view_id = views.id AND model_id = ?
                        WHERE image_id IN ({marks})"""
            found += self._connection.execute(query, (self.stored.id, *some))
        return self._build_rows(found)

    def read_row_range(self, above: int, up_to: int) -> list[MilvusRow]:
        """The rows of the views whose ids lie above one number and not above another."""
        query = """SELECT view_id, image_id, kind FROM vectors JOIN views ON views.id = view_id
                   WHERE model_id = ? AND view_id > ? AND view_id <= ?"""
        return self._build_rows(self._connection.execute(query, (self.stored.id, above, up_to)).fetchall())

    def read_vectors(self, view_ids: Sequence[int]) -> tuple[Ids, Vectors]:
        """The ids (m,) and vectors (m, d) of those views, in no order. Raises `CollectionDamaged`."""
        found: list[tuple[int, bytes]] = []
        for some, marks in _split_chunks(view_ids):
            query = f"SELECT view_id, vector FROM vectors WHERE model_id = ? AND view_id IN ({marks})"
            found += self._connection.execute(query, (self.stored.id, *some))
        width = self.stored.width
        if any(len(blob) != 4 * width for _, blob in found):
            raise CollectionDamaged(
                str(self._folder), "a vector has a wrong length", "see `simsearch verify`, then index again"
            )
        rows = np.frombuffer(b"".join(blob for _, blob in found), "<f4").reshape(len(found), width)
        return np.array([view_id for view_id, _ in found], np.int64), rows.astype(np.float32, copy=False)

    def _build_rows(self, found: Sequence[tuple[int, int, str]]) -> list[MilvusRow]:
        fields = self._read_image_fields(sorted({image_id for _, image_id, _ in found}))
        return [build_row(view_id, kind, fields[image_id]) for view_id, image_id, kind in sorted(found)]

    def _read_image_fields(self, image_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        made: dict[int, dict[str, Any]] = {}
        for some, marks in _split_chunks(image_ids):
            files = self._group_by_image("files", "path, size_bytes, mtime_ns", some, marks)
            own = self._group_by_image("annotations", "name, value", some, marks)
            query = f"SELECT id, width, height, format, taken_at, camera FROM images WHERE id IN ({marks})"
            for facts in self._connection.execute(query, some):
                image_id = facts[0]
                made[image_id] = build_image_fields(
                    CatalogImageRow(facts, files.get(image_id, ()), dict(own.get(image_id, ())))
                )
        return made

    def _group_by_image(self, table: str, columns: str, ids: Sequence[int], marks: str) -> dict[int, list[Any]]:
        rows: dict[int, list[Any]] = {}
        query = f"SELECT image_id, {columns} FROM {table} WHERE image_id IN ({marks})"
        for image_id, *values in self._connection.execute(query, ids):
            rows.setdefault(image_id, []).append(tuple(values))
        return rows

    def _query_value(self, query: str, values: Sequence[Any]) -> Any:
        return self._connection.execute(query, values).fetchone()[0]


@contextmanager
def open_expected_rows(catalog: Catalog, stored: StoredModel) -> Iterator[ExpectedRows]:
    """What Milvus is to hold of a model at this moment, whatever is written meanwhile."""
    with translate_errors(catalog.folder), closing(connect_to_read(catalog.folder / CATALOG_NAME)) as connection:
        connection.execute("BEGIN")
        yield ExpectedRows(connection, Catalog(catalog.folder, connection), stored)


def _split_chunks(ids: Sequence[int]) -> Iterator[tuple[Sequence[int], str]]:
    for start in range(0, len(ids), _CHUNK_SIZE):
        some = ids[start : start + _CHUNK_SIZE]
        yield some, ", ".join("?" * len(some))
