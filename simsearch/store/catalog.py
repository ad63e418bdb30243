"""The SQLite truth of a collection: files, images, views, models, vectors, runs, skips. Reading."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import CollectionDamaged, CollectionNotFound, CollectionTooNew
from simsearch.images.metadata import ExifMetadata
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.models.model import GraphBytes, Model
from simsearch.sources.path_codec import decode_path, encode_path
from simsearch.sources.scan import FoundFile, Skip
from simsearch.store.connection import (
    CATALOG_NAME,
    SCHEMA_VERSION,
    connect_to_read,
    is_blank,
    is_catalog,
    is_outdated,
    make_not_found_error,
    translate_errors,
    upgrade_schema,
)
from simsearch.store.vectors import decode_vectors

if TYPE_CHECKING:
    from simsearch.filters import Sql

_MAX_VALUES = 500
"""How many values go into one statement."""

_MODEL_COLUMNS = "id, fingerprint, details, width, generation, augmentation"


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the catalog knows of a path. `n_vectors`: how many its image has of the model asked about."""

    size_bytes: int
    mtime_ns: int
    etag: str | None
    n_vectors: int

    def is_unchanged(self, file: FoundFile) -> bool:
        """Whether the size is what it was, and the ETag, or the modification time where there is none."""
        if file.etag is not None:
            return (self.size_bytes, self.etag) == (file.size_bytes, file.etag)
        return (self.size_bytes, self.mtime_ns) == (file.size_bytes, file.mtime_ns)


@dataclass(frozen=True, slots=True)
class ImageProperties:
    """What decoding told of an image: upright size in px, format, what the camera noted."""

    width: int
    height: int
    format: str
    metadata: ExifMetadata = field(default_factory=ExifMetadata)


@dataclass(frozen=True, slots=True)
class EmbeddedView:
    """A view of an image with its vector (d,); `parameters` is a JSON object."""

    kind: str
    parameters: str
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file to record. `facts` are None where nothing was decoded; `views` are those newly embedded."""

    file: FoundFile
    digest: str
    properties: ImageProperties | None = None
    views: Sequence[EmbeddedView] = ()


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model in the catalog, with the generation of its vectors.

    `fingerprint` is the one it was stored under: a later simsearch may compute another for the same model.
    `augmentation` says which views of every image it is to have a vector of.
    """

    id: int
    fingerprint: str
    model: Model
    width: int
    generation: int
    augmentation: Augmentation


@dataclass(slots=True)
class LiveView:
    """A view of an image that has at least one file. `paths` are the image's files, in order."""

    view_id: int
    image_id: int
    kind: str
    parameters: dict[str, Any]
    digest: str
    paths: list[str]


