"""Names, paths, sizes and lists as text for terminals, pages and pictures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
"""The value of `schema_version` in every JSON document; it rises when a field changes its name or meaning."""

NO_VALUE = "\N{EN DASH}"
"""Shown in place of a number that does not exist."""

_LINE_BREAKS = re.compile("[\t-\r\u2028\u2029]+")
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"  # control characters: invalid in XML, and commands to a terminal
    "\u202a-\u202e\u2066-\u2069"  # change the direction of the text around them
    "\ud800-\udfff\ufffe\uffff]"  # surrogates (bytes of a name that are not UTF-8) and non-characters
)
_SURROGATES = re.compile("[\ud800-\udfff]")


def replace_invalid_unicode(text: str) -> str:
    """The text with each surrogate, such as a byte of a file name that is not UTF-8, replaced by U+FFFD."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def clean_text(text: str) -> str:
    """The text on one line, safe for files, pages and terminals.

    Line breaks and tabs become spaces. Control characters, direction marks and surrogates become U+FFFD.
    """
    return _UNPRINTABLE.sub("\ufffd", _LINE_BREAKS.sub(" ", text))


def escape_formula(text: str) -> str:
    """The text for a cell of a CSV or TSV file: a spreadsheet runs one that begins as a formula does.

    An apostrophe is put before it, which spreadsheets take as the mark of a text and do not show.
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def shorten_text(text: str, max_length: int) -> str:
    """At most `max_length` characters: the middle is replaced by an ellipsis, as both ends tell names apart."""
    if len(text) <= max_length:
        return text
    n_tail = (max_length - 1) // 2
    return f"{text[: max_length - 1 - n_tail]}…{text[len(text) - n_tail :]}"


def shorten_path(path: str) -> str:
    """The file name with the name of its folder, which is often its class."""
    return clean_text("/".join(Path(path).parts[-2:]))


def format_size(n_bytes: float) -> str:
    """A number of bytes with a decimal unit, such as 16.5 MB."""
    if not math.isfinite(n_bytes):
        return NO_VALUE
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if n_bytes < 1000:
            break
        n_bytes, unit = n_bytes / 1000, larger
    return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"


def summarize_error(error: BaseException) -> str:
    """The message of an exception in one line, or its type; many connection errors have no message."""
    is_raw = len(error.args) == 1 and isinstance(error.args[0], bytes)  # such as those of LibRaw
    text = error.args[0].decode(errors="replace") if is_raw else str(error)
    return " ".join(text.split()) or type(error).__name__


def join_names(names: Sequence[str], most: int = 3) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 4 others`."""
    if len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def count(n: int, noun: str, plural: str = "") -> str:
    """Say a number of things, `1 image` or `1,200 images`; `plural` is the noun with an s where it is not given."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def format_document(document: Mapping[str, Any], *, indent: int | None = 2) -> str:
    """A JSON document with its `schema_version`, in ASCII, which every terminal can show for every file name."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=indent)


def name_counts(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a result with the counts of images and queries under the names that every JSON document has."""
    names = {"n_images": "images", "n_queries": "queries"}
    return {name if (plain := names.get(name)) is None else plain: value for name, value in fields.items()}
