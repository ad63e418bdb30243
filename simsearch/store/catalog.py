"""Reading a catalog: files, images, views, models, vectors, runs, skips and settings of a collection."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from simsearch.images.metadata import ExifMetadata
from simsearch.images.perceptual_hash import PictureHashes
from simsearch.images.statistics import PictureStatistics
from simsearch.images.views import NO_AUGMENTATION, Augmentation
from simsearch.models.model import GraphBytes, Model
from simsearch.sources.path_codec import decode_path, encode_path
from simsearch.sources.scan import FoundFile, Skip
from simsearch.store import settings
from simsearch.store.connection import TOKENS_VERSION, read_version
from simsearch.store.database import CatalogDatabase, is_row_id, split_chunks
from simsearch.store.vectors import decode_vectors

if TYPE_CHECKING:
    from simsearch.filters import Sql

_FROM_MATCHES = """FROM vectors JOIN views ON views.id = view_id WHERE model_id = ? AND image_id IN (
    SELECT files.image_id FROM files JOIN images ON images.id = files.image_id WHERE {})"""
_ID_RANGE = 512
_VECTOR_IDS = """WITH RECURSIVE
    ranges(first) AS (SELECT min(view_id) FROM vectors WHERE model_id = ?1
        UNION ALL SELECT (SELECT min(view_id) FROM vectors WHERE model_id = ?1 AND view_id >= first + ?2)
                  FROM ranges WHERE first IS NOT NULL)
    SELECT first, CASE (SELECT count(*) FROM vectors
                        WHERE model_id = ?1 AND view_id >= ranges.first AND view_id < ranges.first + ?2)
        WHEN ?2 THEN NULL
        ELSE (SELECT group_concat(view_id) FROM (SELECT view_id FROM vectors
              WHERE model_id = ?1 AND view_id >= ranges.first AND view_id < ranges.first + ?2 ORDER BY view_id)) END
    FROM ranges WHERE first IS NOT NULL"""
"""Ranges of view ids, each from an id that has a vector of the model: that id, and NULL where all have one, else those
that have one. The next range begins at the next id with a vector, however far away: a damaged id may be 2**63 - 1."""

UNREAD_DIGEST = "unread:"
"""How the digest of an image begins whose picture has not been read: its vectors were imported without it."""

IS_UNREAD = f"images.digest >= '{UNREAD_DIGEST}' AND images.digest < 'unread;'"  # a range, so that the index serves it
_MODEL_COLUMNS = "id, fingerprint, details, width, generation, augmentation"


_Values = ParamSpec("_Values")
_Result = TypeVar("_Result")


def _keep_until_change(
    read: Callable[Concatenate[Catalog, _Values], _Result],
) -> Callable[Concatenate[Catalog, _Values], _Result]:
    """Keep what a method has read until the catalog changes: seeing that takes a tenth of reading it again."""

    @functools.wraps(read)
    def read_kept(self: Catalog, /, *values: _Values.args, **names: _Values.kwargs) -> _Result:
        version = self._find_version()
        if version is None:
            return read(self, *values, **names)
        if version != self._kept_version:
            self._kept_version, self._kept_results = version, {}
        key = (read.__name__, *values, *names.items())
        if key not in self._kept_results:
            self._kept_results[key] = read(self, *values, **names)
        result: _Result = self._kept_results[key]
        return result

    return read_kept


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file in the catalog. `n_vectors` is the number of its image's vectors of the model in question."""

    size_bytes: int
    mtime_ns: int
    etag: str | None
    n_vectors: int

    def is_unchanged(self, file: FoundFile) -> bool:
        """Whether size and ETag are the same, or size and modification time where there is no ETag."""
        if file.etag is not None:
            return (self.size_bytes, self.etag) == (file.size_bytes, file.etag)
        return (self.size_bytes, self.mtime_ns) == (file.size_bytes, file.mtime_ns)


@dataclass(frozen=True, slots=True)
class ImageProperties:
    """Properties of a decoded image: upright size in px, file format, EXIF metadata; hashes and statistics if known."""

    width: int
    height: int
    format: str
    metadata: ExifMetadata = field(default_factory=ExifMetadata)
    hashes: PictureHashes | None = None
    statistics: PictureStatistics | None = None


