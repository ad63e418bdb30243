"""The optional reader of HEIC, and a user whom rights bind, as root reads everything."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


@contextlib.contextmanager
def as_bound_user() -> Iterator[None]:
    """Run the block as a user whom rights bind: as nobody where the tests run as root."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no user ids")
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except OSError as error:
        pytest.skip(f"root reads everything, and cannot become nobody here ({error.strerror})")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def heif():
    """The optional reader of HEIC, ready to write as well."""
    reader = pytest.importorskip("pillow_heif", reason="the extra [heif] is not installed")
    reader.register_heif_opener()
    return reader
