"""Writing to a catalog: one process at a time, in transactions."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import CollectionNotWritable
from simsearch.images.metadata import ExifMetadata
from simsearch.images.perceptual_hash import PictureHashes
from simsearch.images.statistics import PictureStatistics
from simsearch.images.views import Augmentation
from simsearch.models.model import GraphBytes, Model
from simsearch.sources.path_codec import decode_path, encode_path
from simsearch.sources.scan import Skip
from simsearch.store import settings
from simsearch.store.catalog import (
    IS_UNREAD,
    UNREAD_DIGEST,
    Catalog,
    EmbeddedView,
    FileEntry,
    ImageProperties,
    StoredModel,
)
from simsearch.store.connection import BUSY_TIMEOUT_MS, connect_to_write
from simsearch.store.database import split_chunks
from simsearch.store.lock import LOCK_NAME, CollectionLock, acquire_lock
from simsearch.store.own_files import delete_catalog
from simsearch.store.sqlite_errors import (
    CATALOG_NAME,
    make_not_found_error,
    make_not_writable_error,
    translate_errors,
)
from simsearch.store.vectors import encode_vector

_READER_WAIT_MS = 1_000
"""How long `compact` waits for processes that read an earlier state of the catalog."""


_VECTORS_OF_IMAGE = "FROM vectors JOIN views ON views.id = view_id AND kind = 'original' WHERE image_id = ?"


@dataclass(frozen=True, slots=True)
class UnreadImages:
    """Images whose pictures have not been read.

    `keys` are paths, addresses or ids, `vectors` (n, d) unit rows, `columns` names and n values of the user's own
    columns, None for no value. `sizes` are widths and heights in px, 0 where they are not known; empty: of none.
    """

    keys: Sequence[str]
    vectors: NDArray[np.float32]
    columns: Sequence[tuple[str, Sequence[str | float | None]]] = ()
    sizes: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class UnreadCounts:
    """The number of vectors that were added; position and view id of each key that had one of the model before."""

    n_added: int
    kept: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _KeyPlace:
    """Where the vector of a key belongs."""

    image_id: int
    view_id: int
    has_vector: bool


class CatalogWriter(Catalog):
    """A catalog opened for writing. It holds the collection's lock until it is closed: one writer at a time.

    The methods that write are called within `transaction()`. `is_new` states that this writer created the catalog.
    """

    def __init__(
        self, folder: Path, connection: sqlite3.Connection, lock: CollectionLock, *, is_new: bool = False
    ) -> None:
        self._lock = lock
        self.is_new = is_new
        self._has_made_folder = False
        super().__init__(folder, connection)

    def _read_version(self) -> None:
        """None: a writer reads what it has written, and not committed yet."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the existing catalog in `folder` for writing; nothing is created.

        Raises `CollectionNotFound`, `CollectionBusy` when another process writes, `CollectionNotWritable`,
        `CollectionTooNew`, `CollectionDamaged`.
        """
        if not (folder / CATALOG_NAME).is_file():
            raise make_not_found_error(folder)
        return cls._open_locked(folder, create=False)

    @classmethod
    def open_or_create(cls, folder: Path) -> Self:
        """Open the catalog in `folder` for writing; a missing catalog and its folder are created.

        Raises what `open` raises, except `CollectionNotFound`.
        """
        has_made_folder = _make_folder(folder)
        try:
            writer = cls._open_locked(folder, create=True)
        except CollectionNotWritable:
            if folder.exists():
                raise
            has_made_folder = _make_folder(folder)  # another run has just deleted the folder of its empty collection
            writer = cls._open_locked(folder, create=True)
        writer._has_made_folder = has_made_folder
        return writer

    @classmethod
    def _open_locked(cls, folder: Path, *, create: bool) -> Self:
        lock = acquire_lock(folder)
        try:
            with translate_errors(folder):
                connection, is_new = connect_to_write(folder, create=create)
                return cls(folder, connection, lock, is_new=is_new)
        except BaseException:
            lock.release()
            raise

    def close(self) -> None:
        """Close the connection and release the lock."""
        super().close()
        self._lock.release()

    def delete_new_catalog(self) -> None:
        """Close and delete the catalog that this writer created, and the folder where it made that too.

        The lock is held until the files are gone, so that no other run writes to them. No other connection of this
        process may be open. Does nothing to a catalog that was there before.
        """
        if not self.is_new:
            return
        super().close()
        try:
            delete_catalog(self.folder)
            (self.folder / LOCK_NAME).unlink(missing_ok=True)
            if self._has_made_folder:
                with contextlib.suppress(OSError):  # another run has begun, or other things have been put there
                    self.folder.rmdir()
        except OSError as error:
            raise make_not_writable_error(self.folder, error.strerror or str(error)) from error
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block together, or none where it raises."""
        with translate_errors(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def add_model(self, model: Model, width: int, fingerprint: str) -> StoredModel:
        """Add a model, or update its details (such as the path of its weights) where it is there already."""
        self._execute(
            """INSERT INTO models (fingerprint, backbone, width, details, generation) VALUES (?, ?, ?, ?, random())
               ON CONFLICT (fingerprint) DO UPDATE SET details = excluded.details""",
            (fingerprint, model.backbone, width, model.to_json()),
        )
        self._execute("INSERT OR IGNORE INTO vector_states SELECT id, generation FROM models")
        stored = self.find_model(fingerprint)
        assert stored is not None  # it was just written
        return stored

    def add_vectors(self, model_id: int, view_ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add unit vectors (n, d) of views that have none of the model."""
        rows = zip(view_ids.tolist(), vectors, strict=True)
        query = "INSERT INTO vectors (model_id, view_id, vector) VALUES (?, ?, ?)"
        self._execute_many(query, ((model_id, view_id, encode_vector(vector)) for view_id, vector in rows))
        self._renew_vector_tokens([model_id])

    def write_graph(self, model_id: int, graph: GraphBytes) -> None:
        """Store the int8 graph calibrated on the collection's own images, unless one is stored."""
        query = "INSERT INTO graphs (model_id, definition, weights) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        self._execute(query, (model_id, graph.definition, graph.weights))

    def write_projection(self, model_id: int, method: str, n_vectors: int, projection: bytes) -> None:
        """Store a projection of the model's vectors, fitted to `n_vectors` of them."""
        self._execute(
            "INSERT OR REPLACE INTO projections (model_id, method, n_vectors, projection) VALUES (?, ?, ?, ?)",
            (model_id, method, n_vectors, projection),
        )

    def write_index_details(self, model_id: int, method: str, kind: str, details: str) -> None:
        """Store how the index of a model's vectors was built, as JSON; `method` as `read_index_details` says."""
        self._execute(
            "INSERT OR REPLACE INTO indexes (model_id, method, kind, details) VALUES (?, ?, ?, ?)",
            (model_id, method, kind, details),
        )

    def write_setting(self, name: str, value: str | None) -> None:
        """Write a setting of the collection (see `store.settings`); None deletes it."""
        if value is None:
            self._execute("DELETE FROM settings WHERE name = ?", (name,))
        else:
            self._execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, value))

    def keep_default_model(self) -> None:
        """Set the default model to the one that queries use, where none is set: a later run does not change it."""
        if self.read_setting(settings.DEFAULT_MODEL) is not None:
            return
        models = self.list_models()
        if models and self._fetch_one("SELECT 1 FROM runs WHERE model_id = ? AND ended_at NOT NULL", (models[0].id,)):
            self.write_setting(settings.DEFAULT_MODEL, models[0].fingerprint)

    def annotate(self, values: Iterable[tuple[int, str, str | float]]) -> None:
        """Set values of the user's own columns, as (image id, name, value); earlier values are replaced."""
        self._execute_many("INSERT OR REPLACE INTO annotations (image_id, name, value) VALUES (?, ?, ?)", values)
        self._renew_change_token(keeps_files=True)

    def delete_values(self, keys: Iterable[tuple[int, str]]) -> None:
        """Delete values of the user's own columns, by image id and name."""
        self._execute_many("DELETE FROM annotations WHERE image_id = ? AND name = ?", keys)
        self._renew_change_token(keeps_files=True)

    def delete_column(self, name: str) -> int:
        """Delete one of the user's own columns; return how many images had a value."""
        self._renew_change_token(keeps_files=True)
        return self._execute("DELETE FROM annotations WHERE name = ?", (name,)).rowcount

    def begin_run(self, model_id: int, sources: Sequence[str]) -> int:
        """Record the start of a run; return its id."""
        shown = json.dumps([source.encode("utf-8", "replace").decode() for source in sources])
        cursor = self._execute(
            "INSERT INTO runs (model_id, sources, process, started_at) VALUES (?, ?, ?, datetime('now'))",
            (model_id, shown, os.getpid()),
        )
        return int(cursor.lastrowid or 0)

    def end_run(self, run_id: int, *, embedded: int, reused: int) -> None:
        """Record the end of a run."""
        self._execute(
            "UPDATE runs SET ended_at = datetime('now'), embedded = ?, reused = ? WHERE id = ?",
            (embedded, reused, run_id),
        )

    def record_files(self, entries: Iterable[FileEntry], model_id: int) -> None:
        """Write files with their images, views and vectors, in order. Skips are written at the end of a run."""
        has_files = adds_vectors = False
        described: list[tuple[int, ImageProperties]] = []
        for entry in entries:
            has_files = True
            image_id = self._find_or_add_image(entry)
            if entry.properties is not None:
                described.append((image_id, entry.properties))
            for view in entry.views:
                adds_vectors = True
                self._execute(
                    "INSERT INTO vectors (model_id, view_id, vector) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (model_id, self._find_or_add_view(image_id, view), encode_vector(view.vector)),
                )
            path = encode_path(entry.file.path)
            self._execute(
                """INSERT INTO files (path, size_bytes, mtime_ns, etag, image_id) VALUES (?, ?, ?, ?, ?)
                   ON CONFLICT (path) DO UPDATE SET size_bytes = excluded.size_bytes,
                       mtime_ns = excluded.mtime_ns, etag = excluded.etag, image_id = excluded.image_id""",
                (path, entry.file.size_bytes, entry.file.mtime_ns, entry.file.etag, image_id),
            )
        self.record_hashes((image_id, known.hashes) for image_id, known in described if known.hashes)
        self.record_statistics((image_id, known.statistics) for image_id, known in described if known.statistics)
        if has_files:
            self._renew_change_token()
        if adds_vectors:
            self._renew_vector_tokens([model_id])

    def record_unread_images(self, model_id: int, batch: UnreadImages) -> UnreadCounts:
        """Write images whose pictures have not been read, with a vector of the model, in order; keys are distinct.

        A key that the catalog has, whatever its image, gets a vector where it has none of the model.
        """
        known = self._find_views_of_keys(batch.keys, model_id)
        places = [known.get(key) for key in batch.keys]
        added = [(at, place.view_id) for at, place in enumerate(places) if place and not place.has_vector]
        kept = [(at, place.view_id) for at, place in enumerate(places) if place and place.has_vector]
        new = [at for at, place in enumerate(places) if place is None]
        added += list(zip(new, self._add_unread_images([batch.keys[at] for at in new], batch, new), strict=True))
        rows, size = batch.vectors.astype("<f4", copy=False).tobytes(), 4 * batch.vectors.shape[1]
        self._execute_many(
            "INSERT INTO vectors (model_id, view_id, vector) VALUES (?, ?, ?)",
            ((model_id, view_id, rows[at * size : (at + 1) * size]) for at, view_id in added),
        )
        image_of = {at: place.image_id for at, place in enumerate(places) if place}
        image_of |= dict(zip(new, self._last_image_ids(len(new)), strict=True))
        self._execute_many(
            "INSERT OR REPLACE INTO annotations (image_id, name, value) VALUES (?, ?, ?)",
            (
                (image_of[at], name, values[at])
                for at in range(len(batch.keys))
                for name, values in batch.columns
                if values[at] is not None
            ),
        )
        self._renew_change_token()
        if added:
            self._renew_vector_tokens([model_id])
        return UnreadCounts(len(added), tuple(kept))

    def _last_image_ids(self, n: int) -> range:
        (last,) = self._fetch_one("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'images'")
        return range(last - n + 1, last + 1)

    def _add_unread_images(self, keys: Sequence[str], batch: UnreadImages, positions: Sequence[int]) -> range:
        """Add images, their files and their original views; return the ids of the views.

        The digest is made of the id, because the content is unknown; ids in their order keep the writes in one place.
        """
        query = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = ?"
        first_image, first_view = (int(self._fetch_one(query, (table,))[0]) + 1 for table in ("images", "views"))
        images = range(first_image, first_image + len(keys))
        sizes = [batch.sizes[at] if batch.sizes else (0, 0) for at in positions]
        self._execute_many(
            "INSERT INTO images (id, digest, width, height, format, size_bytes) VALUES (?, ?, ?, ?, '', 0)",
            ((id_, f"{UNREAD_DIGEST}{id_:016d}", *size) for id_, size in zip(images, sizes, strict=True)),
        )
        self._execute_many(
            "INSERT INTO files (path, size_bytes, mtime_ns, image_id) VALUES (?, 0, 0, ?)",
            ((encode_path(key), id_) for key, id_ in zip(keys, images, strict=True)),
        )
        views = range(first_view, first_view + len(keys))
        self._execute_many(
            "INSERT INTO views (id, image_id, kind, parameters) VALUES (?, ?, 'original', '{}')",
            zip(views, images, strict=True),
        )
        return views

    def _find_views_of_keys(self, keys: Sequence[str], model_id: int) -> dict[str, _KeyPlace]:
        """Find the original views of the files with these paths, and whether each has a vector of the model."""
        found: dict[str, _KeyPlace] = {}
        for some, marks in split_chunks([encode_path(key) for key in keys]):
            query = f"""SELECT path, files.image_id, views.id, vectors.id IS NOT NULL FROM files
                        CROSS JOIN views ON views.image_id = files.image_id AND kind = 'original'
                        LEFT JOIN vectors ON vectors.view_id = views.id AND model_id = ? WHERE path IN ({marks})"""
            rows = self._fetch_all(query, (model_id, *some))
            found |= {decode_path(path): _KeyPlace(*place) for path, *place in rows}
        return found

    def record_skips(self, skips: Iterable[Skip]) -> None:
        """Record files that could not be read, with the reasons."""
        self._execute_many(
            "INSERT INTO skips (path, reason) VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET reason = excluded.reason",
            [(encode_path(skip.path), skip.reason) for skip in skips],
        )

    def forget_skips(self, is_meant: Callable[[str], bool]) -> None:
        """Delete the skips of the paths for which `is_meant` is true."""
        paths = [skip.path for skip in self.list_skips() if is_meant(skip.path)]
        self._execute_many("DELETE FROM skips WHERE path = ?", [(encode_path(path),) for path in paths])

    def forget_files(self, paths: Iterable[str]) -> int:
        """Delete files and their skips from the catalog; return how many files. Their images stay until `prune`."""
        rows = [(encode_path(path),) for path in paths]
        n_gone = self._execute_many("DELETE FROM files WHERE path = ?", rows).rowcount
        self._execute_many("DELETE FROM skips WHERE path = ?", rows)
        if n_gone > 0:
            self._renew_change_token()
        return max(0, n_gone)

    def forget_orphans(self) -> int:
        """Delete images without a file, with their views and vectors; return how many images."""
        orphans = "SELECT id FROM images WHERE id NOT IN (SELECT image_id FROM files)"
        changed = self._fetch_all(
            f"SELECT DISTINCT model_id FROM vectors JOIN views ON views.id = view_id WHERE image_id IN ({orphans})"
        )
        self._renew_vector_tokens([model_id for (model_id,) in changed])
        return self._execute(f"DELETE FROM images WHERE id IN ({orphans})").rowcount

    def set_augmentation(self, stored: StoredModel, augmentation: Augmentation) -> StoredModel:
        """Set which views of every image the model embeds, and delete the vectors of other views.

        Returns the model in its new state.
        """
        kept = augmentation.n_views if augmentation.has_same_views(stored.augmentation) else 0
        surplus = """SELECT id FROM views WHERE kind = 'augmented' AND json_extract(parameters, '$.number') > ?"""
        n_deleted = self._execute(
            f"DELETE FROM vectors WHERE model_id = ? AND view_id IN ({surplus})", (stored.id, kept)
        ).rowcount
        self._execute("DELETE FROM views WHERE kind = 'augmented' AND id NOT IN (SELECT view_id FROM vectors)")
        self._execute(
            "UPDATE models SET augmentation = ? WHERE id = ?",
            (augmentation.to_json() if augmentation.n_views else None, stored.id),
        )
        if n_deleted:
            self._renew_vector_tokens([stored.id])
        current = self.find_model(stored.fingerprint)
        assert current is not None  # it was just written
        return current

    def reject_pairs(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Mark pairs of image ids, smaller id first, as not duplicates."""
        query = "INSERT INTO rejected_pairs (image_a, image_b) VALUES (?, ?) ON CONFLICT DO NOTHING"
        self._execute_many(query, pairs)
        self._renew_change_token(keeps_files=True)

    def unreject_pairs(self, pairs: Iterable[tuple[int, int]]) -> int:
        """Remove the mark of `reject_pairs`; return how many pairs had it."""
        query = "DELETE FROM rejected_pairs WHERE image_a = ? AND image_b = ?"
        self._renew_change_token(keeps_files=True)
        return max(0, self._execute_many(query, pairs).rowcount)

    def record_hashes(self, hashes: Iterable[tuple[int, PictureHashes]]) -> None:
        """Store the perceptual hashes of images by id, without images that are no longer in the catalog."""
        self._execute_many(
            """INSERT INTO perceptual_hashes (image_id, upright, mirrored) SELECT id, ?, ? FROM images WHERE id = ?
               ON CONFLICT DO NOTHING""",
            ((values.upright, values.mirrored, image_id) for image_id, values in hashes),
        )

    def record_statistics(self, statistics: Iterable[tuple[int, PictureStatistics]]) -> None:
        """Store the statistics of pictures by image id, without images that are no longer in the catalog."""
        self._execute_many(
            """INSERT OR REPLACE INTO picture_statistics (image_id, brightness, contrast, sharpness)
               SELECT id, ?, ?, ? FROM images WHERE id = ?""",
            ((one.brightness, one.contrast, one.sharpness, image_id) for image_id, one in statistics),
        )

    def record_region_hashes(self, hashes: Iterable[tuple[int, NDArray[np.uint32]]], version: int) -> None:
        """Store the hashes (81,) of the regions of images by id, without images that are no longer in the catalog."""
        self._execute_many(
            "INSERT OR REPLACE INTO region_hashes (image_id, version, hashes) SELECT id, ?, ? FROM images WHERE id = ?",
            ((version, values.astype("<u4").tobytes(), image_id) for image_id, values in hashes),
        )

    def record_copies(self, pairs: Iterable[tuple[int, int, str]], version: int) -> None:
        """Store pairs of image ids, the smaller id first, that are copies, with the evidence as JSON.

        `version` is that of the comparison. Pairs with an image that is no longer in the catalog are dropped.
        """
        self._execute_many(
            """INSERT OR REPLACE INTO copy_pairs (image_a, image_b, version, evidence)
               SELECT a.id, b.id, ?, ? FROM images AS a JOIN images AS b WHERE a.id = ? AND b.id = ?""",
            ((version, evidence, a, b) for a, b, evidence in pairs),
        )

    def record_searched_images(self, model_id: int, image_ids: Iterable[int], version: int) -> None:
        """Store that all candidates of these images under a model have been compared, by this version."""
        self._execute_many(
            """INSERT OR REPLACE INTO copy_searches (model_id, image_id, version)
               SELECT models.id, images.id, ? FROM models JOIN images WHERE models.id = ? AND images.id = ?""",
            ((version, model_id, image_id) for image_id in image_ids),
        )

    def forget_model(self, stored: StoredModel) -> None:
        """Delete a model with its vectors, its runs, its settings, and the record of its rows in Milvus.

        The default model is then the last that was indexed.
        """
        self.write_setting(settings.build_calibration_name(stored.fingerprint), None)
        self.write_setting(settings.build_sync_record_name(stored.fingerprint), None)
        self.write_setting(settings.build_rerank_name(stored.fingerprint), None)
        if self.read_setting(settings.DEFAULT_MODEL) == stored.fingerprint:
            self.write_setting(settings.DEFAULT_MODEL, None)
        self._execute("DELETE FROM models WHERE id = ?", (stored.id,))

    def compact(self) -> bool:
        """Return the space of deleted rows to the disk. Not allowed within a transaction.

        Returns whether that was possible: a process that reads an earlier state of the catalog keeps its space.
        """
        self._execute("VACUUM")
        self._execute(f"PRAGMA busy_timeout = {_READER_WAIT_MS}")
        try:
            (is_busy, _, _) = self._fetch_one("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        return not is_busy

    def _renew_change_token(self, *, keeps_files: bool = False) -> None:
        """Give the catalog a new change token; where the files and images are as before, the file token stays."""
        file_token = self.file_token if keeps_files else 0
        self._execute("UPDATE collection SET change_token = random()")
        if keeps_files:
            self.write_setting(settings.FILE_STATE, f"{file_token} {self.change_token}")

    def _renew_vector_tokens(self, model_ids: Sequence[int]) -> None:
        """Give models whose vectors have changed a new token; no index of another state has it."""
        for model_id in model_ids:
            self._execute("UPDATE models SET generation = random() WHERE id = ?", (model_id,))
            self._execute("INSERT INTO vector_states SELECT id, generation FROM models WHERE id = ?", (model_id,))

    def _find_or_add_image(self, entry: FileEntry) -> int:
        row = self._fetch_one("SELECT id FROM images WHERE digest = ?", (entry.digest,))
        if (unread := self._find_unread_image(entry.file.path)) is not None:
            row = self._read_unread_image(unread, entry, None if row is None else int(row[0]))
        image_id = self._add_image(entry) if row is None else int(row[0])
        if row is not None:
            self._update_metadata(image_id, entry.properties)
        return image_id

    def _find_unread_image(self, path: str) -> int | None:
        """The image of a file whose picture has not been read before; None where it has, or is not in the catalog."""
        query = f"SELECT image_id FROM files JOIN images ON images.id = image_id WHERE path = ? AND {IS_UNREAD}"
        row = self._fetch_one(query, (encode_path(path),))
        return None if row is None else int(row[0])

    def _read_unread_image(self, image_id: int, entry: FileEntry, same_id: int | None) -> tuple[int]:
        """Give an image that was imported without its picture the picture's content; return the id of the image.

        Where the catalog has an image of this content, `same_id`, that one gets the vectors and the columns.
        """
        if same_id is None:
            assert entry.properties is not None  # its content is new to the catalog
            properties, exif = entry.properties, entry.properties.metadata
            self._execute(
                """UPDATE images SET digest = ?, width = ?, height = ?, format = ?, size_bytes = ?, taken_at = ?,
                   camera = ? WHERE id = ?""",
                (
                    entry.digest, properties.width, properties.height, properties.format, entry.file.size_bytes,
                    exif.taken_at, exif.camera, image_id,
                ),
            )  # fmt: skip
            return (image_id,)
        models = [row[0] for row in self._fetch_all(f"SELECT DISTINCT model_id {_VECTORS_OF_IMAGE}", (image_id,))]
        self._find_or_add_view(same_id, EmbeddedView("original", "{}", np.empty(0, np.float32)))
        self._execute(
            f"""INSERT INTO vectors (model_id, view_id, vector) SELECT model_id,
                (SELECT id FROM views WHERE image_id = ? AND kind = 'original'), vector {_VECTORS_OF_IMAGE}
                ON CONFLICT DO NOTHING""",
            (same_id, image_id),
        )
        self._execute(
            "INSERT OR IGNORE INTO annotations SELECT ?, name, value FROM annotations WHERE image_id = ?",
            (same_id, image_id),
        )
        self._renew_vector_tokens(models)
        return (same_id,)

    def _add_image(self, entry: FileEntry) -> int:
        assert entry.properties is not None  # only an image that the catalog has is not decoded again
        properties, exif = entry.properties, entry.properties.metadata
        cursor = self._execute(
            """INSERT INTO images (digest, width, height, format, size_bytes, taken_at, camera)
               VALUES (?, ?, ?, ?, ?, ?, ?)""",
            (
                entry.digest,
                properties.width,
                properties.height,
                properties.format,
                entry.file.size_bytes,
                exif.taken_at,
                exif.camera,
            ),
        )
        return int(cursor.lastrowid or 0)

    def _update_metadata(self, image_id: int, properties: ImageProperties | None) -> None:
        """Add EXIF metadata to an image that an older simsearch recorded without it."""
        if properties is not None and properties.metadata != ExifMetadata():
            self._execute(
                "UPDATE images SET taken_at = ?, camera = ? WHERE id = ? AND taken_at IS NULL AND camera IS NULL",
                (properties.metadata.taken_at, properties.metadata.camera, image_id),
            )

    def _find_or_add_view(self, image_id: int, view: EmbeddedView) -> int:
        key = (image_id, view.kind, view.parameters)
        query = "SELECT id FROM views WHERE image_id = ? AND kind = ? AND parameters = ?"
        row = self._fetch_one(query, key)
        if row is not None:
            return int(row[0])
        query = "INSERT INTO views (image_id, kind, parameters) VALUES (?, ?, ?)"
        return int(self._execute(query, key).lastrowid or 0)


def _make_folder(folder: Path) -> bool:
    """Make a missing folder and those above it; return whether it was missing. Raises `CollectionNotWritable`."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if folder.is_dir():
            return False
        raise make_not_writable_error(folder, "it is a file") from None
    except OSError as error:
        raise make_not_writable_error(folder, error.strerror or str(error)) from error
    return True
