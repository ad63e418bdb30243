"""Fused models of small collections: what they hold, how they are kept up to date, and what they refuse."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection
from simsearch.images.views import ViewChoice
from simsearch.models.choice import ModelChoice
from simsearch.store.snapshot import open_model_views
from tests.conftest import draw_picture
from tests.support.command_line import run

pytestmark = pytest.mark.long

FUSED = "builtin+0.3*histogram"
N_IMAGES = 8


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photos`, and `ix`, a collection of them under both backbones and their fusion."""
    folder = tmp_path_factory.mktemp("fused")
    for number in range(N_IMAGES):
        draw_picture(folder / "photos" / f"class_{number % 2}" / f"{number}.png", number)
    with Collection.open(folder / "ix", create=True) as collection:
        report = collection.ingest([folder / "photos"], ModelChoice(backbone=FUSED))
    assert (report.backbone, report.n_embedded, report.n_views) == (FUSED, N_IMAGES, N_IMAGES)
    return folder


@pytest.fixture
def place(indexed: Path, tmp_path: Path) -> Path:
    """A copy of the collection that a test may change; the pictures are shared."""
    shutil.copytree(indexed / "ix", tmp_path / "ix")
    return tmp_path


def read_rows(folder: Path, backbone: str) -> dict[tuple[str, str], np.ndarray]:
    with Collection.open(folder) as collection, open_model_views(folder, collection.model(backbone)) as views:
        records, rows = views.read_records(views.list_view_ids())
    keys = [(record.path, record.parameters) for record in records]
    return dict(zip(keys, rows, strict=True))


def center(rows: np.ndarray, of: np.ndarray) -> np.ndarray:
    centered = rows - of.mean(axis=0)
    return centered / np.linalg.norm(centered, axis=1, keepdims=True)


def test_rows_are_the_centered_rows_of_the_parts_side_by_side(indexed: Path):
    fused = read_rows(indexed / "ix", FUSED)
    parts = [read_rows(indexed / "ix", name) for name in ("builtin", "histogram")]
    assert all(part.keys() == fused.keys() for part in parts)
    first, second = (np.stack([part[key] for key in fused]) for part in parts)
    expected = np.hstack([center(first, first), 0.3 * center(second, second)]) / np.sqrt(1.09)
    np.testing.assert_allclose(np.stack(list(fused.values())), expected, atol=1e-5)


def test_a_picture_that_is_not_stored_gets_the_vector_that_indexing_gives_it(place: Path):
    added = draw_picture(place / "more" / "new.png", 100)
    with Collection.open(place / "ix") as collection:
        before = collection.search(added, k=N_IMAGES, backbone=FUSED)
        assert collection.ingest([place / "more"], ModelChoice(backbone=FUSED)).n_embedded == 1
        after = collection.search(added, k=N_IMAGES + 1, backbone=FUSED)
    assert after.hits[0].path == str(added)
    assert [hit.path for hit in after.hits[1:]] == [hit.path for hit in before.hits]
    for a, b in zip(before.hits, after.hits[1:], strict=True):
        assert a.similarity == pytest.approx(b.similarity, abs=1e-5)


def test_the_center_stays_the_same_when_images_are_added(place: Path):
    before = read_rows(place / "ix", FUSED)
    draw_picture(place / "more" / "new.png", 100)
    done = run("index", "more", "--into", "ix", "--backbone", FUSED, "--json", cwd=place)
    assert json.loads(done.stdout)["embedded"] == 1
    after = read_rows(place / "ix", FUSED)
    assert len(after) == N_IMAGES + 1
    for key, row in before.items():
        np.testing.assert_array_equal(after[key], row)


def test_indexing_without_a_backbone_updates_the_parts_and_the_fused_model(place: Path):
    with Collection.open(place / "ix") as collection:
        assert collection.model().model.backbone == FUSED  # the first that was indexed
    draw_picture(place / "more" / "new.png", 100)
    assert run("index", "more", "--into", "ix", cwd=place).returncode == 0
    for backbone in ("builtin", "histogram", FUSED):
        assert len(read_rows(place / "ix", backbone)) == N_IMAGES + 1


def test_indexing_each_part_updates_the_fused_model(place: Path):
    draw_picture(place / "more" / "new.png", 100)
    for backbone, n_expected in (("builtin", N_IMAGES), ("histogram", N_IMAGES + 1)):
        assert run("index", "more", "--into", "ix", "--backbone", backbone, cwd=place).returncode == 0
        assert len(read_rows(place / "ix", FUSED)) == n_expected


