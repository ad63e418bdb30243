"""Background jobs are kept until the collection changes, and not longer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.web.jobs import BackgroundJobs
from simsearch.web.settings import ServerSettings
from simsearch.web.threads import WorkerThreads
from tests.conftest import HISTOGRAM
from tests.support import oneshot


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A folder for a collection that the test makes and changes."""
    return tmp_path / "ix"


def rename(photos: Path, collection: Path) -> None:
    (photos / "a" / "picture_00.png").rename(photos / "a" / "renamed.png")
    oneshot.ingest(collection, [photos], HISTOGRAM)


def swap(photos: Path, collection: Path) -> None:
    one, other = photos / "a" / "picture_00.png", photos / "a" / "picture_01.png"
    shutil.move(one, photos / "kept")
    shutil.move(other, one)
    shutil.move(photos / "kept", other)
    oneshot.ingest(collection, [photos], HISTOGRAM)


def reject(photos: Path, collection: Path) -> None:
    with Collection.open(collection) as opened:
        opened.reject_duplicates([1, 2])


def change_nothing(photos: Path, collection: Path) -> None:
    oneshot.ingest(collection, [photos], HISTOGRAM)


@pytest.mark.parametrize(("change", "is_new"), [(rename, True), (swap, True), (reject, True), (change_nothing, False)])
def test_duplicates_are_searched_again_when_the_collection_has_changed(
    change: Callable[[Path, Path], None], is_new: bool, photos: Path, collection: Path
):
    shutil.copy(photos / "a" / "picture_00.png", photos / "b" / "copy.png")
    oneshot.ingest(collection, [photos], HISTOGRAM)
    threads = WorkerThreads("job", 1)
    jobs = BackgroundJobs(ServerSettings(collection=str(collection)), threads)
    with Collection.open(collection) as opened:
        before = jobs.find_duplicates(opened, "exact")
        before.future.result(60)
        change(photos, collection)
        after = jobs.find_duplicates(opened, "exact")
        paths = {path for group in after.future.result(60).groups for member in group.members for path in member.paths}
    assert threads.close(time.monotonic() + 10)
    assert (after is not before) == is_new
    assert (str(photos / "a" / "renamed.png") in paths) == (change is rename)
