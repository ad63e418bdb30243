"""Which of several images, and of an image's files, a rule keeps. Deterministic to the last tie; deletes nothing."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace

from simsearch.duplicates.holdings import SnapshotFile, SnapshotImage
from simsearch.duplicates.results import KeepRule

_SortKey = Callable[[SnapshotImage, SnapshotFile], tuple[float | str, ...]]


def sort_by_preference(images: Sequence[SnapshotImage], rule: KeepRule) -> list[SnapshotImage]:
    """The images, the one to keep first; the files of each, the one to keep first. Ties: the lower image id."""
    key = _SORT_KEYS[rule]

    def sort_files(image: SnapshotImage) -> SnapshotImage:
        return replace(image, files=tuple(sorted(image.files, key=lambda file: key(image, file))))

    sorted_inside = [sort_files(image) for image in images]
    return sorted(sorted_inside, key=lambda image: (*key(image, image.files[0]), image.image_id))


def _rank_largest(image: SnapshotImage, _: SnapshotFile) -> tuple[float, ...]:
    return (-image.width * image.height, -image.size_bytes)


def _rank_oldest(image: SnapshotImage, file: SnapshotFile) -> tuple[float, ...]:
    return (_find_time_s(image, file), file.mtime_ns)


def _rank_newest(image: SnapshotImage, file: SnapshotFile) -> tuple[float, ...]:
    return (-_find_time_s(image, file), -file.mtime_ns)


def _rank_shortest_path(_: SnapshotImage, file: SnapshotFile) -> tuple[float | str, ...]:
    return (len(file.path), file.path)


def _find_time_s(image: SnapshotImage, file: SnapshotFile) -> float:
    """When the picture was taken, or else when its file was written, on this machine's clock: from year 1 on.

    An edit that has lost its EXIF was made when its file was written; a camera tells no time zone.
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
