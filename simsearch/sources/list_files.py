"""Parse list files: one path or address per line, or separated by NUL."""

from __future__ import annotations

import codecs
import os

from simsearch.errors import SourceError

_UNICODE_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the start of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def parse_list(content: bytes, name: str) -> list[str]:
    """Parse the entries of the list file `name`; blank entries are ignored.

    UTF-16 and UTF-32 are decoded if there is a byte order mark; PowerShell's `>` writes UTF-16. Other bytes are paths
    as they are. Raises `SourceError` for UTF-16 and UTF-32 that cannot be decoded or have no mark: read as separated by
    NUL, such a list is one of single letters, among them `.` and `/`.
    """
    for mark, encoding in _UNICODE_MARKS:
        if content.startswith(mark):
            return _split_text(_decode(content, encoding, name))
    content = content.removeprefix(codecs.BOM_UTF8)  # editors on Windows write a byte order mark
    if b"\0" not in content:
        return [path for path in (os.fsdecode(line.rstrip(b"\r")) for line in content.split(b"\n")) if path.strip()]
    entries = content.split(b"\0")
    if any(len(entry) == 1 and (place > 0 or entry != b".") for place, entry in enumerate(entries)):  # `find` begins: .
        problem = f"{name} has NUL bytes between single characters, as UTF-16 without a byte order mark"
        raise SourceError(name, problem, "save the list as UTF-8; write ./a for a file named a")
    return [path for path in map(os.fsdecode, entries) if path.strip()]


def is_broad_folder(folder: str) -> bool:
    """Whether a resolved path is the root of the file system, a home folder, or a folder that holds home folders."""
    if folder == os.path.dirname(folder):
        return True
    home = os.path.realpath(os.path.expanduser("~"))
    return os.path.dirname(home) != home and os.path.join(home, "").startswith(os.path.join(folder, ""))


def _decode(content: bytes, encoding: str, name: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        problem = f"{name} begins as {encoding.upper()}, but cannot be decoded as such ({error.reason})"
        raise SourceError(name, problem, "save the list as UTF-8") from error


def _split_text(text: str) -> list[str]:
    lines = text.split("\0") if "\0" in text else [line.rstrip("\r") for line in text.split("\n")]
    return [line for line in lines if line.strip()]
