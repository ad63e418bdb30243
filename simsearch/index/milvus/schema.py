"""What Milvus keeps of a view: its vector, and what `--where` asks of its image, spelled for Milvus.

Nothing is NULL there, for what a comparison with NULL is differs from server to server: what is missing has a value
that nothing present has. An image of which these fields cannot say all is marked, and the catalog is asked about it.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xxhash

MAX_TEXT_BYTES = 65535
"""The longest text that Milvus keeps."""

NO_TEXT = ""
NO_TIME = -1

MAX_EXACT_INT = 2**53
"""Whole numbers beyond it are not all float64, which numbers of one's own are in Milvus."""

INTEGER_FIELDS = ("image_id", "digest", "n_files", "size", "modified", "width", "height", "taken")
REAL_FIELDS = ("megapixels", "aspect")
TEXT_FIELDS = ("kind", "path", "folder", "name", "class_name", "camera", "format")
USER_NUMBERS, USER_TEXTS = "own_numbers", "own_texts"
COMPLETE = "complete"
KEY, VECTOR, DIGEST, IMAGE, N_FILES = "view_id", "vector", "digest", "image_id", "n_files"


@dataclass(frozen=True, slots=True)
class CatalogImageRow:
    """An image as the catalog has it: `facts` are its id, width, height, format, date (or None) and camera (or None).

    `files` are (path, size in bytes, mtime in ns).
    """

    facts: tuple[int, int, int, str, str | None, str | None]
    files: Sequence[tuple[str | bytes, int, int]]
    columns: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MilvusRow:
    """All fields of a view but its vector. `digest` tells whether Milvus has them as they are."""

    view_id: int
    image_id: int
    digest: int
    fields: Mapping[str, Any]


def build_row(view_id: int, kind: str, image: Mapping[str, Any]) -> MilvusRow:
    """The row of a view, from `image_fields` of its image."""
    fields = {**image, "kind": kind}
    told = json.dumps(fields, sort_keys=True).encode()
    digest = xxhash.xxh3_64_intdigest(told) >> 1  # within what a signed number of 64 bits holds
    return MilvusRow(view_id, image[IMAGE], digest, {**fields, DIGEST: digest})


def build_image_fields(image: CatalogImageRow) -> dict[str, Any]:
    """The fields of an image; where they cannot say all, `complete` is false and those of files are empty."""
    id_, width, height, format_, taken_at, camera = image.facts
    numbers, texts = _split_columns(image.columns)
    is_complete = _is_complete(image) and len(numbers) + len(texts) == len(image.columns)
    path, size, mtime = (str(image.files[0][0]), *image.files[0][1:]) if is_complete else (NO_TEXT, 0, 0)
    return {
        IMAGE: id_, N_FILES: len(image.files), COMPLETE: is_complete, "width": width, "height": height,
        "megapixels": width * height / 1e6, "aspect": width / height,
        "format": _drop_unstorable(format_), "camera": _drop_unstorable(camera or NO_TEXT),
        "taken": to_time_number(taken_at) if is_complete and taken_at is not None else NO_TIME,
        "size": size, "modified": mtime, **_split_path(path), USER_NUMBERS: numbers, USER_TEXTS: texts,
    }  # fmt: skip


def to_time_number(moment: str) -> int:
    """`2024-05-31T10:30:59` as 20240531103059. Raises `ValueError` on anything else."""
    return int(datetime.datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S").strftime("%Y%m%d%H%M%S"))


def is_storable_text(text: Any) -> bool:
    """Whether Milvus keeps, and compares, a text as SQLite does."""
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        return len(text.encode()) <= MAX_TEXT_BYTES
    except UnicodeEncodeError:
        return False


def _is_complete(image: CatalogImageRow) -> bool:
    _, _, _, format_, taken_at, camera = image.facts
    if len(image.files) != 1 or not is_storable_text(image.files[0][0]) or os.sep not in str(image.files[0][0]):
        return False
    if camera == NO_TEXT or not is_storable_text(camera or NO_TEXT) or not is_storable_text(format_):
        return False
    if taken_at is None:
        return True
    try:
        number = to_time_number(taken_at)
    except ValueError:
        return False
    return len(taken_at) == 19 and number > 0


def _drop_unstorable(text: str) -> str:
    return text if is_storable_text(text) else NO_TEXT


def _split_path(path: str) -> dict[str, str]:
    folder, _, name = path.rpartition(os.sep)
    return {"path": path, "folder": folder + os.sep, "name": name, "class_name": _find_last_part(folder)}


def _find_last_part(folder: str) -> str:
    return folder.rstrip(os.sep).rpartition(os.sep)[2]


def _split_columns(values: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Columns of the user's own, numbers as float64 and texts apart; those that Milvus cannot keep are left out."""
    numbers = {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and abs(value) <= (MAX_EXACT_INT if isinstance(value, int) else 1e300)
    }
    texts = {name: value for name, value in values.items() if is_storable_text(value)}
    return (
        {name: numbers[name] for name in numbers if is_storable_text(name)},
        {n: texts[n] for n in texts if is_storable_text(n)},
    )
