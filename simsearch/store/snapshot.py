"""Bulk reads of a catalog at one moment: images with their files and columns, and the views of a model in blocks.

`open_snapshot` starts a read transaction on a connection of its own. All results come from the same moment, whatever
another process writes, and the caller's `Catalog` stays free for other queries.
"""

from __future__ import annotations

import datetime
import sqlite3
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageNotFound
from simsearch.images.statistics import PictureStatistics
from simsearch.sources.path_codec import decode_path
from simsearch.store.catalog import UNREAD_DIGEST, Catalog, StoredModel
from simsearch.store.connection import connect_to_read
from simsearch.store.database import is_row_id, split_chunks, translate_read_errors
from simsearch.store.sqlite_errors import CATALOG_NAME, translate_errors
from simsearch.store.vectors import decode_vectors

_HAS_FILE = "EXISTS (SELECT 1 FROM files WHERE files.image_id = views.image_id)"
_JOINED_TABLES = "FROM vectors JOIN views ON views.id = view_id JOIN images ON images.id = views.image_id"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of an image, with its size and modification time when it was indexed."""

    path: str
    size_bytes: int
    mtime_ns: int

    @property
    def modified_at(self) -> str:
        """The modification time as ISO 8601 in local time; empty where a calendar cannot express it."""
        try:
            return datetime.datetime.fromtimestamp(self.mtime_ns // 10**9).isoformat()
        except (OverflowError, ValueError, OSError):
            return ""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image in the catalog.

    `digest` and `size_bytes` describe the content, `width` and `height` the upright picture in px. `taken_at` and
    `camera` come from EXIF. `files` are in the order in which they were indexed; `columns` are the user's own columns,
    ordered by name.
    """

    image_id: int
    digest: str
    width: int
    height: int
    format: str
    size_bytes: int
    taken_at: str | None
    camera: str | None
    files: tuple[StoredFile, ...] = ()
    columns: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def is_unread(self) -> bool:
        """Whether its picture has not been read: its vectors were imported without it; size and format are unknown."""
        return self.digest.startswith(UNREAD_DIGEST)


class ViewKey(NamedTuple):
    """A view with its image and its kind (`original` or `augmented`)."""

    view_id: int
    image_id: int
    kind: str