class Catalog:
    """A catalog to read. Reading goes on while another process writes."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection
        self._vector_counts: dict[int, tuple[int, int]] = {}
        self._check_schema()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the catalog of the collection in `folder`.

        One that an older simsearch wrote is brought up to date, which needs the right to write to it.

        Raises `CollectionNotFound`, `CollectionTooNew` or `CollectionDamaged`.
        """
        file = folder / CATALOG_NAME
        if not file.is_file():
            raise make_not_found_error(folder)
        with translate_errors(folder):
            connection = connect_to_read(file)
            if is_outdated(connection):
                connection.close()
                upgrade_schema(folder)
                connection = connect_to_read(file)
            return cls(folder, connection)

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether there is a collection in `folder`; what a run left that was killed while it made one is none.

        Raises what `open` raises on one that cannot be read.
        """
        try:
            cls.open(folder).close()
        except CollectionNotFound:
            return False
        return True

    def _check_schema(self) -> None:
        (version,) = self._fetch_one("PRAGMA user_version")
        with translate_errors(self.folder):
            is_ours = is_catalog(self._connection)
            if not is_ours and is_blank(self._connection):
                raise make_not_found_error(self.folder)
        if not is_ours:
            raise CollectionDamaged(
                str(self.folder),
                f"{self.folder / CATALOG_NAME} is not a simsearch catalog",
                "move it away and index again",
            )
        if version > SCHEMA_VERSION:
            raise CollectionTooNew(
                str(self.folder),
                f"{self.folder} was written by a newer simsearch (schema {version}, this one reads {SCHEMA_VERSION})",
                "upgrade: pip install -U simsearch",
            )

    def close(self) -> None:
        """Close the connection. The last one to close folds SQLite's write-ahead log into the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def read_transaction(self) -> Iterator[None]:
        """All that is read inside is of one moment, whatever another process writes meanwhile."""
        with translate_errors(self.folder):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    # What is there

    @property
    def uuid(self) -> str:
        """What tells this collection from every other."""
        return str(self._fetch_one("SELECT uuid FROM collection")[0])

    def count_contents(self) -> dict[str, int]:
        """How many files, images with a file, orphans (images without one), views and skips there are."""
        numbers = self._fetch_one(
            """SELECT (SELECT count(*) FROM files), (SELECT count(DISTINCT image_id) FROM files),
                      (SELECT count(*) FROM images), (SELECT count(*) FROM views), (SELECT count(*) FROM skips)"""
        )
        files, images, all_images, views, skips = numbers
        return {
            "files": files,
            "images": images,
            "orphans": all_images - images,
            "views": views,
            "skips": skips,
        }

    def list_models(self) -> list[StoredModel]:
        """Every model with vectors here, the one indexed with last first."""
        rows = self._iterate_rows(
            f"""SELECT {_MODEL_COLUMNS} FROM models
               ORDER BY (SELECT max(runs.id) FROM runs WHERE model_id = models.id) DESC, id DESC"""
        )
        return [_parse_stored_model(row) for row in rows]

    def find_model(self, fingerprint: str) -> StoredModel | None:
        """The model of that fingerprint as it is now, if the catalog has it."""
        row = self._connection.execute(
            f"SELECT {_MODEL_COLUMNS} FROM models WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        return row and _parse_stored_model(row)

    def read_graph(self, model_id: int) -> GraphBytes | None:
        """What was made of the model on the collection's own pictures, where anything was."""
        row = self._fetch_one("SELECT definition, weights FROM graphs WHERE model_id = ?", (model_id,))
        return None if row is None else GraphBytes(*row)

    def count_vectors(self, model_id: int) -> int:
        """How many vectors of the model there are: counted once for each of its generations, as it takes a while."""
        generation = self._fetch_one("SELECT generation FROM models WHERE id = ?", (model_id,))
        if generation is None:
            return 0
        known = self._vector_counts.get(model_id)
        if known is None or known[0] != generation[0]:
            (n,) = self._fetch_one("SELECT count(*) FROM vectors WHERE model_id = ?", (model_id,))
            known = self._vector_counts[model_id] = (generation[0], n)
        return known[1]

    def count_images(self, model_id: int) -> int:
        """How many images with a file the model has a vector of."""
        return int(
            self._fetch_one(
                """SELECT count(DISTINCT files.image_id) FROM files JOIN views USING (image_id)
                   JOIN vectors ON view_id = views.id WHERE model_id = ?""",
                (model_id,),
            )[0]
        )

    def list_skips(self) -> list[Skip]:
        """The files that the last runs could not read, by path."""
        rows = self._iterate_rows("SELECT path, reason FROM skips ORDER BY path")
        return [Skip(decode_path(path), reason) for path, reason in rows]

    def list_runs(self, last: int) -> list[dict[str, Any]]:
        """The last runs, newest first; `ended_at` is None for one that is going on or was killed."""
        names = ("id", "fingerprint", "sources", "process", "started_at", "ended_at", "embedded", "reused")
        rows = self._iterate_rows(
            """SELECT runs.id, fingerprint, sources, process, started_at, ended_at, embedded, reused
               FROM runs JOIN models ON models.id = model_id ORDER BY runs.id DESC LIMIT ?""",
            (last,),
        )
        return [dict(zip(names, row, strict=True)) | {"sources": json.loads(row[2])} for row in rows]

    # What ingest asks

    def find_known_files(self, paths: Sequence[str], model_id: int) -> dict[str, KnownFile]:
        """What is known of each of `paths`; unknown ones are absent."""
        known: dict[str, KnownFile] = {}
        # CROSS JOIN: without it SQLite walks all vectors of the model for each file.
        for some in _split_chunks([encode_path(path) for path in paths]):
            rows = self._iterate_rows(
                f"""SELECT path, size_bytes, mtime_ns, etag, (
                        SELECT count(*) FROM views CROSS JOIN vectors ON view_id = views.id AND model_id = ?
                        WHERE views.image_id = files.image_id)
                    FROM files WHERE path IN ({_make_placeholders(some)})""",
                (model_id, *some),
            )
            known |= {decode_path(path): KnownFile(*facts) for path, *facts in rows}
        return known

    def find_embedded_views(self, digest: str, model_id: int) -> set[int]:
        """The numbers of those views of the image of that content that have a vector of the model; 0: the original."""
        query = """SELECT ifnull(json_extract(parameters, '$.number'), 0) FROM images
                   JOIN views ON image_id = images.id JOIN vectors ON view_id = views.id AND model_id = ?
                   WHERE digest = ?"""
        return {int(number) for (number,) in self._fetch_all(query, (model_id, digest))}

    def iterate_embedded_contents(self, model_id: int) -> Iterator[tuple[str, int]]:
        """The digest and the number of every view that has a vector of the model, those of one digest together."""
        query = """SELECT digest, ifnull(json_extract(parameters, '$.number'), 0) FROM images
                   JOIN views ON image_id = images.id JOIN vectors ON view_id = views.id AND model_id = ?
                   ORDER BY images.id"""
        yield from self._iterate_rows(query, (model_id,))

    def find_vector_by_digest(self, digest: str, stored: StoredModel) -> NDArray[np.float32] | None:
        """The vector (d,) of the image of that content, or None where it has none of the model."""
        view_id = self.find_view_by_digest(digest, stored)
        return None if view_id is None else self.find_vector(stored, view_id)

    def find_view_by_digest(self, digest: str, stored: StoredModel) -> int | None:
        """The id of the original view of the image of that content, where the model has a vector of it."""
        query = """SELECT view_id FROM images JOIN views ON image_id = images.id AND kind = 'original'
                   JOIN vectors ON view_id = views.id AND model_id = ? WHERE digest = ?"""
        row = self._fetch_one(query, (stored.id, digest))
        return None if row is None else int(row[0])

    def find_vector(self, stored: StoredModel, view_id: int) -> NDArray[np.float32] | None:
        """The vector (d,) of a view, or None where it has none of the model."""
        blocks = list(self.iterate_vectors(stored, np.array([view_id])))
        return blocks[0][1][0] if blocks else None

    def iterate_paths(self) -> Iterator[str]:
        """Every path in the catalog."""
        for (path,) in self._iterate_rows("SELECT path FROM files ORDER BY id"):
            yield decode_path(path)

    def iterate_contents(self) -> Iterator[tuple[str, int, str]]:
        """Every path with its image's id and digest."""
        for path, image_id, digest in self._iterate_rows(
            "SELECT path, image_id, digest FROM files JOIN images ON images.id = image_id ORDER BY files.id"
        ):
            yield decode_path(path), image_id, digest

    # What search asks

    def list_vector_ids(self, model_id: int) -> NDArray[np.int64]:
        """The view ids that the model has vectors of, ascending."""
        rows = self._iterate_rows("SELECT view_id FROM vectors WHERE model_id = ? ORDER BY view_id", (model_id,))
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def find_last_view_id(self, model_id: int) -> int:
        """The largest of `vector_ids`, 0 where there are none."""
        return int(self._fetch_one("SELECT ifnull(max(view_id), 0) FROM vectors WHERE model_id = ?", (model_id,))[0])

    def list_original_ids(self, model_id: int) -> NDArray[np.int64]:
        """Those of `vector_ids` that are original views, ascending."""
        query = """SELECT view_id FROM vectors JOIN views ON views.id = view_id
                   WHERE model_id = ? AND kind = 'original' ORDER BY view_id"""
        return np.fromiter((row[0] for row in self._iterate_rows(query, (model_id,))), dtype=np.int64)

    def find_matching_ids(self, model_id: int, condition: Sql) -> NDArray[np.int64]:
        """Those of `vector_ids` that are views of an image with a file of which the condition holds, ascending."""
        query = f"""SELECT view_id FROM vectors JOIN views ON views.id = view_id WHERE model_id = ? AND image_id IN (
                    SELECT files.image_id FROM files JOIN images ON images.id = files.image_id
                    WHERE {condition.text}) ORDER BY view_id"""
        rows = self._iterate_rows(query, (model_id, *condition.parameters))
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def read_index_details(self, model_id: int, method: str) -> dict[str, Any] | None:
        """How the index of a model's vectors, or of what a method makes of them, was built; None where none was."""
        row = self._fetch_one("SELECT details FROM indexes WHERE model_id = ? AND method = ?", (model_id, method))
        return None if row is None else dict(json.loads(row[0]))

    def count_fitted_vectors(self, model_id: int, method: str) -> int | None:
        """How many vectors the model had when the projection that is kept was fitted, or None where there is none."""
        row = self._fetch_one("SELECT n_vectors FROM projections WHERE model_id = ? AND method = ?", (model_id, method))
        return None if row is None else int(row[0])

    def read_projection(self, model_id: int, method: str) -> bytes:
        """A projection of the model's vectors; empty where there is none."""
        row = self._fetch_one(
            "SELECT projection FROM projections WHERE model_id = ? AND method = ?", (model_id, method)
        )
        return b"" if row is None else bytes(row[0])

    def list_view_numbers(self, model_id: int) -> NDArray[np.int64]:
        """For every vector of the model its view's id, image's id and number (0: the original), (n, 3), by view id."""
        rows = self._fetch_all(
            """SELECT view_id, image_id, ifnull(json_extract(parameters, '$.number'), 0)
               FROM vectors JOIN views ON views.id = view_id WHERE model_id = ? ORDER BY view_id""",
            (model_id,),
        )
        return np.array(rows, np.int64).reshape(-1, 3)

    def iterate_vectors(
        self, stored: StoredModel, view_ids: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The vectors of those views in blocks of ids (n,) and rows (n, d).

        Raises `CollectionDamaged` on a vector of another width.
        """
        for some in _split_chunks(view_ids.tolist()):
            rows = self._iterate_rows(
                f"SELECT view_id, vector FROM vectors WHERE model_id = ? AND view_id IN ({_make_placeholders(some)})",
                (stored.id, *some),
            )
            found = list(rows)
            if not found:
                continue
            ids, blobs = zip(*found, strict=True)
            yield np.array(ids, dtype=np.int64), decode_vectors(self.folder, blobs, stored.width)

    def find_live_views(self, view_ids: Sequence[int]) -> dict[int, LiveView]:
        """Those of the views whose image still has a file, by id."""
        views: dict[int, LiveView] = {}
        for some in _split_chunks(view_ids):
            rows = self._fetch_all(
                f"""SELECT views.id, views.image_id, kind, parameters, digest, path
                    FROM views JOIN images ON images.id = views.image_id
                    JOIN files ON files.image_id = views.image_id
                    WHERE views.id IN ({_make_placeholders(some)}) ORDER BY files.id""",
                some,
            )
            for view_id, image_id, kind, parameters, digest, path in rows:
                if (view := views.get(view_id)) is None:
                    details = json.loads(parameters) if kind != "original" else {}
                    view = views[view_id] = LiveView(view_id, image_id, kind, details, digest, [])
                view.paths.append(decode_path(path))
        return views

    def find_original_views(self, image_ids: Sequence[int]) -> dict[int, int]:
        """The id of the original view of each of those images."""
        found: dict[int, int] = {}
        for some in _split_chunks(image_ids):
            query = (
                f"SELECT image_id, id FROM views WHERE kind = 'original' AND image_id IN ({_make_placeholders(some)})"
            )
            found |= dict(self._fetch_all(query, some))
        return found

    def find_original_view(self, image_id: int) -> int | None:
        """The id of an image's original view, or None where there is no such image with a file."""
        row = self._connection.execute(
            """SELECT views.id FROM views JOIN files USING (image_id)
               WHERE image_id = ? AND kind = 'original' LIMIT 1""",
            (image_id,),
        ).fetchone()
        return row and int(row[0])

    # What its owner noted

    def read_setting(self, name: str) -> str | None:
        """What was set, or None where nothing was."""
        row = self._fetch_one("SELECT value FROM settings WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def find_last_change(self) -> int:
        """The number of the last change of an image, as counted where the collection is searched in Milvus."""
        return int(self._fetch_one("SELECT ifnull(max(number), 0) FROM changes")[0])

    def count_columns(self) -> dict[str, int]:
        """The names of the user's own columns, in their order, each with how many images have a value."""
        return dict(self._fetch_all("SELECT name, count(*) FROM annotations GROUP BY name ORDER BY name"))

    def list_rejected_pairs(self) -> set[tuple[int, int]]:
        """The pairs of images, the smaller id first, that a person said are no duplicates."""
        return set(self._fetch_all("SELECT image_a, image_b FROM rejected_pairs"))

    def count_metadata(self) -> dict[str, int]:
        """Of how many images with a file the date and the camera are known."""
        query = """SELECT count(taken_at), count(camera) FROM images
                   WHERE EXISTS (SELECT 1 FROM files WHERE image_id = images.id)"""
        return dict(zip(("taken", "camera"), self._fetch_one(query), strict=True))

    def find_damage(self) -> list[str]:
        """What SQLite itself finds wrong, one line each."""
        with translate_errors(self.folder):
            torn = [row[0] for row in self._connection.execute("PRAGMA integrity_check")]
            dangling = self._connection.execute("PRAGMA foreign_key_check").fetchall()
        lines = [] if torn == ["ok"] else torn
        return lines + [f"table {row[0]}, row {row[1]} refers to a missing row of {row[2]}" for row in dangling]

    def _iterate_rows(self, query: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        with translate_errors(self.folder):
            yield from self._connection.execute(query, values)

    def _fetch_all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with translate_errors(self.folder):
            return self._connection.execute(query, values).fetchall()

    def _fetch_one(self, query: str, values: Sequence[Any] = ()) -> Any:
        with translate_errors(self.folder):
            return self._connection.execute(query, values).fetchone()


def _parse_stored_model(row: tuple[int, str, str, int, int, str | None]) -> StoredModel:
    id_, fingerprint, details, width, generation, augmentation = row
    views = Augmentation.from_json(augmentation) if augmentation else NO_AUGMENTATION
    return StoredModel(id_, fingerprint, Model.from_json(details), width, generation, views)


def _split_chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), _MAX_VALUES):
        yield values[start : start + _MAX_VALUES]


def _make_placeholders(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))