def test_no_picture_is_read_for_another_weight(tmp_path: Path):
    photos = [draw_picture(tmp_path / "photos" / f"{number}.png", number) for number in range(3)]
    with Collection.open(tmp_path / "ix", create=True) as collection:
        for backbone in ("builtin", "histogram"):
            collection.ingest([tmp_path / "photos"], ModelChoice(backbone=backbone))
        shutil.rmtree(tmp_path / "photos")
        collection.info()
        answer = collection.search(1, k=3, backbone="builtin + 2*histogram")
        assert {hit.path for hit in answer.hits} == set(map(str, photos))
        assert answer.backbone == "builtin+2*histogram"
        assert collection.verify().problems == ()
        assert collection.model("builtin+2*histogram").fingerprint == collection.fuse("builtin+2*histogram").fingerprint
        assert collection.model().model.fusion is None  # the default stays


def test_augmented_views_of_all_parts_are_joined(place: Path, indexed: Path):
    with Collection.open(place / "ix") as collection:
        collection.ingest([indexed / "photos"], ModelChoice(backbone=FUSED), augment=ViewChoice(2, seed=3))
        assert collection.model(FUSED).augmentation.n_views == 2
        collection.verify()
    assert len(read_rows(place / "ix", FUSED)) == 3 * N_IMAGES
    with Collection.open(place / "ix") as collection:
        collection.ingest([indexed / "photos"], ModelChoice(backbone="histogram"), augment=ViewChoice(2, seed=4))
    assert len(read_rows(place / "ix", FUSED)) == N_IMAGES  # views of different seeds cannot be joined


def test_removed_images_leave_the_fused_model(place: Path, indexed: Path):
    assert run("remove", str(indexed / "photos" / "class_0"), "--in", "ix", cwd=place).returncode == 0
    assert run("prune", "--in", "ix", cwd=place).returncode == 0
    assert len(read_rows(place / "ix", FUSED)) == N_IMAGES // 2


def test_a_part_is_deleted_with_the_models_that_are_made_of_it(place: Path):
    with Collection.open(place / "ix") as collection:
        assert collection.prune("histogram").n_models == 2
        assert [stored.model.backbone for stored in collection.catalog.list_models()] == ["builtin"]
    assert len(list((place / "ix").glob("*.faiss"))) == 1


def test_duplicates_export_and_clusters_take_a_fused_model(place: Path):
    for words in (("duplicates", "--json"), ("clusters", "--json"), ("export", "rows", "--format", "npy")):
        command, *rest = words
        done = run(command, *rest, "--in", "ix", "--backbone", FUSED, cwd=place)
        assert done.returncode == 0, done.stderr
    assert np.load(next((place / "rows").rglob("*.npy"))).shape == (N_IMAGES, 384 + 864)


def test_a_learned_model_of_a_fused_one_is_kept_up_to_date(place: Path):
    done = run("learn", "--in", "ix", "--backbone", FUSED, "--force", cwd=place)
    assert done.returncode == 0, done.stderr
    draw_picture(place / "more" / "new.png", 100)
    assert run("index", "more", "--into", "ix", "--backbone", FUSED, cwd=place).returncode == 0
    assert len(read_rows(place / "ix", "builtin-0.3xhistogram-learned")) == N_IMAGES + 1
    query = draw_picture(place / "same.png", 100)
    with Collection.open(place / "ix") as collection:
        answer = collection.search(query, k=1, backbone="builtin-0.3xhistogram-learned")
    assert answer.hits[0].similarity > 0.999


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("query", "q.png", "--backbone", "builtin+vgg16"), "was not indexed with builtin+vgg16"),
        (("query", "q.png", "--backbone", "builtin+0*histogram"), "the weight of histogram"),
        (("query", "--text", "lamp", "--backbone", FUSED), "cannot answer text queries"),
        (("learn", "--backbone", FUSED, "--export", "f.onnx"), "not a single network"),
        (("index", "photos", "--into", "new", "--backbone", "builtin+nosuch"), "nosuch"),
        (("index", "photos", "--into", "new", "--backbone", FUSED, "--layer", "x"), "do not apply to a fused model"),
        (("index", "one", "--into", "new", "--backbone", FUSED), "fewer than two"),
        (("predict", "q.png", "--backbone", FUSED), "joins vectors of a collection"),
    ],
)
def test_bad_input_gets_one_clear_line(place: Path, words: tuple[str, ...], message: str):
    draw_picture(place / "q.png", 1)
    draw_picture(place / "photos" / "a.png", 1)
    draw_picture(place / "one" / "a.png", 1)
    inside = () if words[0] in ("index", "predict") else ("--in", "ix")
    done = run(*words, *inside, cwd=place)
    assert done.returncode in (1, 2)
    lines = [line for line in done.stderr.splitlines() if message in line]
    assert len(lines) == 1, done.stderr


def test_damaged_centers_are_reported(place: Path):
    with sqlite3.connect(place / "ix" / "catalog.db") as connection:
        connection.execute("UPDATE projections SET projection = x'00' WHERE method = 'fused'")
    connection.close()
    draw_picture(place / "q.png", 77)
    done = run("query", "q.png", "--in", "ix", "--backbone", FUSED, cwd=place)
    assert done.returncode == 1
    assert "the centers of builtin+0.3*histogram are damaged" in done.stderr