@dataclass(frozen=True, slots=True)
class EmbeddedView:
    """A view of an image with its vector (d,); `parameters` is a JSON object."""

    kind: str
    parameters: str
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file to record. `properties` are None where nothing was decoded; `views` are the newly embedded ones."""

    file: FoundFile
    digest: str
    properties: ImageProperties | None = None
    views: Sequence[EmbeddedView] = ()


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model in the catalog.

    `fingerprint` is the one it was stored under; a later simsearch may compute another one for the same model.
    `width` is the number of dimensions of its vectors. `change_token` is random and changes with its vectors.
    `augmentation` states which views of every image are embedded.
    """

    id: int
    fingerprint: str
    model: Model
    width: int
    change_token: int
    augmentation: Augmentation


@dataclass(slots=True)
class LiveView:
    """A view of an image that has at least one file. `paths` are the image's files in the order of indexing."""

    view_id: int
    image_id: int
    kind: str
    parameters: dict[str, Any]
    digest: str
    paths: list[str]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run of `simsearch index`. `process` is its process id; times are UTC, `YYYY-MM-DD HH:MM:SS`.

    `ended_at` and the counts are None for a run that is still active or was killed.
    """

    id: int
    fingerprint: str
    sources: Sequence[str]
    process: int
    started_at: str
    ended_at: str | None
    embedded: int | None
    reused: int | None

    def to_dict(self) -> dict[str, Any]:
        """Convert to the JSON object of `simsearch info --json`."""
        return asdict(self)


class Catalog(CatalogDatabase):
    """A catalog opened for reading. Reading continues while another process writes."""

    def __init__(self, folder: Path, connection: Connection) -> None:
        super().__init__(folder, connection)
        self._vector_counts: dict[int, tuple[int, int]] = {}
        self._missing_counts: dict[int, tuple[tuple[int, ...] | None, int]] = {}
        self._kept_version: int | None = None
        self._kept_results: dict[tuple[object, ...], Any] = {}
        self._assumed_version: int | None = None

    @contextlib.contextmanager
    def look_once(self) -> Iterator[None]:
        """Within the block, look only once whether the catalog has changed, and in each read transaction again."""
        self._assumed_version = self._read_version()
        try:
            yield
        finally:
            self._assumed_version = None

    def _find_version(self) -> int | None:
        if self._assumed_version is not None and not self._current_connection.in_transaction:
            return self._assumed_version
        return self._read_version()

    # The collection as a whole

    @property
    @_keep_until_change
    def uuid(self) -> str:
        """The unique id of this collection; a copy of the folder has the same one."""
        return str(self._fetch_one("SELECT uuid FROM collection")[0])

    @property
    def change_token(self) -> int:
        """A random number that changes with files, columns and rejected pairs; 0 in a catalog of an older simsearch."""
        if not self._has_tokens:
            return 0
        return int(self._fetch_one("SELECT change_token FROM collection")[0])

    @property
    def file_token(self) -> int:
        """A number that changes with files and images, not with the user's own columns and rejected pairs."""
        token = self.change_token
        file_token, _, later = (self.read_setting(settings.FILE_STATE) or "").partition(" ")
        return int(file_token) if later == str(token) else token

    @property
    def _has_tokens(self) -> bool:
        return self._read(read_version) >= TOKENS_VERSION

    def count_contents(self) -> dict[str, int]:
        """Count files, images with a file, orphans (images without a file), views and skips."""
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

    def count_metadata(self) -> dict[str, int]:
        """Count the images with a file whose date (`taken`) and whose `camera` are known."""
        query = "SELECT count(taken_at), count(camera) FROM images"
        if self._has_orphans():
            query += " WHERE EXISTS (SELECT 1 FROM files WHERE image_id = images.id)"
        return dict(zip(("taken", "camera"), self._fetch_one(query), strict=True))

    @_keep_until_change
    def _has_orphans(self) -> bool:
        """Whether there are images without a file; where there are none, counting needs no joins."""
        query = "SELECT (SELECT count(*) FROM images) > (SELECT count(DISTINCT image_id) FROM files)"
        return bool(self._fetch_one(query)[0])

    def count_columns(self) -> dict[str, int]:
        """The user's own columns by name, each with the number of images that have a value."""
        return dict(self._fetch_all("SELECT name, count(*) FROM annotations GROUP BY name ORDER BY name"))

    def read_column(self, name: str) -> dict[int, str | float]:
        """The values of one of the user's own columns by image id."""
        return dict(self._iterate_rows("SELECT image_id, value FROM annotations WHERE name = ?", (name,)))

    def list_skips(self) -> list[Skip]:
        """The files that the last runs could not read, by path."""
        rows = self._iterate_rows("SELECT path, reason FROM skips ORDER BY path")
        return [Skip(decode_path(path), reason) for path, reason in rows]

    def list_runs(self, n: int) -> list[RunRecord]:
        """The last n runs, newest first."""
        rows = self._iterate_rows(
            """SELECT runs.id, fingerprint, sources, process, started_at, ended_at, embedded, reused
               FROM runs JOIN models ON models.id = model_id ORDER BY runs.id DESC LIMIT ?""",
            (n,),
        )
        return [_parse_run(row) for row in rows]

    def list_rejected_pairs(self) -> set[tuple[int, int]]:
        """The pairs of image ids, smaller id first, that a person marked as not duplicates."""
        return set(self._fetch_all("SELECT image_a, image_b FROM rejected_pairs"))

    @_keep_until_change
    def read_setting(self, name: str) -> str | None:
        """Read a setting of the collection (see `store.settings`); None where it is not set."""
        row = self._fetch_one("SELECT value FROM settings WHERE name = ?", (name,))
        return None if row is None else str(row[0])

    def find_last_change(self) -> int:
        """The number of the last change of an image; changes are counted while the collection is searched in Milvus."""
        return int(self._fetch_one("SELECT ifnull(max(number), 0) FROM changes")[0])

    # Models and results derived from their vectors

    def list_models(self) -> list[StoredModel]:
        """All models with vectors: the default of queries first, then by their last run, the newest first.

        Models whose first run has not ended come last.
        """
        return list(self._list_models())

    @_keep_until_change
    def _list_models(self) -> tuple[StoredModel, ...]:
        rows = self._iterate_rows(
            f"""SELECT {_MODEL_COLUMNS} FROM models ORDER BY
               fingerprint IS (SELECT value FROM settings WHERE name = ?) DESC,
               (SELECT max(runs.id) FROM runs WHERE model_id = models.id AND ended_at IS NOT NULL) DESC, id DESC""",
            (settings.DEFAULT_MODEL,),
        )
        return tuple(_parse_stored_model(row) for row in rows)

    @_keep_until_change
    def find_model(self, fingerprint: str) -> StoredModel | None:
        """Find the model with this fingerprint in its current state; None where there is none."""
        row = self._fetch_one(f"SELECT {_MODEL_COLUMNS} FROM models WHERE fingerprint = ?", (fingerprint,))
        return row and _parse_stored_model(row)

    def read_graph(self, model_id: int) -> GraphBytes | None:
        """Read the int8 graph calibrated on the collection's own images; None where there is none."""
        row = self._fetch_one("SELECT definition, weights FROM graphs WHERE model_id = ?", (model_id,))
        return None if row is None else GraphBytes(*row)

    def read_index_details(self, model_id: int, method: str) -> str | None:
        """Read how the index of a model's vectors was built, as JSON; None where no index was built.

        `method` names the re-ranking method that transforms the vectors; empty for the vectors as they are.
        """
        row = self._fetch_one("SELECT details FROM indexes WHERE model_id = ? AND method = ?", (model_id, method))
        return None if row is None else str(row[0])

    def count_fitted_vectors(self, model_id: int, method: str) -> int | None:
        """The number of vectors that the stored projection was fitted to; None where no projection is stored."""
        row = self._fetch_one("SELECT n_vectors FROM projections WHERE model_id = ? AND method = ?", (model_id, method))
        return None if row is None else int(row[0])

    def read_projection(self, model_id: int, method: str) -> bytes:
        """Read the stored projection of a model's vectors; empty where none is stored."""
        row = self._fetch_one(
            "SELECT projection FROM projections WHERE model_id = ? AND method = ?", (model_id, method)
        )
        return b"" if row is None else bytes(row[0])

    # Files and contents, for indexing

    def find_known_files(self, paths: Sequence[str], model_id: int) -> dict[str, KnownFile]:
        """Find the files at these paths; unknown paths are left out."""
        known: dict[str, KnownFile] = {}
        # CROSS JOIN fixes the join order: without it SQLite scans all vectors of the model for each file.
        for some, marks in split_chunks([encode_path(path) for path in paths]):
            rows = self._iterate_rows(
                f"""SELECT path, size_bytes, mtime_ns, etag, (
                        SELECT count(*) FROM views CROSS JOIN vectors ON view_id = views.id AND model_id = ?
                        WHERE views.image_id = files.image_id)
                    FROM files WHERE path IN ({marks})""",
                (model_id, *some),
            )
            known |= {decode_path(path): KnownFile(*facts) for path, *facts in rows}
        return known

    def find_embedded_views(self, digest: str, model_id: int) -> set[int]:
        """The view numbers (0: original) of the image with this content that have a vector of the model."""
        query = """SELECT ifnull(json_extract(parameters, '$.number'), 0) FROM images
                   JOIN views ON image_id = images.id JOIN vectors ON view_id = views.id AND model_id = ?
                   WHERE digest = ?"""
        return {int(number) for (number,) in self._fetch_all(query, (model_id, digest))}

    def iterate_embedded_contents(self, model_id: int) -> Iterator[tuple[str, int]]:
        """Digest and view number of every view with a vector of the model, grouped by digest."""
        query = """SELECT digest, ifnull(json_extract(parameters, '$.number'), 0) FROM images
                   JOIN views ON image_id = images.id JOIN vectors ON view_id = views.id AND model_id = ?
                   ORDER BY images.id"""
        yield from self._iterate_rows(query, (model_id,))

    def has_path(self, path: str) -> bool:
        """Whether the catalog has a file at this path."""
        return self._fetch_one("SELECT 1 FROM files WHERE path = ?", (encode_path(path),)) is not None

    def count_images_without(self, model_id: int, other_id: int) -> int:
        """Count the images with a file that have a vector of one model and none of the other."""
        query = """SELECT count(DISTINCT files.image_id) FROM files JOIN views USING (image_id)
                   JOIN vectors ON view_id = views.id WHERE model_id = ? AND kind = 'original'
                   AND view_id NOT IN (SELECT view_id FROM vectors WHERE model_id = ?)"""
        return int(self._fetch_one(query, (model_id, other_id))[0])

    def iterate_paths(self) -> Iterator[str]:
        """All paths in the catalog, in the order of indexing."""
        for (path,) in self._iterate_rows("SELECT path FROM files ORDER BY id"):
            yield decode_path(path)

    def list_unread_paths(self) -> set[str]:
        """The paths of the images whose pictures have not been read."""
        query = f"SELECT path FROM files JOIN images ON images.id = image_id WHERE {IS_UNREAD}"
        return {decode_path(path) for (path,) in self._iterate_rows(query)}

    def iterate_contents(self) -> Iterator[tuple[str, int, str]]:
        """All paths in the catalog, each with the id and the digest of its image."""
        for path, image_id, digest in self._iterate_rows(
            "SELECT path, image_id, digest FROM files JOIN images ON images.id = image_id ORDER BY files.id"
        ):
            yield decode_path(path), image_id, digest

    # Views and vectors, for searching

    def count_vectors(self, model_id: int) -> int:
        """Count the vectors of a model; the result is cached until they change."""
        token = self._fetch_one("SELECT generation FROM models WHERE id = ?", (model_id,))
        if token is None:
            return 0
        known = self._vector_counts.get(model_id)
        if known is None or known[0] != token[0]:
            (n,) = self._fetch_one("SELECT count(*) FROM vectors WHERE model_id = ?", (model_id,))
            known = self._vector_counts[model_id] = (token[0], n)
        return known[1]

    @_keep_until_change
    def count_images_missing(self, stored: StoredModel) -> int:
        """Count the images with a file that have no vector of a model; the result is cached until either changes."""
        state = (
            self._fetch_one("SELECT change_token, generation FROM collection, models WHERE models.id = ?", (stored.id,))
            if self._has_tokens
            else None
        )
        known = self._missing_counts.get(stored.id)
        if state is None or known is None or known[0] != state:
            known = self._missing_counts[stored.id] = (state, self._count_images_missing(stored))
        return known[1]

    def _count_images_missing(self, stored: StoredModel) -> int:
        (n_all,) = self._fetch_one("SELECT count(*) FROM images")
        if self.count_vectors(stored.id) == n_all * len(stored.augmentation.numbers):
            return 0  # what is usual costs one count; an image has at most so many vectors
        return self.count_contents()["images"] - self.count_images(stored.id)

    def has_had_state(self, model_id: int, change_token: int) -> bool:
        """Whether the model's vectors have had this token, so that no id has another vector since."""
        if not self._has_tokens:
            return False
        query = "SELECT 1 FROM vector_states WHERE model_id = ? AND token = ?"
        return self._fetch_one(query, (model_id, change_token)) is not None

    def count_images(self, model_id: int) -> int:
        """Count the images with a file that have a vector of the model."""
        (n_views,) = self._fetch_one("SELECT count(*) FROM views")
        if n_views == self.count_vectors(model_id) and not self._has_orphans():  # no join is needed
            return int(self._fetch_one("SELECT count(DISTINCT image_id) FROM views")[0])
        return int(
            self._fetch_one(
                """SELECT count(DISTINCT files.image_id) FROM files JOIN views USING (image_id)
                   JOIN vectors ON view_id = views.id WHERE model_id = ?""",
                (model_id,),
            )[0]
        )

    def list_image_ids(self, condition: Sql | None = None) -> NDArray[np.int64]:
        """The ids (n,) of the images with a file, or with a file that meets the condition, in the order of indexing."""
        matches = "" if condition is None else f"JOIN images ON images.id = files.image_id WHERE {condition.text}"
        query = f"SELECT files.image_id FROM files {matches} GROUP BY files.image_id ORDER BY min(files.id)"
        rows = self._iterate_rows(query, () if condition is None else condition.parameters)
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def list_vector_ids(self, model_id: int) -> NDArray[np.int64]:
        """The ids of the views with a vector of the model (n,), ascending.

        Most ids follow each other: SQLite counts those of a range, and only ranges with gaps are read. Counting ten
        million takes 0.7 s, reading them 7 s.
        """
        if self._current_connection.in_transaction:  # else the three results might be of different states
            (first,) = self._fetch_one("SELECT ifnull(min(view_id), 1) FROM vectors WHERE model_id = ?", (model_id,))
            last = self.find_last_view_id(model_id)
            if last - first + 1 == self.count_vectors(model_id):
                return np.arange(first, last + 1, dtype=np.int64)
        some = [np.empty(0, np.int64)]
        for first, listed in self._iterate_rows(_VECTOR_IDS, (model_id, _ID_RANGE)):
            if listed is None:
                some.append(np.arange(first, first + _ID_RANGE, dtype=np.int64))
            else:
                some.append(np.fromstring(listed, np.int64, sep=","))
        return np.concatenate(some)

    def find_last_view_id(self, model_id: int) -> int:
        """The largest of `list_vector_ids`; 0 where there are none."""
        return int(self._fetch_one("SELECT ifnull(max(view_id), 0) FROM vectors WHERE model_id = ?", (model_id,))[0])

    def list_original_ids(self, model_id: int) -> NDArray[np.int64]:
        """Those of `list_vector_ids` that are original views, ascending."""
        query = """SELECT view_id FROM vectors JOIN views ON views.id = view_id
                   WHERE model_id = ? AND kind = 'original' ORDER BY view_id"""
        return np.fromiter((row[0] for row in self._iterate_rows(query, (model_id,))), dtype=np.int64)

    def find_matching_ids(self, model_id: int, condition: Sql) -> NDArray[np.int64]:
        """Those of `list_vector_ids` whose image has a file that meets the condition, ascending."""
        rows = self._iterate_rows(
            f"SELECT view_id {_FROM_MATCHES.format(condition.text)} ORDER BY view_id",
            (model_id, *condition.parameters),
        )
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def read_values(self, image_ids: Sequence[int]) -> dict[int, dict[str, str | float]]:
        """The values of the user's own columns by image id, for those of the images that have a file."""
        values: dict[int, dict[str, str | float]] = {}
        for some, marks in split_chunks([image_id for image_id in image_ids if is_row_id(image_id)]):
            query = f"SELECT DISTINCT image_id FROM files WHERE image_id IN ({marks})"
            values |= {image_id: {} for (image_id,) in self._fetch_all(query, some)}
            query = f"SELECT image_id, name, value FROM annotations WHERE image_id IN ({marks})"
            for image_id, name, value in self._fetch_all(query, some):
                if image_id in values:
                    values[image_id][name] = value
        return values

    def find_matching_images(self, condition: Sql) -> NDArray[np.int64]:
        """The ids of the images that have a file which meets the condition, ascending."""
        query = f"""SELECT DISTINCT files.image_id FROM files JOIN images ON images.id = files.image_id
                    WHERE {condition.text} ORDER BY files.image_id"""
        return np.fromiter((row[0] for row in self._iterate_rows(query, condition.parameters)), dtype=np.int64)

    def is_match(self, model_id: int, view_id: int, condition: Sql) -> bool:
        """Whether a view is one of `find_matching_ids`."""
        query = f"SELECT 1 {_FROM_MATCHES.format(condition.text)} AND view_id = ?"
        return self._fetch_one(query, (model_id, *condition.parameters, view_id)) is not None

    def list_view_numbers(self, model_id: int) -> NDArray[np.int64]:
        """View id, image id and view number (0: original) of every vector of the model, (n, 3), by view id."""
        rows = self._fetch_all(
            """SELECT view_id, image_id, ifnull(json_extract(parameters, '$.number'), 0)
               FROM vectors JOIN views ON views.id = view_id WHERE model_id = ? ORDER BY view_id""",
            (model_id,),
        )
        return np.array(rows, np.int64).reshape(-1, 3)

    def iterate_vectors(
        self, stored: StoredModel, view_ids: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Read the vectors of these views in blocks of ids (n,) and rows (n, d); views without a vector are left out.

        Raises `CollectionDamaged` where a vector has another width.
        """
        for some, marks in split_chunks(view_ids.tolist()):
            rows = self._fetch_all(
                f"""SELECT view_id, vector FROM vectors WHERE model_id = ? AND view_id IN ({marks}) ORDER BY view_id""",
                (stored.id, *some),
            )
            if rows:
                ids, blobs = zip(*rows, strict=True)
                yield np.array(ids, dtype=np.int64), decode_vectors(self.folder, blobs, stored.width)

    def find_vector(self, stored: StoredModel, view_id: int) -> NDArray[np.float32] | None:
        """Read the vector (d,) of a view; None where it has none of the model."""
        blocks = list(self.iterate_vectors(stored, np.array([view_id])))
        return blocks[0][1][0] if blocks else None

    def find_view_by_digest(self, digest: str, stored: StoredModel) -> int | None:
        """The id of the original view of the image with this content, where it has a vector of the model."""
        query = """SELECT view_id FROM images JOIN views ON image_id = images.id AND kind = 'original'
                   JOIN vectors ON view_id = views.id AND model_id = ? WHERE digest = ?"""
        row = self._fetch_one(query, (stored.id, digest))
        return None if row is None else int(row[0])

    def find_vector_by_digest(self, digest: str, stored: StoredModel) -> NDArray[np.float32] | None:
        """Read the vector (d,) of the original view of the image with this content; None where it has none."""
        view_id = self.find_view_by_digest(digest, stored)
        return None if view_id is None else self.find_vector(stored, view_id)

    def find_unread_view(self, key: str, stored: StoredModel) -> LiveView | None:
        """The original view of an image whose picture has not been read, by its key; None where there is none."""
        query = f"""SELECT views.id FROM files JOIN images ON images.id = files.image_id
                    JOIN views ON views.image_id = images.id AND kind = 'original'
                    JOIN vectors ON view_id = views.id AND model_id = ? WHERE path = ? AND {IS_UNREAD}"""
        row = self._fetch_one(query, (stored.id, encode_path(key)))
        return None if row is None else self.find_live_views([int(row[0])]).get(int(row[0]))

    def list_unread_image_ids(self) -> NDArray[np.int64]:
        """The ids of the images whose pictures have not been read, ascending."""
        rows = self._iterate_rows(f"SELECT id FROM images WHERE {IS_UNREAD} ORDER BY id")
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def find_live_views(self, view_ids: Sequence[int], *, with_digests: bool = True) -> dict[int, LiveView]:
        """Those of the views whose image has a file, by id; without digests these are empty, which takes less time."""
        views: dict[int, LiveView] = {}
        digest, images = ("digest", "JOIN images ON images.id = views.image_id") if with_digests else ("''", "")
        for some, marks in split_chunks(view_ids):
            # CROSS JOIN fixes the join order, by which the files of an image come in the order of their ids.
            rows = self._fetch_all(
                f"""SELECT views.id, views.image_id, kind, parameters, {digest}, path
                    FROM views {images} CROSS JOIN files ON files.image_id = views.image_id
                    WHERE views.id IN ({marks})""",
                some,
            )
            for view_id, image_id, kind, parameters, digest_, path in rows:
                if (view := views.get(view_id)) is None:
                    details = _parse_object(parameters) if kind != "original" else {}
                    view = views[view_id] = LiveView(view_id, image_id, kind, details, digest_, [])
                view.paths.append(decode_path(path))
        return views

    def find_stored_example(
        self, image_id: int, stored: StoredModel
    ) -> tuple[int, str, NDArray[np.float32] | None] | None:
        """The id, digest and vector (d,) of an image's original view; None where no image with a file has this id.

        The vector is None where the view has none of the model. Raises `CollectionDamaged` where it has another width.
        """
        if not is_row_id(image_id):
            return None
        row = self._fetch_one(
            """SELECT views.id, digest, vector FROM images JOIN views ON views.image_id = images.id
               LEFT JOIN vectors ON view_id = views.id AND model_id = ?
               WHERE images.id = ? AND kind = 'original'
               AND EXISTS (SELECT 1 FROM files WHERE files.image_id = images.id)""",
            (stored.id, image_id),
        )
        if row is None:
            return None
        view_id, digest, blob = row
        vector = None if blob is None else decode_vectors(self.folder, [blob], stored.width)[0]
        return view_id, digest, vector

    def find_original_views(self, image_ids: Sequence[int]) -> dict[int, int]:
        """The ids of the original views of these images, by image id."""
        found: dict[int, int] = {}
        for some, marks in split_chunks([image_id for image_id in image_ids if is_row_id(image_id)]):
            query = f"SELECT image_id, id FROM views WHERE kind = 'original' AND image_id IN ({marks})"
            found |= dict(self._fetch_all(query, some))
        return found

    def find_original_view(self, image_id: int) -> int | None:
        """The id of an image's original view; None where no image with a file has this id."""
        if not is_row_id(image_id):
            return None
        row = self._fetch_one(
            """SELECT views.id FROM views JOIN files USING (image_id)
               WHERE image_id = ? AND kind = 'original' LIMIT 1""",
            (image_id,),
        )
        return None if row is None else int(row[0])


def describe_missing_images(stored: StoredModel, n_missing: int) -> str:
    """Say that images have no vector of a model, and what adds them."""
    images, name = ("image has", stored.model.backbone) if n_missing == 1 else ("images have", stored.model.backbone)
    advice = "`simsearch index SOURCE` adds them" if stored.model.runtime != "imported" else ""
    return f"{n_missing:,} {images} no vector of {name} and cannot be found by it" + (f"; {advice}" if advice else "")


def _parse_object(text: str) -> dict[str, Any]:
    parsed = json.loads(text)
    if not isinstance(parsed, dict):
        raise TypeError("not a JSON object")
    return parsed


def _parse_stored_model(row: tuple[int, str, str, int, int, str | None]) -> StoredModel:
    id_, fingerprint, details, width, change_token, augmentation = row
    views = Augmentation.from_json(augmentation) if augmentation else NO_AUGMENTATION
    return StoredModel(id_, fingerprint, Model.from_json(details), operator.index(width), change_token, views)


def _parse_run(row: Sequence[Any]) -> RunRecord:
    id_, fingerprint, sources, process, started_at, ended_at, *counts = row
    embedded, reused = (None if count is None else operator.index(count) for count in counts)
    parsed = [str(source) for source in json.loads(sources)]
    return RunRecord(id_, fingerprint, parsed, process, started_at, ended_at, embedded, reused)
