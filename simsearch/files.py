"""Writing files and folders so that they appear complete or not at all; opening files that cannot block."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from simsearch.errors import SimsearchError, UsageError
from simsearch.text import clean_text

OUTPUT_MARK = "made by simsearch"
"""In the metadata of every picture, page and table that simsearch writes, so that it knows them again: it overwrites
them without --force, and does not index them as photos."""

_MARK_BYTES = 65_536
_MARKS = (OUTPUT_MARK.encode(), b"simsearch.model", b'"simsearch"', b"# Made by simsearch")
"""In pictures and pages, in Parquet files, in JSON documents, in scripts."""

_TABLE_HEADS = (b"view_id,image_id,", b'{"view_id"')
"""The beginnings of exported tables, whose formats have no place for a mark."""

_PICTURE_MARK_BYTES = 8_192


class NotRegularFile(OSError):
    """A folder, a pipe or a device in the place of a file. `kind` says which, such as "a folder"."""

    def __init__(self, mode: int) -> None:
        self.kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        super().__init__(f"the path is {self.kind}")


def open_regular_file(path: str | Path) -> BinaryIO:
    """Open a regular file for reading, and never wait: neither for the writer of a pipe, nor for a device.

    Some kernel files (`/proc/kmsg`) are regular by their mode but have no data yet; reading them fails at once. Raises
    `NotRegularFile`, other `OSError`, and `ValueError` where the path contains a NUL.
    """
    _check_is_regular(os.stat(path))  # opening some devices has an effect
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_is_regular(os.fstat(descriptor))  # it may have been replaced in between
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_is_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularFile(status.st_mode)


@contextmanager
def replace_file(file: Path, *, prefix: str = ".simsearch-", keeps_suffix: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `file`, and rename it to `file` when the block succeeds.

    The temporary name begins with `prefix` and, with `keeps_suffix`, has the suffix of `file`. Raises `OSError`; a
    failed block leaves an existing file unchanged and no temporary file.
    """
    temporary = file.with_name(f"{prefix}{secrets.token_hex(8)}{file.suffix if keeps_suffix else ''}")
    try:
        yield temporary
        os.replace(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class _Overwriting:
    """Which existing files may be overwritten. A program that uses the library decides that itself; see `cli`."""

    checks = False


def set_overwriting(*, any_file: bool) -> None:
    """Refuse from now on to overwrite files that simsearch did not write, unless `any_file`."""
    _Overwriting.checks = not any_file


def check_may_overwrite(file: Path) -> None:
    """Check that a file to write does not exist, or was written by simsearch, where `set_overwriting` says so.

    Raises `UsageError`.
    """
    if _Overwriting.checks and file.is_file() and not is_own_output(file):
        problem = f"{clean_text(str(file))} exists and was not written by simsearch"
        raise UsageError(problem, "name another file, or overwrite it with --force")


def is_own_output(file: Path) -> bool:
    """Whether a file was written by simsearch: its mark, or the heading of a table, is near its beginning or end."""
    try:
        with open_regular_file(file) as stream:
            head = stream.read(_MARK_BYTES)
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _MARK_BYTES))
            tail = stream.read()
    except (OSError, ValueError):
        return False
    return not head or head.startswith(_TABLE_HEADS) or any(mark in head or mark in tail for mark in _MARKS)


def is_own_picture(data: bytes) -> bool:
    """Whether the content of a picture has the mark of simsearch in its metadata, at its beginning or its end."""
    mark = OUTPUT_MARK.encode()
    return mark in data[:_PICTURE_MARK_BYTES] or mark in data[-_PICTURE_MARK_BYTES:]


@contextmanager
def replace_output_file(file: Path) -> Iterator[Path]:
    """Like `replace_file`, for a path that the user named: the folder is created where it is missing.

    Raises `SimsearchError` where the file cannot be written.
    """
    check_may_overwrite(file)
    with translate_write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(file) as temporary:
            yield temporary


def check_is_no_input(file: str | Path, inputs: Iterable[str | Path]) -> None:
    """Check that a file to write is none of the files that the same command reads.

    Raises `UsageError`.
    """
    if os.path.exists(file) and any(os.path.exists(path) and os.path.samefile(file, path) for path in inputs):
        raise make_overwrite_error(file)


def make_overwrite_error(file: str | Path) -> UsageError:
    """Build the error for an output file that would replace a picture that the command reads."""
    return UsageError(f"{clean_text(str(file))} is a picture that would be overwritten", "name another file to write")


def write_output_file(file: Path, content: bytes) -> None:
    """Write the content of a file whose path the user named.

    Raises `SimsearchError` where the file cannot be written.
    """
    with replace_output_file(file) as temporary:
        temporary.write_bytes(content)


@contextmanager
def create_output_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill, and rename it to `folder` when the block succeeds.

    Raises `UsageError` where `folder` exists and is not empty, `SimsearchError` where it cannot be written.
    """
    with translate_write_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{clean_text(str(folder))} exists already", "name a new folder, or move the old one away")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = folder.with_name(f".simsearch-{secrets.token_hex(8)}")
        temporary.mkdir()
        try:
            yield temporary
            if folder.exists():
                folder.rmdir()
            os.replace(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def make_output_folder(folder: str | Path, *inner: str) -> None:
    """Create the folder of a report and the folders `inner` in it, where they are missing.

    Raises `UsageError` where a file has that name, `SimsearchError` where it cannot be created or written to.
    """
    places = [Path(folder), *(Path(folder) / name for name in inner)]
    with translate_write_errors(places[0]):
        try:
            for place in places:
                place.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            problem = f"{clean_text(str(folder))} is a file, not a folder"
            raise UsageError(problem, "name another folder with --out") from error
        for place in places:
            if not os.access(place, os.W_OK | os.X_OK):
                raise PermissionError(13, "no permission to write", str(place))


@contextmanager
def translate_write_errors(place: Path) -> Iterator[None]:
    """Raise errors of the operating system while writing to `place` as `SimsearchError`."""
    try:
        yield
    except UsageError:  # which is a ValueError, too
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
        problem = f"{clean_text(str(place))} cannot be written ({cause})"
        raise SimsearchError(problem, "free disk space, or choose another place") from error
