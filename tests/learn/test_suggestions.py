"""What `learn --suggest` proposes to label next; labels that are exported and read again; contradictory labels."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection
from simsearch.errors import UsageError
from simsearch.learn.suggestions import suggest_images
from simsearch.store.snapshot import open_model_views
from tests.conftest import HISTOGRAM, draw_picture
from tests.support.command_line import run

N_IMAGES = 30


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos` and `ix`: pictures 0 to 29 of image ids 1 to 30, in one folder."""
    folder = tmp_path_factory.mktemp("suggestions")
    for number in range(N_IMAGES):
        draw_picture(folder / "photos" / f"{number:02}.png", number)
    with Collection.open(folder / "ix", create=True) as collection:
        collection.ingest([folder / "photos"], HISTOGRAM)
    return folder


@pytest.fixture
def place(indexed: Path, tmp_path: Path) -> Path:
    """A copy of the collection that a test may change."""
    shutil.copytree(indexed / "ix", tmp_path / "ix")
    return tmp_path


def annotate(place: Path, labels: dict[int, str], column: str = "label") -> None:
    rows = "\n".join(f"{image_id},{label}" for image_id, label in labels.items())
    (place / "table.csv").write_text(f"image_id,{column}\n{rows}\n")
    assert run("annotate", "table.csv", "--in", "ix", cwd=place).returncode == 0


def read_rows(folder: Path) -> dict[int, np.ndarray]:
    with Collection.open(folder) as collection, open_model_views(folder, collection.model()) as views:
        records, rows = views.read_records(views.list_view_ids())
    return {record.image_id: row for record, row in zip(records, rows, strict=True)}


def test_labeled_images_are_not_suggested_and_nothing_comes_twice(place: Path):
    labels = {image_id: "ab"[image_id % 2] for image_id in range(1, 11)}
    annotate(place, labels)
    with Collection.open(place / "ix") as collection:
        found = suggest_images(collection, N_IMAGES)
    assert {one.image_id for one in found} == set(range(11, N_IMAGES + 1))
    assert len(found) == N_IMAGES - len(labels)
    assert {one.reason for one in found} == {"unsure", "new"}


def test_an_unsure_image_lies_between_its_two_labels(place: Path):
    annotate(place, {image_id: "ab"[image_id % 2] for image_id in range(1, 13)})
    with Collection.open(place / "ix") as collection:
        unsure = [one for one in suggest_images(collection, 10) if one.reason == "unsure"]
    margins = [one.labels[0][1] - one.labels[1][1] for one in unsure]
    assert {label for one in unsure for label, _ in one.labels} == {"a", "b"}
    assert margins == sorted(margins)
    assert all(0 <= margin <= 1 for margin in margins)


def test_a_new_image_is_the_farthest_from_all_that_is_labeled_or_suggested(place: Path):
    annotate(place, {1: "a", 2: "a", 3: "a"})  # one label: no image is unsure
    rows = read_rows(place / "ix")
    with Collection.open(place / "ix") as collection:
        found = suggest_images(collection, 5)
    taken = [1, 2, 3]
    for one in found:
        nearest = {i: max(float(rows[i] @ rows[j]) for j in taken) for i in rows if i not in taken}
        assert (one.reason, one.labels) == ("new", ())
        assert one.similarity == pytest.approx(min(nearest.values()), abs=1e-6)
        assert nearest[one.image_id] == pytest.approx(one.similarity, abs=1e-6)
        taken.append(one.image_id)


def test_a_collection_without_labels_gets_suggestions_too(place: Path):
    done = run("learn", "--in", "ix", "--suggest", 4, "--json", cwd=place)
    found = json.loads(done.stdout)["suggestions"]
    assert len(found) == 4
    assert found[0]["similarity"] is None
    done = run("learn", "--in", "ix", "--suggest", 4, cwd=place)
    assert done.stdout.count("unlike all that have a label") == 4


def test_exported_labels_are_read_by_learn_and_benchmark(place: Path, indexed: Path):
    annotate(place, {image_id: "abc"[image_id % 3] for image_id in range(1, 25)}, "kind")
    done = run("export", "labels.csv", "--labels", "csv", "--column", "kind", "--in", "ix", "--json", cwd=place)
    report = json.loads(done.stdout)
    assert (report["format"], report["column"], report["rows"], report["labels"]) == ("labels", "kind", 24, 3)
    with (place / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["path"]: row["label"] for row in rows} == {
        str(indexed / "photos" / f"{number:02}.png"): "abc"[(number + 1) % 3] for number in range(24)
    }
    reports = [
        json.loads(run("learn", "--in", "ix", "--labels", labels, "--force", "--json", cwd=place).stdout)
        for labels in ("labels.csv", "kind")
    ]
    assert reports[0]["model"] == reports[1]["model"]


def test_contradictory_labels_and_missing_images_are_reported_and_left_out(place: Path, indexed: Path):
    photos = indexed / "photos"
    rows = [f"{photos}/{number:02}.png,{'ab'[number % 2]}" for number in range(20)]
    rows += [f"{photos}/00.png,b", f"{photos}/01.png,a", "nowhere.png,a"]
    (place / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    report = json.loads(run("learn", "--in", "ix", "--labels", "labels.csv", "--json", cwd=place).stdout)
    assert report["images"] == 18
    assert "2 images with several labels were left out" in report["notes"]
    assert "1 names in the labels match no image, such as nowhere.png" in report["notes"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("learn", "--suggest", 0), "give 1 or more"),
        (("learn", "--suggest", 3, "--group-by", "x"), "leave it out"),
        (("learn", "--suggest", 3, "--labels", "nosuch"), "neither a file nor a column"),
        (("learn", "--labels", "missing.csv"), "names no image"),
        (("export", "x.csv", "--labels", "csv"), "no column label"),
        (("export", "x.csv", "--labels", "csv", "--vectors", "none"), "leave out --format"),
        (("export", "x.csv", "--column", "kind"), "give --labels csv"),
    ],
)
def test_bad_input_gets_one_clear_line_and_writes_nothing(place: Path, words: tuple[str, ...], message: str):
    (place / "missing.csv").write_text("path,label\nnowhere.png,a\nelsewhere.png,b\n")
    done = run(*words, "--in", "ix", cwd=place)
    assert done.returncode in (1, 2)
    assert len([line for line in done.stderr.splitlines() if message in line]) == 1, done.stderr
    assert not (place / "x.csv").exists()


def test_a_collection_whose_images_all_have_labels_says_so(place: Path):
    annotate(place, dict.fromkeys(range(1, N_IMAGES + 1), "a"))
    with Collection.open(place / "ix") as collection, pytest.raises(UsageError, match="every image has a label"):
        suggest_images(collection, 3)
