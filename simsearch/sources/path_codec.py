"""Paths as a catalog stores them: text, or bytes for a file name that is not valid UTF-8."""

from __future__ import annotations

import os


def encode_path(path: str) -> str | bytes:
    """A path as SQLite can store it: text, or the raw bytes of a name that is not valid UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def decode_path(stored: str | bytes) -> str:
    """The path that `encode_path` stored; `open()` accepts it whatever bytes the name has."""
    return stored if isinstance(stored, str) else os.fsdecode(stored)


def is_valid_path(text: str) -> bool:
    """Whether a file may have this path: no NUL, and no surrogate other than those that stand for a raw byte."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
