"""Files are opened without waiting, whatever stands in their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simsearch.files import NotRegularFile, open_regular_file


def test_a_regular_file_is_opened(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"123")
    with open_regular_file(tmp_path / "a") as file:
        assert file.read() == b"123"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotRegularFile, match="not a regular file"):
        open_regular_file(tmp_path / "pipe")


def test_a_folder_is_no_file(tmp_path: Path):
    with pytest.raises(NotRegularFile, match="the path is a folder"):
        open_regular_file(tmp_path)
