"""A search for copies that is killed or interrupted continues, and finds what one without an interruption finds."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageOps

from tests.conftest import HISTOGRAM
from tests.support import oneshot
from tests.support.command_line import run_process
from tests.support.scenes import draw_scene, recompress

N_SCENES, N_EDITED = 560, 40
"""The search writes its results after each 512 images, so these are two steps."""

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of small drawn pictures and of edits of some of them, never searched."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "pictures").mkdir()
    for number in range(N_SCENES):
        image = draw_scene(number, 96, 72)
        image.save(folder / "pictures" / f"{number:03}.png")
        if number < N_EDITED:
            recompress(image, 50).save(folder / "pictures" / f"{number:03}_recompressed.png")
            ImageOps.mirror(image).save(folder / "pictures" / f"{number:03}_mirrored.png")
    oneshot.ingest(folder / "indexes", [folder / "pictures"], HISTOGRAM)
    return folder / "indexes"


@pytest.fixture(scope="module")
def expected(collection: Path) -> dict[str, Any]:
    """The report of a search that nothing interrupts."""
    return search(shutil.copytree(collection, collection.parent / "whole"))


def search(collection: Path) -> dict[str, Any]:
    done = run_process("duplicates", "--in", collection, "--json", cwd=collection)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def count_rows(collection: Path, table: str) -> int:
    with closing(sqlite3.connect(f"file:{collection / 'catalog.db'}?mode=ro", uri=True)) as connection:
        (n,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(n)


def list_pairs(document: dict[str, Any]) -> Sequence[Any]:
    return [(pair["images"], pair["kind"], pair["box"]) for pair in document["pairs"]]


@pytest.mark.parametrize(
    ("table", "way"),
    [("region_hashes", signal.SIGINT), ("copy_searches", signal.SIGKILL)],
    ids=["interrupted before the first comparison", "killed after the first step"],
)
def test_a_search_that_was_stopped_continues_and_finds_the_same_pairs(
    collection: Path, expected: dict[str, Any], tmp_path: Path, table: str, way: signal.Signals
):
    stopped = shutil.copytree(collection, tmp_path / "stopped")
    command = [sys.executable, "-m", "simsearch", "duplicates", "--in", str(stopped), "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while count_rows(stopped, table) == 0 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(way)
        assert process.wait() != 0
    assert count_rows(stopped, table) > 0
    assert count_rows(stopped, "copy_searches") < N_SCENES
    continued = search(stopped)
    assert len(expected["pairs"]) >= 2 * N_EDITED
    assert list_pairs(continued) == list_pairs(expected)
    assert continued["groups"] == expected["groups"]
    if table == "copy_searches":
        assert continued["compared_pairs"] < expected["compared_pairs"]
