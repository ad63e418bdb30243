"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simsearch.errors import SimsearchError, UsageError


@contextmanager
def replace_file_atomically(file: Path) -> Iterator[Path]:
    """A place to write to, which becomes `file` when all went well; what was there before is replaced.

    Raises `SimsearchError` when it cannot be written.
    """
    with _translate_write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        workshop = _make_temporary_name(file).with_suffix(file.suffix)  # what is written may depend on it
        try:
            yield workshop
            os.replace(workshop, file)
        except BaseException:
            workshop.unlink(missing_ok=True)
            raise


@contextmanager
def create_folder_atomically(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when all went well.

    Raises `UsageError` when there is something in it already, `SimsearchError` when it cannot be written.
    """
    with _translate_write_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"there is something at {folder} already", "name a new folder, or move the old one away")
        folder.parent.mkdir(parents=True, exist_ok=True)
        workshop = _make_temporary_name(folder)
        workshop.mkdir()
        try:
            yield workshop
            if folder.exists():
                folder.rmdir()
            os.replace(workshop, folder)
        except BaseException:
            shutil.rmtree(workshop, ignore_errors=True)
            raise


@contextmanager
def _translate_write_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        raise SimsearchError(f"{place} cannot be written ({cause})", "choose another place") from error


def _make_temporary_name(place: Path) -> Path:
    """A hidden name of nobody's in the same folder."""
    return place.with_name(f".simsearch-{secrets.token_hex(8)}")
