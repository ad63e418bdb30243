"""Paths as a catalog stores them: UTF-8 text, or bytes for a file name that is not valid UTF-8.

In Python a path is text in the encoding of the locale, mostly UTF-8, with surrogates for other bytes. The catalog holds
the same for a file in every locale. Addresses of remote files are text in both.
"""

from __future__ import annotations

import os

from simsearch.sources.addresses import is_remote


def encode_path(path: str) -> str | bytes:
    """A path as SQLite can store it: text, or the raw bytes of a name that is not valid UTF-8."""
    if path.isascii():
        return path
    try:
        raw = path.encode("utf-8", "surrogateescape") if is_remote(path) else os.fsencode(path)
    except UnicodeEncodeError:  # text that no file of this locale can be named with
        raw = path.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def decode_path(stored: str | bytes) -> str:
    """The path that `encode_path` stored; `open()` accepts it whatever bytes the name has."""
    if isinstance(stored, bytes):
        return os.fsdecode(stored)
    return stored if stored.isascii() or is_remote(stored) else os.fsdecode(stored.encode())


def is_valid_path(text: str) -> bool:
    """Whether a file may have this path: no NUL, and no surrogate other than those that stand for a raw byte."""
    try:
        return "\0" not in text if text.isascii() else b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
