"""All images of a catalog as columns in memory: orders and counts for browsing, for 100,000 images and more.

An image has one row. Its name, size, date and folder for sorting are those of its first file; its folders are counted
over all of its files, as a filter matches any of them.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simsearch.sources.addresses import find_common_folder
from simsearch.sources.path_codec import decode_path
from simsearch.store.snapshot import Snapshot

SortKey = Literal["id", "name", "date", "size", "folder"]
"""`date` is the date that a picture was taken, or else the modification time of its file."""

_SEP = os.sep
_MISSING = -1


@dataclass(frozen=True, slots=True, eq=False)
class FacetColumn:
    """The values of one property: row numbers (n,) and for each of them the number of a value (n,).

    `is_own` marks a column of the user's own.
    """

    name: str
    values: tuple[str | float | None, ...]
    rows: NDArray[np.int32] = field(repr=False)
    codes: NDArray[np.int32] = field(repr=False)
    is_own: bool = False

    @classmethod
    def build(cls, name: str, entries: Iterable[tuple[int, Hashable]], *, is_own: bool = False) -> FacetColumn:
        """Build a column of row numbers and values."""
        numbers: dict[Hashable, int] = {}
        rows, codes = [], []
        for row, value in entries:
            rows.append(row)
            codes.append(numbers.setdefault(value, len(numbers)))
        values: tuple[Any, ...] = tuple(numbers)
        return cls(name, values, np.array(rows, np.int32), np.array(codes, np.int32), is_own)

    def count(self, mask: NDArray[np.bool_] | None) -> list[tuple[str | float | None, int]]:
        """Count the rows of each value, of all rows or of those in the mask (n_images,); the most frequent first."""
        codes = self.codes if mask is None else self.codes[mask[self.rows]]
        counts = np.bincount(codes, minlength=len(self.values))
        found = [(value, int(n)) for value, n in zip(self.values, counts, strict=True) if n]
        return sorted(found, key=lambda pair: (-pair[1], pair[0] is None, str(pair[0])))


@dataclass(frozen=True, slots=True, eq=False)
class ImageTable:
    """The images that have a file, by ascending id, at one state of the catalog and of its files (the tokens)."""

    change_token: int
    file_token: int
    ids: NDArray[np.int64] = field(repr=False)
    orders: Mapping[SortKey, NDArray[np.int32]] = field(repr=False)
    facets: tuple[FacetColumn, ...] = field(repr=False)
    root: str = ""

    @classmethod
    def load(cls, snapshot: Snapshot, former: ImageTable | None = None) -> ImageTable:
        """Read all images of a catalog (100,000: half a second).

        Of a `former` state with the same files only the user's own columns are read again.
        """
        token, file_token = snapshot.catalog.change_token, snapshot.catalog.file_token
        if former is not None and former.file_token == file_token:
            kept = [facet for facet in former.facets if not facet.is_own]
            return replace(former, change_token=token, facets=(*kept, *_build_user_columns(snapshot, former.ids)))
        files = _FileColumns(snapshot.iterate_image_files())
        ids = np.array(files.ids, np.int64)
        root = _find_root(files.folder_names)
        facets = [
            FacetColumn.build("class", files.iterate_classes()),
            FacetColumn.build("folder", files.iterate_folders(root)),
            FacetColumn.build("year", enumerate(taken[:4] if taken else None for taken in files.taken)),
            FacetColumn.build("camera", enumerate(files.cameras)),
            FacetColumn.build("format", enumerate(files.formats)),
            *_build_user_columns(snapshot, ids),
        ]
        return cls(token, file_token, ids, files.build_orders(), tuple(facets), root)

    def __len__(self) -> int:
        return len(self.ids)

    def find_rows(self, image_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows (m,) of those of the images that are in the table, ascending."""
        places = np.searchsorted(self.ids, image_ids)
        places = places[places < len(self.ids)] if len(self.ids) else places[:0]
        return np.unique(places[np.isin(self.ids[places], image_ids)])

    def make_mask(self, image_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark the rows of these images, (n_images,)."""
        mask = np.zeros(len(self.ids), np.bool_)
        mask[self.find_rows(image_ids)] = True
        return mask


class _FileColumns:
    """The columns of the files, gathered by image."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self.ids: list[int] = []
        self.names: list[str] = []
        self.folders: list[int] = []
        self.sizes: list[int] = []
        self.taken: list[str | None] = []
        self.mtimes: list[int] = []
        self.cameras: list[str | None] = []
        self.formats: list[str] = []
        self.more_folders: list[tuple[int, int]] = []
        self._numbers: dict[str, int] = {}
        for image_id, path, size, mtime, taken, camera, form in rows:
            folder, _, name = decode_path(path).rpartition(_SEP)
            number = self._numbers.setdefault(folder, len(self._numbers))
            if self.ids and self.ids[-1] == image_id:
                self.more_folders.append((len(self.ids) - 1, number))
                continue
            self.ids.append(image_id)
            self.names.append(name)
            self.folders.append(number)
            self.sizes.append(size)
            self.mtimes.append(mtime)
            self.taken.append(taken)
            self.cameras.append(camera)
            self.formats.append(form)

    @property
    def folder_names(self) -> list[str]:
        """The distinct folders, by number."""
        return list(self._numbers)

    def build_orders(self) -> dict[SortKey, NDArray[np.int32]]:
        """The row numbers in each order, ascending; equal rows come by id."""
        names = [name.casefold() for name in self.names]
        folders = [name.casefold() for name in self._numbers]
        ranks = np.empty(len(folders), np.int64)
        ranks[sorted(range(len(folders)), key=folders.__getitem__)] = np.arange(len(folders))
        by_name = np.array(sorted(range(len(names)), key=names.__getitem__), np.int32)
        folder_ranks = ranks[self.folders] if self.folders else np.empty(0, np.int64)
        dates = [taken or _format_mtime(mtime) for taken, mtime in zip(self.taken, self.mtimes, strict=True)]
        return {
            "id": np.arange(len(names), dtype=np.int32),
            "name": by_name,
            "date": np.array(sorted(range(len(dates)), key=dates.__getitem__), np.int32),
            "size": np.argsort(np.array(self.sizes, np.int64), kind="stable").astype(np.int32),
            "folder": by_name[np.argsort(folder_ranks[by_name], kind="stable")],
        }

    def iterate_classes(self) -> Iterator[tuple[int, str | None]]:
        """The name of each image's folders."""
        names = [folder.rpartition(_SEP)[2] or None for folder in self._numbers]
        return self._iterate_values(names)

    def iterate_folders(self, root: str) -> Iterator[tuple[int, str | None]]:
        """Each image's folders, from the root on; without a root, each with the folder above it."""
        if not root:
            return self._iterate_values([_SEP.join(folder.split(_SEP)[-2:]) or None for folder in self._numbers])
        start = len(root.rpartition(_SEP)[0]) + 1
        return self._iterate_values([folder[start:] or None for folder in self._numbers])

    def _iterate_values(self, names: Sequence[str | None]) -> Iterator[tuple[int, str | None]]:
        for row, number in enumerate(self.folders):
            yield row, names[number]
        seen = set()
        for row, number in self.more_folders:
            pair = (row, names[number])
            if names[self.folders[row]] != names[number] and pair not in seen:
                seen.add(pair)
                yield pair


def _build_user_columns(snapshot: Snapshot, ids: NDArray[np.int64]) -> list[FacetColumn]:
    row_of = {int(image_id): row for row, image_id in enumerate(ids)}
    entries: dict[str, list[tuple[int, Hashable]]] = {}
    for image_id, name, value in snapshot.iterate_annotations():
        if (row := row_of.get(image_id, _MISSING)) != _MISSING:
            entries.setdefault(name, []).append((row, value))
    return [FacetColumn.build(name, entries[name], is_own=True) for name in sorted(entries)]


def _find_root(folders: Sequence[str]) -> str:
    """The deepest folder, or address of one, that all folders are in; empty where they have none in common."""
    return find_common_folder([f"{folder}/" for folder in folders]).rstrip("/")


def _format_mtime(mtime_ns: int) -> str:
    try:
        return datetime.datetime.fromtimestamp(mtime_ns // 10**9).isoformat()
    except (OverflowError, ValueError, OSError):
        return ""
