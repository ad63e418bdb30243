"""`simsearch learn` on small collections: what it stores, how it is kept up to date, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection
from simsearch.store.snapshot import open_model_views
from tests.conftest import HISTOGRAM, draw_picture
from tests.support.command_line import run

N_CLASSES, N_EACH = 6, 8


def draw_member(path: Path, label: int, seed: int) -> Path:
    """A picture whose class shows in a small coloured corner, on a background that differs from picture to picture."""
    picture = Image.open(draw_picture(path, seed)).convert("RGB")
    corner = np.random.default_rng(label).integers(0, 256, 3)
    picture.paste(tuple(corner.tolist()), (0, 0, 14, 14))
    picture.save(path)
    return path


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos`, a folder for each class, and `ix`, a collection of them."""
    folder = tmp_path_factory.mktemp("labeled")
    for label in range(N_CLASSES):
        for number in range(N_EACH):
            draw_member(folder / "photos" / f"class_{label}" / f"{number}.png", label, 100 * label + number)
    with Collection.open(folder / "ix", create=True) as collection:
        collection.ingest([folder / "photos"], HISTOGRAM)
    return folder


@pytest.fixture
def place(indexed: Path, tmp_path: Path) -> Path:
    """A copy of the collection that a test may change; the pictures are shared."""
    shutil.copytree(indexed / "ix", tmp_path / "ix")
    return tmp_path


def learn(place: Path, *words: object) -> dict:
    done = run("learn", "--in", "ix", "--json", *words, cwd=place)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read_vectors(folder: Path, backbone: str) -> dict[str, np.ndarray]:
    with Collection.open(folder) as collection, open_model_views(folder, collection.model(backbone)) as views:
        records, rows = views.read_records(views.list_view_ids())
    return {record.path: row for record, row in zip(records, rows, strict=True)}


def test_the_learned_backbone_is_better_and_can_be_searched(place: Path, indexed: Path):
    report = learn(place)
    assert report["learned"]
    assert report["name"] == "histogram-learned"
    assert report["known"]["low"] > 0
    query = draw_member(place / "query.png", 3, 9_999)
    hits = {}
    for backbone in ("histogram", "histogram-learned"):
        with Collection.open(place / "ix") as collection:
            answer = collection.search(query, k=N_EACH, backbone=backbone)
        hits[backbone] = sum(f"{indexed / 'photos' / 'class_3'}/" in hit.path for hit in answer.hits)
    assert hits["histogram-learned"] > hits["histogram"]


def test_learning_does_not_change_the_default_backbone(place: Path):
    learn(place)
    with Collection.open(place / "ix") as collection:
        assert collection.model().model.backbone == "histogram"
        assert collection.verify().problems == ()


def test_an_image_that_is_indexed_later_gets_the_vector_that_a_query_computes(place: Path, indexed: Path):
    learn(place)
    added = draw_member(place / "more" / "class_1" / "new.png", 1, 5_000)
    assert run("index", "more", "--into", "ix", cwd=place).returncode == 0
    with Collection.open(place / "ix") as collection:
        answer = collection.search(added, k=1, backbone="histogram-learned")
        assert answer.hits[0].path == str(added)
        cropped = collection.search(draw_member(place / "same.png", 1, 5_000), k=1, backbone="histogram-learned")
    assert cropped.hits[0].similarity > 0.9999
    assert set(read_vectors(place / "ix", "histogram")) == set(read_vectors(place / "ix", "histogram-learned"))


def test_indexing_with_the_learned_backbone_embeds_with_its_base_only_once(place: Path):
    learn(place)
    draw_member(place / "more" / "class_2" / "new.png", 2, 6_000)
    done = run("index", "more", "--into", "ix", "--backbone", "histogram-learned", "--json", cwd=place)
    assert json.loads(done.stdout)["embedded"] == 1
    assert set(read_vectors(place / "ix", "histogram")) == set(read_vectors(place / "ix", "histogram-learned"))


def test_the_learned_backbone_stays_usable_without_its_base(place: Path):
    learn(place)
    before = read_vectors(place / "ix", "histogram-learned")
    assert run("prune", "--in", "ix", "--backbone", "histogram", cwd=place).returncode == 0
    added = draw_member(place / "more" / "class_2" / "new.png", 2, 6_000)
    assert run("index", "more", "--into", "ix", cwd=place).returncode == 0
    after = read_vectors(place / "ix", "histogram-learned")
    assert set(after) == {*before, str(added)}


def test_learning_again_replaces_the_former_result(place: Path):
    learn(place)
    learn(place, "--for", "new", "--force")
    with Collection.open(place / "ix") as collection:
        assert [stored.model.backbone for stored in collection.catalog.list_models()] == [
            "histogram",
            "histogram-learned",
        ]
    assert len(list((place / "ix").glob("*.faiss"))) == 2


def test_labels_come_from_a_file_a_column_or_a_pattern(place: Path, indexed: Path):
    pictures = sorted((indexed / "photos").rglob("*.png"))
    rows = "\n".join(f"{picture},{picture.parent.name}" for picture in pictures)
    (place / "labels.csv").write_text(f"path,label\n{rows}\n")
    (place / "columns.csv").write_text(f"path,kind\n{rows}\n")
    assert run("annotate", "columns.csv", "--in", "ix", cwd=place).returncode == 0
    by_folder = learn(place)
    for words in (("--labels", "labels.csv"), ("--labels", "kind"), ("--group-by", r"class_\d")):
        report = learn(place, *words)
        assert report["labels"] != by_folder["labels"]
        assert report["model"] == by_folder["model"]  # the same classes give the same map


def test_nothing_is_stored_where_nothing_helps(tmp_path: Path):
    for number in range(24):
        draw_picture(tmp_path / "photos" / f"class_{number % 4}" / f"{number}.png", number)
    with Collection.open(tmp_path / "ix", create=True) as collection:
        collection.ingest([tmp_path / "photos"], HISTOGRAM)
    done = run("learn", "--in", "ix", cwd=tmp_path)
    assert done.returncode == 0
    assert "nothing was stored" in done.stdout
    with Collection.open(tmp_path / "ix") as collection:
        assert len(collection.catalog.list_models()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--group-by", "class"), "1 class"),
        (("--group-by", r"class_\d/\d"), "no class has two images"),
        (("--labels", "nothing.csv"), "neither a file nor a column"),
        (("--labels", "a", "--group-by", "b"), "only one of"),
        (("--backbone", "vgg16"), "was not indexed with vgg16"),
        (("--name", "histogram"), "give another --name"),
    ],
)
def test_bad_input_gets_one_clear_line_and_changes_nothing(place: Path, words: tuple[str, ...], message: str):
    before = {path: path.read_bytes() for path in (place / "ix").glob("*.faiss")}
    done = run("learn", "--in", "ix", *words, cwd=place)
    assert done.returncode in (1, 2)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("simsearch: reading")]
    assert len(lines) == 1
    assert message in lines[0]
    assert {path: path.read_bytes() for path in (place / "ix").glob("*.faiss")} == before


def test_a_damaged_map_is_reported(place: Path):
    import sqlite3

    learn(place)
    with sqlite3.connect(place / "ix" / "catalog.db") as connection:
        connection.execute("UPDATE projections SET projection = x'00' WHERE method = 'learned'")
    connection.close()
    draw_member(place / "query.png", 1, 77)
    done = run("query", "query.png", "--in", "ix", "--backbone", "histogram-learned", cwd=place)
    assert done.returncode == 1
    assert "the learned map of histogram-learned is damaged" in done.stderr
