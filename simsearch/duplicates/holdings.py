"""What the catalog knows of images and their files, as a search for duplicates needs it. One moment's state."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.sources.path_codec import decode_path
from simsearch.store.catalog import Catalog
from simsearch.store.connection import CATALOG_NAME, connect_to_read, translate_errors

_MAX_IDS_PER_QUERY = 500
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of an image."""

    path: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SnapshotImage:
    """An image with a file: its content's digest and size, upright size in px, when it was taken by its EXIF."""

    image_id: int
    digest: str
    width: int
    height: int
    size_bytes: int
    taken_at: str | None
    files: tuple[SnapshotFile, ...]


class ImageSnapshot:
    """The images of a catalog at one moment."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        columns = {row[1] for row in connection.execute("PRAGMA table_info(images)")}
        # A catalog that an older simsearch wrote, in a place that cannot be written to, has no such column.
        self._taken_at = "taken_at" if "taken_at" in columns else "NULL"

    def read_original_ids(self, model_id: int) -> tuple[Ids, Ids]:
        """View ids and image ids (n,) of the original views that the model has a vector of, by rising view id."""
        rows = self._connection.execute(
            """SELECT views.id, image_id FROM views JOIN vectors ON view_id = views.id AND model_id = ?
               WHERE kind = 'original' AND EXISTS (SELECT 1 FROM files WHERE files.image_id = views.image_id)
               ORDER BY views.id""",
            (model_id,),
        )
        pairs = np.array(rows.fetchall(), dtype=np.int64).reshape(-1, 2)
        return pairs[:, 0].copy(), pairs[:, 1].copy()

    def find_copied_images(self) -> list[int]:
        """The images that have several files, by rising id."""
        query = "SELECT image_id FROM files GROUP BY image_id HAVING count(*) > 1 ORDER BY image_id"
        return [row[0] for row in self._connection.execute(query)]

    def read_images(self, image_ids: Sequence[int]) -> dict[int, SnapshotImage]:
        """Those images that have a file, by id; files in the order they were found."""
        files: dict[int, list[SnapshotFile]] = {}
        facts: dict[int, tuple[str, int, int, int, str | None]] = {}
        for start in range(0, len(image_ids), _MAX_IDS_PER_QUERY):
            some = image_ids[start : start + _MAX_IDS_PER_QUERY]
            rows = self._connection.execute(
                f"""SELECT image_id, path, mtime_ns, digest, width, height, images.size_bytes, {self._taken_at}
                    FROM files JOIN images ON images.id = image_id
                    WHERE image_id IN ({", ".join("?" * len(some))}) ORDER BY files.id""",
                some,
            )
            for image_id, path, mtime_ns, digest, width, height, size_bytes, taken_at in rows:
                files.setdefault(image_id, []).append(SnapshotFile(decode_path(path), mtime_ns))
                facts[image_id] = (digest, width, height, size_bytes, taken_at)
        return {image_id: SnapshotImage(image_id, *facts[image_id], tuple(files[image_id])) for image_id in files}


@contextmanager
def open_image_snapshot(catalog: Catalog) -> Iterator[ImageSnapshot]:
    """What the catalog holds now, whatever is written meanwhile."""
    with translate_errors(catalog.folder), closing(connect_to_read(catalog.folder / CATALOG_NAME)) as connection:
        connection.execute("BEGIN")
        yield ImageSnapshot(connection)
