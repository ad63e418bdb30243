"""Files of a report: each whole or not at all, and failures said clearly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simsearch.errors import SimsearchError, UsageError
from simsearch.report.format import clean_text


def make_folder(folder: str | Path, *inner: str) -> None:
    """Make the folder of a report, and folders in it, where they are not there.

    Raises `UsageError` when its place is taken by a file, `SimsearchError` when it cannot be made or written to.
    """
    places = [Path(folder), *(Path(folder) / name for name in inner)]
    with translate_write_errors(places[0]):
        try:
            for place in places:
                place.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            problem = f"{clean_text(str(folder))} cannot be a folder, a file is in its place"
            raise UsageError(problem, "name another folder with --out") from error
        for place in places:
            if not os.access(place, os.W_OK | os.X_OK):
                raise PermissionError(13, "no permission to write", str(place))


def write_atomically(file: Path, content: bytes) -> None:
    """Beside its place first, and then there in one step: a report that is read meanwhile is never half of one.

    Raises `SimsearchError` when it cannot be written.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    with translate_write_errors(file):
        try:
            part.write_bytes(content)
            part.replace(file)
        except OSError:
            part.unlink(missing_ok=True)
            raise


@contextmanager
def translate_write_errors(place: Path) -> Iterator[None]:
    """What an operating system says about a place, as one of ours."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
        problem = f"{clean_text(str(place))} cannot be written ({cause})"
        raise SimsearchError(problem, "make room or choose another place with --out") from error
