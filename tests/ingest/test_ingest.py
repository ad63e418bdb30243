"""Ingest runs: incremental, resumable, with skips, and without a half-made collection."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection, ModelChoice
from simsearch.errors import CollectionError, ModelError, NoImages, SourceError, UnreadableFile, UsageError
from simsearch.ingest.run import IngestReport
from simsearch.store.originals import read_original
from simsearch.store.snapshot import open_snapshot
from tests.conftest import HISTOGRAM, as_bound_user, draw_picture
from tests.support import oneshot
from tests.support.command_line import run


def ingest(collection: Path, *sources: Path | str, **choice) -> IngestReport:
    return oneshot.ingest(
        collection, [str(source) for source in sources], ModelChoice(**{"backbone": "histogram"} | choice)
    )


def found(collection: Path, query: Path, k: int = 100) -> list[str]:
    with Collection.open(collection) as opened:
        return [path for hit in opened.search(str(query), k=k).hits for path in hit.paths]


def test_a_first_run_embeds_every_picture(photos: Path, collection: Path):
    report = ingest(collection, photos)
    assert (report.n_files, report.n_images, report.n_embedded, report.n_reused) == (12, 12, 12, 0)
    assert report.skips == ()


def test_an_unchanged_folder_embeds_nothing_and_opens_no_file(photos: Path, collection: Path):
    ingest(collection, photos)
    opened_at = {path: path.stat().st_atime_ns for path in photos.rglob("*.png")}
    for path in opened_at:
        os.utime(path, ns=(1, path.stat().st_mtime_ns))
    report = ingest(collection, photos)
    assert (report.n_embedded, report.n_reused) == (0, 12)
    assert report.stages["read"] == report.stages["decode"] == report.stages["embed"] == 0
    assert {path.stat().st_atime_ns for path in opened_at} == {1}


def test_a_moved_file_keeps_its_vector(photos: Path, collection: Path):
    ingest(collection, photos)
    shutil.move(photos / "a", photos / "c")
    report = ingest(collection, photos)
    assert (report.n_embedded, report.n_reused, report.n_gone, report.n_files) == (0, 12, 6, 12)
    assert found(collection, photos / "c" / "picture_03.png", k=1) == [str(photos / "c" / "picture_03.png")]


def test_a_copy_is_the_same_image_in_another_file(photos: Path, collection: Path):
    original, copy = photos / "a" / "picture_00.png", photos / "z_copy.png"
    shutil.copy(original, copy)
    report = ingest(collection, photos)
    assert (report.n_files, report.n_images, report.n_embedded) == (13, 12, 12)
    with Collection.open(collection) as opened:
        (hit,) = opened.search(str(copy), k=1).hits
    assert hit.paths == (str(original), str(copy))


def test_a_touched_file_costs_a_hash_once(photos: Path, collection: Path):
    ingest(collection, photos)
    os.utime(photos / "a" / "picture_00.png", ns=(5, 5))
    assert ingest(collection, photos).n_embedded == 0
    assert ingest(collection, photos).stages["read"] == 0


def test_a_changed_file_is_embedded_again_and_its_old_image_leaves_the_results(photos: Path, collection: Path):
    ingest(collection, photos)
    file = photos / "a" / "picture_00.png"
    kept = shutil.copy(file, photos.parent / "kept.png")
    draw_picture(file, seed=99)
    assert ingest(collection, photos).n_embedded == 1
    assert found(collection, file, k=1) == [str(file)]
    with Collection.open(collection) as opened:
        assert opened.search(kept, k=1).hits[0].similarity < 0.999
        assert len(opened.search(kept, k=100).hits) == 12


def test_a_deleted_file_leaves_the_results_and_returns_without_embedding(photos: Path, collection: Path):
    ingest(collection, photos)
    file = photos / "b" / "picture_07.png"
    kept = shutil.move(file, photos.parent / "kept.png")
    assert ingest(collection, photos).n_gone == 1
    assert str(file) not in found(collection, kept)
    shutil.move(kept, file)
    assert ingest(collection, photos).n_embedded == 0
    assert found(collection, file, k=1) == [str(file)]


def test_another_source_leaves_the_first_one_in_place(photos: Path, collection: Path):
    ingest(collection, photos / "a")
    report = ingest(collection, photos / "b")
    assert (report.n_files, report.n_gone) == (12, 0)


def test_a_list_affects_only_the_files_it_names(photos: Path, collection: Path, tmp_path: Path):
    ingest(collection, photos)
    listed = tmp_path / "list.txt"
    (photos / "a" / "picture_01.png").unlink()
    listed.write_text(f"{photos}/a/picture_00.png\n{photos}/a/picture_01.png\n")
    report = ingest(collection, listed)
    assert (report.n_files, report.n_gone, len(report.skips)) == (11, 1, 1)


def test_an_emptied_folder_is_an_error_and_empties_nothing(photos: Path, collection: Path):
    ingest(collection, photos)
    shutil.move(photos, photos.parent / "unmounted")
    photos.mkdir()
    with pytest.raises(NoImages, match="the collection stays as it is"):
        ingest(collection, photos)
    assert len(found(collection, photos.parent / "unmounted" / "a" / "picture_00.png")) == 12


def test_a_second_backbone_stands_beside_the_first(photos: Path, collection: Path):
    ingest(collection, photos, resize="squash")
    assert ingest(collection, photos, resize="pad").n_embedded == 12
    with Collection.open(collection) as opened:
        models = opened.info().to_dict()["models"]
        assert [(model["resize"], model["images"]) for model in models] == [("squash", 12), ("pad", 12)]
        for model in models:
            hits = opened.search(str(photos / "a" / "picture_00.png"), k=1, backbone=model["model"]).hits
            assert hits[0].similarity >= 0.9999


def test_without_a_backbone_the_last_one_is_used(photos: Path, collection: Path):
    first = ingest(collection, photos / "a", resize="pad")
    assert oneshot.ingest(collection, [photos]).model == first.model


def test_a_broken_file_is_skipped_reported_and_retried(photos: Path, collection: Path):
    broken = photos / "a" / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    for _ in range(2):
        report = ingest(collection, photos)
        assert [(skip.path, report.n_files) for skip in report.skips] == [(str(broken), 12)]
    draw_picture(photos / "good.png", 50).rename(broken)
    report = ingest(collection, photos)
    assert (report.n_embedded, report.skips) == (1, ())
    with Collection.open(collection) as opened:
        assert opened.info().to_dict()["skipped"] == []


def test_a_file_that_became_damaged_leaves_the_results(photos: Path, collection: Path):
    ingest(collection, photos)
    file = photos / "a" / "picture_00.png"
    kept = shutil.copy(file, photos.parent / "kept.png")
    file.write_bytes(file.read_bytes()[:200])
    assert [skip.path for skip in ingest(collection, photos).skips] == [str(file)]
    assert str(file) not in found(collection, Path(kept))


def test_a_picture_without_extension_that_became_a_text_leaves_the_results(photos: Path, collection: Path):
    file = photos / "a" / "picture_00.png"
    scan = file.rename(photos / "a" / "scan")
    ingest(collection, photos)
    kept = shutil.copy(scan, photos.parent / "kept.png")
    scan.write_text("to do")
    assert (ingest(collection, photos).n_files, found(collection, Path(kept)).count(str(scan))) == (11, 0)


def test_a_list_may_begin_with_the_mark_of_windows_editors(photos: Path, collection: Path, tmp_path: Path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photos}/a/picture_00.png\r\n{photos}/a/picture_01.png\r\n", encoding="utf-8-sig")
    assert (ingest(collection, listed).n_files, ingest(collection, listed).skips) == (2, ())


def test_only_broken_pictures_make_no_collection(tmp_path: Path, collection: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(NoImages, match=r"none of 1 pictures could be read.*x\.jpg"):
        ingest(collection, tmp_path / "photos")
    assert not collection.exists()


@pytest.mark.parametrize(
    ("source", "choice", "error"),
    [
        ("missing", {}, SourceError),
        ("empty", {}, NoImages),
        ("photos", {"backbone": "vgg61"}, ModelError),
        ("photos", {"backbone": "vgg16", "offline": True}, ModelError),
        ("photos", {"backbone": "histogram", "layer": "fc2"}, ModelError),
        ("photos", {"backbone": "mobilenet_v2", "weights": "missing.h5"}, ModelError),
        ("photos", {"backbone": "missing.keras"}, ModelError),
    ],
)
def test_bad_input_writes_nothing(
    photos: Path, collection: Path, source: str, choice: dict, error: type, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SIMSEARCH_CACHE", str(photos.parent / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(photos.parent / "keras"))
    monkeypatch.delenv("SIMSEARCH_WEIGHTS", raising=False)
    (photos.parent / "empty").mkdir()
    with pytest.raises(error):
        ingest(collection, photos.parent / source, **choice)
    assert not collection.exists()


def test_bad_input_leaves_an_existing_catalog_as_it_was(photos: Path, collection: Path):
    ingest(collection, photos)
    before = (collection / "catalog.db").read_bytes()
    with pytest.raises(ModelError):
        ingest(collection, photos, backbone="nothing")
    assert (collection / "catalog.db").read_bytes() == before


def test_nothing_to_index_is_a_usage_error(collection: Path):
    with pytest.raises(UsageError, match="name a folder"):
        ingest(collection)


def test_a_folder_of_other_things_does_not_become_a_collection(photos: Path):
    with pytest.raises(CollectionError, match="holds other things"):
        ingest(photos, photos)


def test_a_picture_without_any_extension_is_found_by_its_content(photos: Path, collection: Path):
    (photos / "a" / "picture_00.png").rename(photos / "a" / "scan")
    (photos / "notes.txt").write_text("nothing to see")
    report = ingest(collection, photos)
    assert (report.n_files, report.skips) == (12, ())


def test_two_runs_in_the_same_order_give_the_same_catalog(photos: Path, tmp_path: Path):
    for name in ("one", "two"):
        ingest(tmp_path / name, photos)
    contents = []
    for name in ("one", "two"):
        with Collection.open(tmp_path / name) as opened:
            contents.append(opened.search(1, k=100).hits)
    assert contents[0] == contents[1]


def test_a_picture_with_an_all_zero_feature_vector_is_a_skip(tmp_path: Path, collection: Path):
    keras = pytest.importorskip("keras")
    inputs = keras.Input((8, 8, 3))
    keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(keras.layers.ReLU()(inputs))).save(tmp_path / "net.keras")
    (tmp_path / "net.json").write_text('{"side": 8, "scaling": "unit"}')
    draw_picture(tmp_path / "photos" / "good.png", 1)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "photos" / "black.png")
    report = ingest(collection, tmp_path / "photos", backbone=str(tmp_path / "net.keras"))
    assert report.n_files == 1
    assert [(Path(skip.path).name, "all-zero feature vector" in skip.reason) for skip in report.skips] == [
        ("black.png", True)
    ]


def test_a_content_that_was_replaced_without_a_trace_is_found_by_rehash_and_the_message_says_so(
    photos: Path, collection: Path
):
    ingest(collection, photos)
    first = photos / "a" / "picture_00.png"
    before, other = first.stat(), draw_picture(collection.parent / "other.png", 77).read_bytes()
    size = max(before.st_size, len(other))
    first.write_bytes(first.read_bytes().ljust(size, b"\0"))
    os.utime(first, ns=(before.st_mtime_ns, before.st_mtime_ns))
    oneshot.ingest(collection, [photos])  # now the sizes allow a replacement
    first.write_bytes(other.ljust(size, b"\0"))
    os.utime(first, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert oneshot.ingest(collection, [photos]).n_reused == 12
    with open_snapshot(collection) as snapshot:
        (image,) = [one for one in snapshot.read_images(list(range(1, 20))).values() if one.files[0].path == str(first)]
    with pytest.raises(UnreadableFile, match="simsearch index --rehash"):
        read_original(image, 10**8)
    done = run("index", photos, "--into", collection, "--rehash", cwd=photos)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 embedded, 11 unchanged or moved" in done.stdout
    with Collection.open(collection) as opened:
        assert opened.search(str(first), k=1).hits[0].path == str(first)


def test_a_changed_file_that_cannot_be_read_keeps_its_picture(open_folder: Path):
    home, locked = open_folder / "home", open_folder / "photos" / "1.png"
    for seed in range(3):
        draw_picture(open_folder / "photos" / f"{seed}.png", seed)
    home.mkdir()
    home.chmod(0o777)
    with as_bound_user():
        oneshot.ingest(home / "ix", [open_folder / "photos"], HISTOGRAM)
    os.utime(locked, ns=(1, 1))
    locked.chmod(0)
    with as_bound_user():
        report = oneshot.ingest(home / "ix", [open_folder / "photos"], HISTOGRAM)
        assert [(skip.path, "Permission denied" in skip.reason) for skip in report.skips] == [(str(locked), True)]
        with Collection.open(home / "ix") as opened:
            assert str(locked) in [hit.path for hit in opened.search(1, k=None).hits]
