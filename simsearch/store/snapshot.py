"""Everything that a catalog knows of a model's views, block by block: what is exported and laid out.

Read through a connection of its own, so that all blocks are of one moment, and the catalog can be asked meanwhile.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import CollectionDamaged
from simsearch.sources.path_codec import decode_path
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.connection import CATALOG_NAME, connect_to_read, translate_errors

_BLOCK_SIZE = 500
_HAS_FILE = "EXISTS (SELECT 1 FROM files WHERE files.image_id = views.image_id)"
_JOINED_TABLES = "FROM vectors JOIN views ON views.id = view_id JOIN images ON images.id = views.image_id"


@dataclass(frozen=True, slots=True)
class ViewRecord:
    """A view of an image with at least one file. `path` is the first of `paths`, `parameters` a JSON object.

    `facts` are the columns of the table `images` other than its id, as `Reading.facts` names them.
    """

    view_id: int
    image_id: int
    paths: tuple[str, ...]
    kind: str
    parameters: str
    image_values: tuple[Any, ...]

    @property
    def path(self) -> str:
        """The image's first file."""
        return self.paths[0]


class ModelSnapshot:
    """The views that have a vector of a model and whose image has a file, by rising view id."""

    def __init__(self, catalog: Catalog, stored: StoredModel, connection: sqlite3.Connection, rule: str) -> None:
        self.stored = stored
        self._folder = catalog.folder
        self._connection = connection
        self._condition = f"model_id = ? AND {_HAS_FILE} {rule}"
        columns = connection.execute("PRAGMA table_info(images)").fetchall()
        self.image_columns: dict[str, str] = {name: kind for _, name, kind, *_ in columns if name != "id"}

    def list_view_ids(self) -> NDArray[np.int64]:
        """The ids of the views that there are, rising."""
        query = f"SELECT views.id {_JOINED_TABLES} WHERE {self._condition} ORDER BY view_id"
        rows = self._connection.execute(query, (self.stored.id,))
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def sample_ids(self, n_most: int, seed: int = 0) -> NDArray[np.int64]:
        """The ids of at most that many views, rising; of more, those drawn with the seed."""
        ids = self.list_view_ids()
        if len(ids) <= n_most:
            return ids
        return np.sort(np.random.default_rng(seed).choice(ids, n_most, replace=False))

    def read_records(self, chosen: NDArray[np.int64]) -> tuple[list[ViewRecord], NDArray[np.float32]]:
        """The records of those views (rising ids) and their vectors (n, d), all in memory."""
        records: list[ViewRecord] = []
        vectors = np.empty((len(chosen), self.stored.width), np.float32)
        for block, rows in self.iterate_blocks(chosen):
            vectors[len(records) : len(records) + len(rows)] = rows
            records += block
        return records, vectors

    def iterate_blocks(
        self, chosen: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[list[ViewRecord], NDArray[np.float32]]]:
        """Records and their unit vectors (n, d), 500 at a time; of all views, or of those `chosen` by rising id.

        Raises `CollectionDamaged` on a vector of another width.
        """
        ids = self.list_view_ids() if chosen is None else chosen
        for start in range(0, len(ids), _BLOCK_SIZE):
            rows = self._fetch_rows(ids[start : start + _BLOCK_SIZE].tolist())
            blobs = [row[4] for row in rows]
            if any(len(blob) != self.stored.width * 4 for blob in blobs):
                advice = "see `simsearch verify`, then index again"
                raise CollectionDamaged(str(self._folder), "a vector has a wrong length", advice)
            vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(rows), self.stored.width)
            paths = self._fetch_paths([row[1] for row in rows])
            records = [ViewRecord(row[0], row[1], paths[row[1]], row[2], row[3], tuple(row[5:])) for row in rows]
            yield records, vectors.astype(np.float32, copy=False)

    def _fetch_rows(self, ids: list[int]) -> list[Any]:
        facts = "".join(f', images."{name}"' for name in self.image_columns)
        marks = ", ".join("?" * len(ids))
        query = f"""SELECT views.id, views.image_id, kind, parameters, vector{facts} {_JOINED_TABLES}
                    WHERE {self._condition} AND view_id IN ({marks}) ORDER BY view_id"""
        return self._connection.execute(query, (self.stored.id, *ids)).fetchall()

    def _fetch_paths(self, image_ids: list[int]) -> dict[int, tuple[str, ...]]:
        marks = ", ".join("?" * len(image_ids))
        query = f"SELECT image_id, path FROM files WHERE image_id IN ({marks}) ORDER BY id"
        paths: dict[int, tuple[str, ...]] = {}
        for image_id, path in self._connection.execute(query, image_ids):
            paths[image_id] = (*paths.get(image_id, ()), decode_path(path))
        return paths


@contextmanager
def open_model_snapshot(
    catalog: Catalog, stored: StoredModel, *, originals_only: bool = False
) -> Iterator[ModelSnapshot]:
    """A model's views as they are at this moment, whatever is written meanwhile; all, or the original ones only."""
    with translate_errors(catalog.folder), closing(connect_to_read(catalog.folder / CATALOG_NAME)) as connection:
        connection.execute("BEGIN")
        yield ModelSnapshot(catalog, stored, connection, "AND kind = 'original'" if originals_only else "")
