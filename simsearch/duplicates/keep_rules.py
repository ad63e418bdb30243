"""Which of several images, and of an image's files, a rule keeps. Deterministic to the last tie; deletes nothing."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import replace

from simsearch.duplicates.holdings import HeldFile, HeldImage
from simsearch.duplicates.results import KeepRule

_Key = Callable[[HeldImage, HeldFile], tuple[float | str, ...]]


def by_preference(images: Sequence[HeldImage], rule: KeepRule) -> list[HeldImage]:
    """The images, the one to keep first; the files of each, the one to keep first. Ties: the lower image id."""
    key = _KEYS[rule]

    def ordered(image: HeldImage) -> HeldImage:
        return replace(image, files=tuple(sorted(image.files, key=lambda file: key(image, file))))

    sorted_inside = [ordered(image) for image in images]
    return sorted(sorted_inside, key=lambda image: (*key(image, image.files[0]), image.image_id))


def _largest(image: HeldImage, _: HeldFile) -> tuple[float, ...]:
    return (-image.width * image.height, -image.size_bytes)


def _oldest(image: HeldImage, file: HeldFile) -> tuple[float, ...]:
    return (_moment_s(image, file), file.mtime_ns)


def _newest(image: HeldImage, file: HeldFile) -> tuple[float, ...]:
    return (-_moment_s(image, file), -file.mtime_ns)


def _shortest_path(_: HeldImage, file: HeldFile) -> tuple[float | str, ...]:
    return (len(file.path), file.path)


def _moment_s(image: HeldImage, file: HeldFile) -> float:
    """When the picture was taken, or else when its file was written, on this machine's clock: from year 1 on.

    An edit that has lost its EXIF was made when its file was written; a camera tells no time zone.
    """
    if image.taken_at is None:
        moment = datetime.datetime.fromtimestamp(file.mtime_ns / 1e9)
    else:
        moment = datetime.datetime.fromisoformat(image.taken_at)
    return (moment - datetime.datetime.min).total_seconds()


_KEYS: dict[KeepRule, _Key] = {
    "largest": _largest,
    "oldest": _oldest,
    "newest": _newest,
    "shortest-path": _shortest_path,
}