@dataclass(frozen=True, slots=True)
class ViewRecord:
    """A view of an image with at least one file. `paths` are the image's files, `parameters` is a JSON object.

    `image_values` are the columns of the table `images` without its id, named by `ModelViews.image_columns`.
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


class Snapshot:
    """The state of a catalog at one moment. `catalog` reads the same state through the same connection."""

    def __init__(self, catalog: Catalog, connection: sqlite3.Connection) -> None:
        self.catalog = catalog
        self._connection = connection

    def read_images(self, image_ids: Sequence[int], *, with_orphans: bool = False) -> dict[int, StoredImage]:
        """Read images by id, in the order in which their first files were indexed.

        Images without a file (orphans) are left out, or come last `with_orphans`. Unknown ids are left out.
        """
        images: dict[int, StoredImage] = {}
        for some, marks in split_chunks([image_id for image_id in image_ids if is_row_id(image_id)]):
            files = self._read_files(some, marks)
            columns = self._read_columns(some, marks)
            query = f"""SELECT id, digest, width, height, format, size_bytes, taken_at, camera
                        FROM images WHERE id IN ({marks})"""
            rows = {row[0]: row[1:] for row in self._connection.execute(query, some)}
            for image_id in [*files, *(rows.keys() - files.keys() if with_orphans else ())]:
                digest, width, height, form, size_bytes, taken_at, camera = rows[image_id]
                images[image_id] = StoredImage(
                    image_id, digest, width, height, form, size_bytes, taken_at, camera,
                    tuple(files.get(image_id, ())), columns.get(image_id, {}),
                )  # fmt: skip
        return images

    def find_image_ids(self, digests: Sequence[str]) -> dict[str, int]:
        """Find the ids of the images with these contents, by digest; images without a file are left out."""
        found: dict[str, int] = {}
        for some, marks in split_chunks(digests):
            query = f"""SELECT digest, id FROM images
                        WHERE digest IN ({marks}) AND EXISTS (SELECT 1 FROM files WHERE image_id = images.id)"""
            found.update(self._connection.execute(query, some))
        return found

    def read_image(self, image_id: int) -> StoredImage:
        """Read an image. Raises `ImageNotFound` where no image with a file has this id."""
        image = self.read_images([image_id]).get(image_id)
        if image is None:
            folder = str(self.catalog.folder)
            raise ImageNotFound(folder, f"there is no image {image_id}", "use an image id from the search results")
        return image

    def sample_image_ids(self, n: int) -> list[int]:
        """Choose at most n ids of images with a file, spread over the whole collection, ascending."""
        first, last = self._connection.execute("SELECT min(image_id), max(image_id) FROM files").fetchone()
        if first is None:
            return []
        steps = [first + round(step * (last - first) / max(1, n - 1)) for step in range(n)]
        query = "SELECT min(image_id) FROM files WHERE image_id >= ?"
        return sorted({self._connection.execute(query, (step,)).fetchone()[0] for step in steps})

    def iterate_image_files(self) -> Iterator[tuple[Any, ...]]:
        """Image id, stored path, size, mtime, date, camera and format of every file, by image and order of indexing."""
        query = """SELECT image_id, path, files.size_bytes, mtime_ns, taken_at, camera, format
                   FROM files JOIN images ON images.id = image_id ORDER BY image_id, files.id"""
        yield from self._connection.execute(query)

    def iterate_annotations(self) -> Iterator[tuple[int, str, str | float]]:
        """Image id, name and value of every value of the user's own columns."""
        yield from self._connection.execute("SELECT image_id, name, value FROM annotations ORDER BY image_id, name")

    def find_copied_images(self) -> list[int]:
        """The ids of the images that have several files, ascending."""
        query = "SELECT image_id FROM files GROUP BY image_id HAVING count(*) > 1 ORDER BY image_id"
        return [row[0] for row in self._connection.execute(query)]

    def find_changed_images(self, change: int) -> list[int]:
        """The ids of the images changed since the change with this number, deleted images included, ascending."""
        query = "SELECT image_id FROM changes WHERE number > ? ORDER BY image_id"
        return [row[0] for row in self._connection.execute(query, (change,))]

    def list_original_ids(self, model_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """View ids and image ids (n,) of the original views with a vector of the model and a file, by view id."""
        rows = self._connection.execute(
            f"""SELECT views.id, image_id FROM views JOIN vectors ON view_id = views.id AND model_id = ?
                WHERE kind = 'original' AND {_HAS_FILE} ORDER BY views.id""",
            (model_id,),
        )
        pairs = np.array(rows.fetchall(), dtype=np.int64).reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy()

    def list_views_of_images(self, model_id: int, image_ids: Sequence[int]) -> list[ViewKey]:
        """The views of these images that have a vector of the model, orphans included."""
        keys: list[ViewKey] = []
        for some, marks in split_chunks(image_ids):
            query = f"""SELECT view_id, image_id, kind FROM views JOIN vectors ON view_id = views.id AND model_id = ?
                        WHERE image_id IN ({marks})"""
            keys += [ViewKey(*row) for row in self._connection.execute(query, (model_id, *some))]
        return keys

    def list_views_in_range(self, model_id: int, above: int, up_to: int) -> list[ViewKey]:
        """The views with above < id <= up_to that have a vector of the model, orphans included."""
        query = """SELECT view_id, image_id, kind FROM vectors JOIN views ON views.id = view_id
                   WHERE model_id = ? AND view_id > ? AND view_id <= ?"""
        return [ViewKey(*row) for row in self._connection.execute(query, (model_id, above, up_to))]

    def read_hashes(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """The images with perceptual hashes: ids (n,), and the hash of each and of its mirror image (n, 2)."""
        if not self._has_copies:
            return np.empty(0, np.int64), np.empty((0, 2), np.uint64)
        query = "SELECT image_id, upright, mirrored FROM perceptual_hashes ORDER BY image_id"
        rows = np.array(self._connection.execute(query).fetchall(), np.int64).reshape(-1, 3)
        return rows[:, 0].copy(), rows[:, 1:].astype(np.uint64)

    def read_region_hashes(self, version: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        """The images with region hashes of this version of the comparison: ascending ids (n,), and hashes (n, r)."""
        if not self._has_table("region_hashes"):
            return np.empty(0, np.int64), np.empty((0, 0), np.uint32)
        query = "SELECT image_id, hashes FROM region_hashes WHERE version = ? ORDER BY image_id"
        ids, blobs = array("q"), bytearray()
        for image_id, blob in self._connection.execute(query, (version,)):
            ids.append(image_id)
            blobs += blob
        hashes = np.frombuffer(bytes(blobs), "<u4").astype(np.uint32)
        return np.array(ids, np.int64), hashes.reshape(len(ids), -1) if len(ids) else np.empty((0, 0), np.uint32)

    def read_copy_pairs(self, version: int) -> dict[tuple[int, int], str]:
        """The evidence, as JSON, of the pairs of image ids that this version of the comparison found to be copies."""
        if not self._has_copies:
            return {}
        query = "SELECT image_a, image_b, evidence FROM copy_pairs WHERE version = ?"
        return {(a, b): evidence for a, b, evidence in self._connection.execute(query, (version,))}

    def list_searched_images(self, model_id: int, version: int) -> NDArray[np.int64]:
        """The ids of the images whose candidates under a model have all been compared by this version, ascending."""
        if not self._has_copies:
            return np.empty(0, np.int64)
        query = "SELECT image_id FROM copy_searches WHERE model_id = ? AND version = ? ORDER BY image_id"
        rows = self._connection.execute(query, (model_id, version))
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def read_statistics(self) -> dict[int, PictureStatistics]:
        """The statistics of the pictures that have some, by image id; none in a catalog of an older simsearch."""
        if self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'picture_statistics'").fetchone() is None:
            return {}
        query = "SELECT image_id, brightness, contrast, sharpness FROM picture_statistics"
        return {row[0]: PictureStatistics(*map(float, row[1:])) for row in self._connection.execute(query)}

    @property
    def _has_copies(self) -> bool:
        """Whether the catalog has the tables of copies: one of an older simsearch in a read-only folder has not."""
        return self._has_table("copy_searches")

    def _has_table(self, name: str) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE name = ?"
        return self._connection.execute(query, (name,)).fetchone() is not None

    def select_views(self, stored: StoredModel, *, originals_only: bool = False) -> ModelViews:
        """Select the views with a vector of the model and a file, or the original ones of them only."""
        return ModelViews(self.catalog.folder, self._connection, stored, originals_only=originals_only)

    def _read_files(self, image_ids: Sequence[int], marks: str) -> dict[int, list[StoredFile]]:
        files: dict[int, list[StoredFile]] = {}
        query = f"SELECT image_id, path, size_bytes, mtime_ns FROM files WHERE image_id IN ({marks}) ORDER BY id"
        for image_id, path, size_bytes, mtime_ns in self._connection.execute(query, image_ids):
            files.setdefault(image_id, []).append(StoredFile(decode_path(path), size_bytes, mtime_ns))
        return files

    def _read_columns(self, image_ids: Sequence[int], marks: str) -> dict[int, dict[str, str | float]]:
        columns: dict[int, dict[str, str | float]] = {}
        query = f"SELECT image_id, name, value FROM annotations WHERE image_id IN ({marks}) ORDER BY name"
        for image_id, name, value in self._connection.execute(query, image_ids):
            columns.setdefault(image_id, {})[name] = value
        return columns


class ModelViews:
    """The views that have a vector of a model and whose image has a file, by ascending view id."""

    def __init__(
        self, folder: Path, connection: sqlite3.Connection, stored: StoredModel, *, originals_only: bool
    ) -> None:
        self.stored = stored
        self._folder = folder
        self._connection = connection
        self._condition = f"model_id = ? AND {_HAS_FILE}" + (" AND kind = 'original'" if originals_only else "")
        columns = connection.execute("PRAGMA table_info(images)").fetchall()
        self.image_columns: dict[str, str] = {name: kind for _, name, kind, *_ in columns if name != "id"}
        """The columns of the table `images` without its id, with their SQL types."""

    def list_view_ids(self) -> NDArray[np.int64]:
        """The ids of the views, ascending."""
        query = f"SELECT views.id {_JOINED_TABLES} WHERE {self._condition} ORDER BY view_id"
        rows = self._connection.execute(query, (self.stored.id,))
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def sample_ids(self, n_most: int, seed: int = 0) -> NDArray[np.int64]:
        """The ids of at most `n_most` views, ascending; a random sample drawn with the seed where there are more."""
        ids = self.list_view_ids()
        if len(ids) <= n_most:
            return ids
        return np.sort(np.random.default_rng(seed).choice(ids, n_most, replace=False))

    def read_records(self, chosen: NDArray[np.int64]) -> tuple[list[ViewRecord], NDArray[np.float32]]:
        """Read the records of these views (ascending ids) and their vectors (n, d) into memory."""
        records: list[ViewRecord] = []
        vectors = np.empty((len(chosen), self.stored.width), np.float32)
        for block, rows in self.iterate_blocks(chosen):
            vectors[len(records) : len(records) + len(rows)] = rows
            records += block
        return records, vectors

    def iterate_blocks(
        self, chosen: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[list[ViewRecord], NDArray[np.float32]]]:
        """Read records and their unit vectors (n, d), 500 at a time: of all views, or of those `chosen` (ascending).

        Raises `CollectionDamaged` where a vector has another width.
        """
        ids = self.list_view_ids() if chosen is None else chosen
        for some, marks in split_chunks(ids.tolist()):
            rows = self._fetch_rows(some, marks)
            vectors = decode_vectors(self._folder, [row[4] for row in rows], self.stored.width)
            paths = self._fetch_paths([row[1] for row in rows])
            records = [ViewRecord(row[0], row[1], paths[row[1]], row[2], row[3], tuple(row[5:])) for row in rows]
            yield records, vectors

    def _fetch_rows(self, ids: Sequence[int], marks: str) -> list[Any]:
        image_columns = "".join(f', images."{name}"' for name in self.image_columns)
        query = f"""SELECT views.id, views.image_id, kind, parameters, vector{image_columns} {_JOINED_TABLES}
                    WHERE {self._condition} AND view_id IN ({marks}) ORDER BY view_id"""
        return self._connection.execute(query, (self.stored.id, *ids)).fetchall()

    def _fetch_paths(self, image_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
        marks = ", ".join("?" * len(image_ids))
        query = f"SELECT image_id, path FROM files WHERE image_id IN ({marks}) ORDER BY id"
        paths: dict[int, tuple[str, ...]] = {}
        for image_id, path in self._connection.execute(query, image_ids):
            paths[image_id] = (*paths.get(image_id, ()), decode_path(path))
        return paths


@contextmanager
def open_snapshot(folder: Path) -> Iterator[Snapshot]:
    """Start reading the catalog in `folder` at one moment. SQLite errors in the block become `CollectionError`s.

    Raises `CatalogChanged` at the end of the block where another process changed a catalog that is read without locks.
    """
    with translate_errors(folder):
        opened = connect_to_read(folder / CATALOG_NAME)
    with closing(opened) as connection, translate_read_errors(folder, connection):
        connection.execute("BEGIN")
        yield Snapshot(Catalog(folder, connection), connection)


@contextmanager
def open_model_views(folder: Path, stored: StoredModel, *, originals_only: bool = False) -> Iterator[ModelViews]:
    """Start reading the views of a model at one moment, as `Snapshot.select_views` selects them."""
    with open_snapshot(folder) as snapshot:
        yield snapshot.select_views(stored, originals_only=originals_only)
