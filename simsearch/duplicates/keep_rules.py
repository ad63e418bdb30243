"""Rules that select the image of a group, and the file of an image, to keep. Deterministic; nothing is deleted."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace

from simsearch.duplicates.options import KeepRule
from simsearch.store.snapshot import StoredFile, StoredImage

_SortKey = Callable[[StoredImage, StoredFile], tuple[float | str, ...]]


def sort_by_preference(images: Sequence[StoredImage], rule: KeepRule) -> list[StoredImage]:
    """Sort images, and the files of each, so that the one to keep is first. Ties: the lower image id."""
    key = _SORT_KEYS[rule]

    def sort_files(image: StoredImage) -> StoredImage:
        return replace(image, files=tuple(sorted(image.files, key=lambda file: key(image, file))))

    with_sorted_files = [sort_files(image) for image in images]
    return sorted(with_sorted_files, key=lambda image: (*key(image, image.files[0]), image.image_id))


def _rank_largest(image: StoredImage, _: StoredFile) -> tuple[float, ...]:
    return (-image.width * image.height, -image.size_bytes)


def _rank_oldest(image: StoredImage, file: StoredFile) -> tuple[float, ...]:
    return (_find_time_s(image, file), file.mtime_ns)


def _rank_newest(image: StoredImage, file: StoredFile) -> tuple[float, ...]:
    return (-_find_time_s(image, file), -file.mtime_ns)


def _rank_shortest_path(_: StoredImage, file: StoredFile) -> tuple[float | str, ...]:
    return (len(file.path), file.path)


def _find_time_s(image: StoredImage, file: StoredFile) -> float:
    """Find the date taken, or else the file's modification time: seconds since year 1 in local time.

    An edited copy that lost its EXIF data was made when its file was written. EXIF dates have no time zone.
    """
    if image.taken_at is None:
        moment = datetime.datetime.fromtimestamp(file.mtime_ns / 1e9)
    else:
        moment = datetime.datetime.fromisoformat(image.taken_at)
    return (moment - datetime.datetime.min).total_seconds()


_SORT_KEYS: dict[KeepRule, _SortKey] = {
    "largest": _rank_largest,
    "oldest": _rank_oldest,
    "newest": _rank_newest,
    "shortest-path": _rank_shortest_path,
}
