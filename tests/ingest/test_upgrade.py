"""A collection made with the former built-in network: it says so, answers, and moves to the new one."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from simsearch import Collection, ModelChoice
from simsearch.images.decode import compute_digest
from simsearch.ingest.pipeline import Progress
from simsearch.models.builtin import versions
from simsearch.models.choice import resolve_model
from tests.conftest import ROOT, draw_picture
from tests.support.command_line import read_document, run

FIXTURE = ROOT / "tests" / "fixtures" / "version_0_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The collection of version 0.1, with its photographs where its catalog says they are."""
    folder, photographs = tmp_path / "old", tmp_path / "photographs"
    shutil.copytree(FIXTURE, folder, ignore=shutil.ignore_patterns("*.json"))
    photographs.mkdir()
    by_digest = {compute_digest(file.read_bytes()): file for file in (ROOT / "data/objects").rglob("*.jpg")}
    with contextlib.closing(sqlite3.connect(folder / "catalog.db")) as catalog, catalog:
        rows = catalog.execute("SELECT files.id, digest FROM files JOIN images ON images.id = image_id").fetchall()
        for file_id, digest in rows:
            place = shutil.copy(by_digest[digest], photographs / f"{file_id}.jpg")
            catalog.execute("UPDATE files SET path = ? WHERE id = ?", (str(place), file_id))
    return folder


def fingerprints(folder: Path) -> list[str]:
    with Collection.open(folder) as collection:
        return [model.stored.fingerprint for model in collection.info().models]


def former_of(folder: Path) -> str:
    with Collection.open(folder) as collection:
        return next(model.stored.fingerprint for model in collection.info().models if model.is_former)


def test_info_and_queries_tell_of_the_newer_version(old: Path, tmp_path: Path) -> None:
    assert "former version (`simsearch upgrade` moves to the new one)" in run("info", "--in", old, cwd=tmp_path).stdout
    picture = draw_picture(tmp_path / "unknown.png", 99)
    with Collection.open(old) as collection:
        answer = collection.search(picture, backbone="builtin")
    assert answer.hits
    assert "a newer version of the backbone builtin is available" in answer.notes[0]


def test_an_upgrade_embeds_every_image_and_its_views_and_deletes_the_former_vectors(old: Path) -> None:
    former = former_of(old)
    with Collection.open(old) as collection:
        before = next(model for model in collection.info().models if model.is_former)
        n_images, views = before.n_images, before.stored.augmentation
        report = collection.upgrade()
        models = collection.info().models
    assert report.finished == (former,)
    assert report.n_left == 0
    assert not any(model.is_former for model in models)
    assert models[0].stored.model.weights == versions.hash_weights()
    assert models[0].stored.augmentation == views
    assert models[0].n_images == report.runs[0].n_images == n_images
    assert [model.backbone for model in models] == ["builtin", "histogram"]


def test_the_command_says_how_many_images_moved_and_which_have_no_new_vector(old: Path, tmp_path: Path) -> None:
    former = former_of(old)
    with Collection.open(old) as collection:
        n_images = collection.info().n_images
        missing = next(collection.catalog.iterate_paths())
    Path(missing).rename(tmp_path / "moved.jpg")
    done = run("upgrade", "--in", old, cwd=tmp_path)
    assert done.returncode == 0
    assert f"{n_images - 1} images embedded with {fingerprints(old)[0]}" in done.stdout
    assert fingerprints(old)[0] != former
    assert "1 image without a new vector" in done.stdout
    (tmp_path / "moved.jpg").rename(missing)
    told = read_document("upgrade", "--in", old, cwd=tmp_path)
    assert (told["images_left"], told["deleted_models"]) == (0, [former])


def test_images_without_a_file_keep_the_former_vectors(old: Path) -> None:
    with Collection.open(old) as collection:
        n_files = collection.info().n_files
        missing = next(collection.catalog.iterate_paths())
        Path(missing).unlink()
        report = collection.upgrade()
        assert collection.info().n_files == n_files
        assert report.n_left == 1
        assert report.finished == ()
        assert any(model.is_former for model in collection.info().models)


def test_queries_use_the_former_version_while_an_upgrade_runs_and_after_it_was_stopped(old: Path) -> None:
    former = former_of(old)

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        raise Stopped

    with Collection.open(old) as collection:
        with pytest.raises(Stopped):
            collection.upgrade(progress=stop)
        assert collection.model("builtin").fingerprint == former
        collection.upgrade()
        assert collection.model("builtin").fingerprint != former


def test_a_collection_of_the_current_version_has_nothing_to_upgrade(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    draw_picture(tmp_path / "photos" / "a.png", 1)
    with Collection.open(tmp_path / "new", create=True) as collection:
        collection.ingest([tmp_path / "photos"], ModelChoice(precision="f32"))
    assert "nothing to upgrade" in run("upgrade", "--in", "new", cwd=tmp_path).stdout
    assert fingerprints(tmp_path / "new") == [resolve_model(ModelChoice()).fingerprint]
