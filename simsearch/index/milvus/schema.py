"""The schema in Milvus: a row for each view, with its vector and the fields of its image that `--where` can filter.

No field is NULL, because servers differ in comparisons with NULL: a missing value is stored as a value that does not
occur otherwise. An image that these fields cannot represent is marked as not `complete`; the catalog filters it.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xxhash

from simsearch.store.snapshot import StoredImage

MAX_TEXT_BYTES = 65535
"""The longest text that Milvus can store."""

NO_TEXT = ""
NO_TIME = -1

MAX_EXACT_INT = 2**53
"""Milvus stores numbers of user columns as float64, which represents all integers up to this one."""

INTEGER_FIELDS = ("image_id", "digest", "n_files", "size", "modified", "width", "height", "taken")
REAL_FIELDS = ("megapixels", "aspect")
TEXT_FIELDS = ("kind", "path", "folder", "name", "class_name", "camera", "format")
USER_NUMBERS, USER_TEXTS = "own_numbers", "own_texts"  # JSON fields with the user columns
COMPLETE = "complete"
KEY, VECTOR, DIGEST, IMAGE, N_FILES = "view_id", "vector", "digest", "image_id", "n_files"


@dataclass(frozen=True, slots=True)
class MilvusRow:
    """All fields of a view except its vector. Rows with equal `digest` have equal fields."""

    view_id: int
    image_id: int
    digest: int
    fields: Mapping[str, Any]


def build_row(view_id: int, kind: str, image_fields: Mapping[str, Any]) -> MilvusRow:
    """Build the row of a view from the fields of its image."""
    fields = {**image_fields, "kind": kind}
    text = json.dumps(fields, sort_keys=True).encode()
    digest = xxhash.xxh3_64_intdigest(text) >> 1  # Milvus has signed 64-bit integers only
    return MilvusRow(view_id, image_fields[IMAGE], digest, {**fields, DIGEST: digest})


def build_image_fields(image: StoredImage) -> Mapping[str, Any]:
    """Build the fields of an image. If they cannot represent it, `complete` is false and the file fields are empty."""
    numbers, texts = _split_columns(image.columns)
    is_complete = _is_complete(image) and len(numbers) + len(texts) == len(image.columns)
    path, size, mtime = NO_TEXT, 0, 0
    if is_complete:
        path, size, mtime = image.files[0].path, image.files[0].size_bytes, image.files[0].mtime_ns
    taken_at = image.taken_at if is_complete else None
    return {
        IMAGE: image.image_id, N_FILES: len(image.files), COMPLETE: is_complete,
        "width": image.width, "height": image.height,
        "megapixels": image.width * image.height / 1e6, "aspect": image.width / image.height,
        "format": _drop_unstorable(image.format), "camera": _drop_unstorable(image.camera or NO_TEXT),
        "taken": NO_TIME if taken_at is None else to_time_number(taken_at),
        "size": size, "modified": mtime, **_split_path(path), USER_NUMBERS: numbers, USER_TEXTS: texts,
    }  # fmt: skip


def to_time_number(time: str) -> int:
    """Convert `2024-05-31T10:30:59` to 20240531103059. Raises `ValueError` on any other form."""
    return int(datetime.datetime.strptime(time, "%Y-%m-%dT%H:%M:%S").strftime("%Y%m%d%H%M%S"))


def is_storable_text(text: Any) -> bool:
    """Whether Milvus stores and compares a text as SQLite does."""
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        return len(text.encode()) <= MAX_TEXT_BYTES
    except UnicodeEncodeError:
        return False


def _is_complete(image: StoredImage) -> bool:
    """Whether the file, format, camera and date of an image can be represented."""
    if len(image.files) != 1 or not is_storable_text(image.files[0].path) or os.sep not in image.files[0].path:
        return False
    if image.camera == NO_TEXT or not is_storable_text(image.camera or NO_TEXT) or not is_storable_text(image.format):
        return False
    if image.taken_at is None:
        return True
    try:
        number = to_time_number(image.taken_at)
    except ValueError:
        return False
    return len(image.taken_at) == 19 and number > 0


def _drop_unstorable(text: str) -> str:
    return text if is_storable_text(text) else NO_TEXT


def _split_path(path: str) -> dict[str, str]:
    folder, _, name = path.rpartition(os.sep)
    return {"path": path, "folder": folder + os.sep, "name": name, "class_name": _find_last_part(folder)}


def _find_last_part(folder: str) -> str:
    return folder.rstrip(os.sep).rpartition(os.sep)[2]


def _split_columns(values: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Split user columns into numbers, as float64, and texts; values that Milvus cannot store are left out."""
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
