"""Writing to a catalog: one process at a time, in transactions."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import filelock

from simsearch.images.metadata import ExifMetadata
from simsearch.images.views import Augmentation
from simsearch.models.model import GraphBytes, Model
from simsearch.sources.path_codec import encode_path
from simsearch.sources.scan import Skip
from simsearch.store.catalog import Catalog, EmbeddedView, FileEntry, ImageProperties, StoredModel
from simsearch.store.connection import acquire_lock, connect_to_write, make_not_writable_error, translate_errors
from simsearch.store.vectors import encode_vector


class CatalogWriter(Catalog):
    """A catalog to write, one at a time: holds the collection's lock until it is closed."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, lock: filelock.BaseFileLock) -> None:
        self._lock = lock
        super().__init__(folder, connection)

    @classmethod
    def open_or_create(cls, folder: Path) -> Self:
        """Open the catalog in `folder` for writing; a missing one, and its folder, are made.

        Raises `CollectionBusy` when another process writes, `CollectionNotWritable`, or what `open` raises.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise make_not_writable_error(folder, error.strerror or str(error)) from error
        right = acquire_lock(folder)
        try:
            with translate_errors(folder):
                return cls(folder, connect_to_write(folder), right)
        except BaseException:
            right.release()
            raise

    def close(self) -> None:
        """Close the connection and let the next writer in."""
        super().close()
        self._lock.release()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is kept together or not at all."""
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
        """The model's row, made if it is not there; the place of its weights is brought up to date."""
        self._connection.execute(
            """INSERT INTO models (fingerprint, backbone, width, details) VALUES (?, ?, ?, ?)
               ON CONFLICT (fingerprint) DO UPDATE SET details = excluded.details""",
            (fingerprint, model.backbone, width, model.to_json()),
        )
        stored = self.find_model(fingerprint)
        assert stored is not None  # it was just written
        return stored

    def write_graph(self, model_id: int, graph: GraphBytes) -> None:
        """Keep what was made of the model on the collection's own pictures."""
        query = "INSERT INTO graphs (model_id, definition, weights) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        self._connection.execute(query, (model_id, graph.definition, graph.weights))

    def write_projection(self, model_id: int, method: str, n_vectors: int, projection: bytes) -> None:
        """Keep a projection of the model's vectors, fitted when there were so many."""
        self._connection.execute(
            "INSERT OR REPLACE INTO projections (model_id, method, n_vectors, projection) VALUES (?, ?, ?, ?)",
            (model_id, method, n_vectors, projection),
        )

    def write_index_details(self, model_id: int, method: str, facts: Mapping[str, Any]) -> None:
        """Keep how the index of a model's vectors, or of what a method makes of them, was built."""
        self._connection.execute(
            "INSERT OR REPLACE INTO indexes (model_id, method, kind, details) VALUES (?, ?, ?, ?)",
            (model_id, method, facts["kind"], json.dumps(facts)),
        )

    def write_setting(self, name: str, value: str | None) -> None:
        """Set something for this collection; None takes it back."""
        if value is None:
            self._connection.execute("DELETE FROM settings WHERE name = ?", (name,))
        else:
            self._connection.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, value))

    def annotate(self, values: Iterable[tuple[int, str, str | float]]) -> None:
        """Note values in columns of the user's own, as (image id, name, value); what was there before goes."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO annotations (image_id, name, value) VALUES (?, ?, ?)", values
        )

    def delete_column(self, name: str) -> int:
        """Delete a column of the user's own; of how many images it was."""
        return self._connection.execute("DELETE FROM annotations WHERE name = ?", (name,)).rowcount

    def begin_run(self, model_id: int, sources: Sequence[str]) -> int:
        """Note that a run begins; its id."""
        shown = json.dumps([source.encode("utf-8", "replace").decode() for source in sources])
        cursor = self._connection.execute(
            "INSERT INTO runs (model_id, sources, process, started_at) VALUES (?, ?, ?, datetime('now'))",
            (model_id, shown, os.getpid()),
        )
        return int(cursor.lastrowid or 0)

    def end_run(self, run_id: int, *, embedded: int, reused: int) -> None:
        """Note that a run came to its end."""
        self._connection.execute(
            "UPDATE runs SET ended_at = datetime('now'), embedded = ?, reused = ? WHERE id = ?",
            (embedded, reused, run_id),
        )

    def record_files(self, entries: Iterable[FileEntry], model_id: int) -> None:
        """Write files with their images, views and vectors, in order. Skips are settled at a run's end."""
        adds_vectors = False
        for entry in entries:
            image_id = self._find_or_add_image(entry)
            for view in entry.views:
                adds_vectors = True
                self._connection.execute(
                    "INSERT INTO vectors (model_id, view_id, vector) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    (model_id, self._find_or_add_view(image_id, view), encode_vector(view.vector)),
                )
            path = encode_path(entry.file.path)
            self._connection.execute(
                """INSERT INTO files (path, size_bytes, mtime_ns, etag, image_id) VALUES (?, ?, ?, ?, ?)
                   ON CONFLICT (path) DO UPDATE SET size_bytes = excluded.size_bytes,
                       mtime_ns = excluded.mtime_ns, etag = excluded.etag, image_id = excluded.image_id""",
                (path, entry.file.size_bytes, entry.file.mtime_ns, entry.file.etag, image_id),
            )
        if adds_vectors:
            self._connection.execute("UPDATE models SET generation = generation + 1 WHERE id = ?", (model_id,))

    def record_skips(self, skips: Iterable[Skip]) -> None:
        """Remember files that could not be read."""
        self._connection.executemany(
            "INSERT INTO skips (path, reason) VALUES (?, ?) ON CONFLICT (path) DO UPDATE SET reason = excluded.reason",
            [(encode_path(skip.path), skip.reason) for skip in skips],
        )

    def forget_skips(self, is_meant: Callable[[str], bool]) -> None:
        """Forget the skips of those paths."""
        paths = [skip.path for skip in self.list_skips() if is_meant(skip.path)]
        self._connection.executemany("DELETE FROM skips WHERE path = ?", [(encode_path(path),) for path in paths])

    def forget_files(self, paths: Iterable[str]) -> int:
        """Take paths, and what is remembered of their skips, out; how many files went. Images stay until `prune`."""
        rows = [(encode_path(path),) for path in paths]
        n_gone = self._connection.executemany("DELETE FROM files WHERE path = ?", rows).rowcount
        self._connection.executemany("DELETE FROM skips WHERE path = ?", rows)
        return max(0, n_gone)

    def forget_orphans(self) -> int:
        """Delete images without a file, with their views and vectors; how many."""
        orphans = "SELECT id FROM images WHERE id NOT IN (SELECT image_id FROM files)"
        self._connection.execute(
            f"""UPDATE models SET generation = generation + 1 WHERE id IN (
                SELECT DISTINCT model_id FROM vectors JOIN views ON views.id = view_id WHERE image_id IN ({orphans}))"""
        )
        return self._connection.execute(f"DELETE FROM images WHERE id IN ({orphans})").rowcount

    def set_augmentation(self, stored: StoredModel, augmentation: Augmentation) -> StoredModel:
        """Say which views of every image the model is to have, and delete vectors of others; the model as it is now."""
        kept = augmentation.n_views if augmentation.has_same_views(stored.augmentation) else 0
        surplus = """SELECT id FROM views WHERE kind = 'augmented' AND json_extract(parameters, '$.number') > ?"""
        n_deleted = self._connection.execute(
            f"DELETE FROM vectors WHERE model_id = ? AND view_id IN ({surplus})", (stored.id, kept)
        ).rowcount
        self._connection.execute(
            "DELETE FROM views WHERE kind = 'augmented' AND id NOT IN (SELECT view_id FROM vectors)"
        )
        self._connection.execute(
            "UPDATE models SET augmentation = ?, generation = generation + ? WHERE id = ?",
            (augmentation.to_json() if augmentation.n_views else None, bool(n_deleted), stored.id),
        )
        current = self.find_model(stored.fingerprint)
        assert current is not None  # it was just written
        return current

    def reject_pairs(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Remember pairs of images, the smaller id first, as no duplicates."""
        query = "INSERT INTO rejected_pairs (image_a, image_b) VALUES (?, ?) ON CONFLICT DO NOTHING"
        self._connection.executemany(query, pairs)

    def unreject_pairs(self, pairs: Iterable[tuple[int, int]]) -> int:
        """Forget that of pairs; how many were remembered."""
        query = "DELETE FROM rejected_pairs WHERE image_a = ? AND image_b = ?"
        return max(0, self._connection.executemany(query, pairs).rowcount)

    def forget_model(self, model_id: int) -> None:
        """Delete a model with its vectors and runs."""
        self._connection.execute("DELETE FROM models WHERE id = ?", (model_id,))

    def compact(self) -> None:
        """Give the space of what was deleted back to the disk."""
        with translate_errors(self.folder):
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _find_or_add_image(self, entry: FileEntry) -> int:
        row = self._connection.execute("SELECT id FROM images WHERE digest = ?", (entry.digest,)).fetchone()
        if row is not None:
            self._update_metadata(int(row[0]), entry.properties)
            return int(row[0])
        assert entry.properties is not None  # an image that is not in the catalog was decoded
        facts, noted = entry.properties, entry.properties.metadata
        cursor = self._connection.execute(
            """INSERT INTO images (digest, width, height, format, size_bytes, taken_at, camera)
               VALUES (?, ?, ?, ?, ?, ?, ?)""",
            (
                entry.digest,
                facts.width,
                facts.height,
                facts.format,
                entry.file.size_bytes,
                noted.taken_at,
                noted.camera,
            ),
        )
        return int(cursor.lastrowid or 0)

    def _update_metadata(self, image_id: int, facts: ImageProperties | None) -> None:
        """What the camera noted, of an image that an older simsearch recorded without it."""
        if facts is not None and facts.metadata != ExifMetadata():
            self._connection.execute(
                "UPDATE images SET taken_at = ?, camera = ? WHERE id = ? AND taken_at IS NULL AND camera IS NULL",
                (facts.metadata.taken_at, facts.metadata.camera, image_id),
            )

    def _find_or_add_view(self, image_id: int, view: EmbeddedView) -> int:
        key = (image_id, view.kind, view.parameters)
        query = "SELECT id FROM views WHERE image_id = ? AND kind = ? AND parameters = ?"
        row = self._connection.execute(query, key).fetchone()
        if row is not None:
            return int(row[0])
        query = "INSERT INTO views (image_id, kind, parameters) VALUES (?, ?, ?)"
        return int(self._connection.execute(query, key).lastrowid or 0)
