"""What commands choose by themselves: the backbone, the collection, the method; and that it changes only when asked."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from simsearch import Collection, ModelChoice
from tests.conftest import draw_picture
from tests.support.command_line import read_document, run

pytestmark = pytest.mark.long

_A = "photos/a/picture_00.png"


@pytest.fixture
def home(photos: Path) -> Path:
    """A folder with `photos`, indexed with the histogram."""
    folder = photos.parent
    assert run("index", "photos", "--backbone", "histogram", cwd=folder).returncode == 0
    return folder


def test_indexing_with_another_backbone_does_not_change_the_default_of_queries(home: Path):
    added = run("index", "photos", "--backbone", "builtin", cwd=home)
    assert "queries use histogram; `simsearch default builtin` changes it" in added.stdout
    answer = read_document("query", home / _A, cwd=home)
    assert (answer["backbone"], answer["default_backbone"]) == ("histogram", "histogram")
    told = run("query", home / _A, "--backbone", "builtin", cwd=home).stdout
    assert "(builtin, the default is histogram)" in told
    assert [model["default"] for model in read_document("info", cwd=home)["models"]] == [True, False]


def test_benchmark_measures_and_changes_no_default(tmp_path: Path):
    for label in ("red", "blue"):
        for number in range(3):
            draw_picture(tmp_path / "photos" / label / f"{number}.png", seed=number + 10 * (label == "red"))
    run("index", "photos", "--backbone", "histogram", cwd=tmp_path)
    words = ["--backbone", "builtin", "--precision", "f32", "--rerank", "none", "--robustness", 0, "--out", "r"]
    measured = run("benchmark", "photos", *words, cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    assert read_document("default", cwd=tmp_path)["default_backbone"] == "histogram"
    assert read_document("default", cwd=tmp_path)["other_backbones"] == ["builtin"]


def test_the_default_is_shown_and_set_by_one_command_or_by_an_option_of_index(home: Path):
    run("index", "photos", "--backbone", "builtin", "--make-default", cwd=home)
    assert read_document("default", cwd=home)["default_backbone"] == "builtin"
    assert run("default", "histogram", cwd=home).stdout == (
        "indexes/photos: queries use histogram; it also has builtin\n"
    )
    assert run("default", "vgg16", cwd=home).returncode == 2
    assert read_document("info", cwd=home)["models"][0]["backbone"] == "histogram"


def test_a_deleted_default_leaves_the_model_that_is_left(home: Path):
    run("index", "photos", "--backbone", "builtin", cwd=home)
    run("prune", "--backbone", "histogram", cwd=home)
    assert read_document("default", cwd=home)["default_backbone"] == "builtin"


def test_a_collection_of_an_older_simsearch_keeps_the_default_that_it_has(home: Path):
    run("index", "photos", "--backbone", "builtin", cwd=home)
    with sqlite3.connect(home / "indexes" / "photos" / "catalog.db") as catalog:
        catalog.execute("DELETE FROM settings WHERE name = 'default_model'")
    catalog.close()
    assert read_document("default", cwd=home)["default_backbone"] == "builtin"  # the last that was indexed
    run("index", "photos", "--backbone", "histogram", cwd=home)
    assert read_document("default", cwd=home)["default_backbone"] == "builtin"


def test_index_without_a_backbone_brings_every_model_up_to_date(home: Path):
    run("index", "photos", "--backbone", "builtin", cwd=home)
    draw_picture(home / "photos" / "new.png", seed=99)
    document = read_document("index", "photos", cwd=home)
    assert (document["backbone"], document["embedded"]) == ("histogram", 1)
    assert [(other["backbone"], other["embedded"]) for other in document["other_models"]] == [("builtin", 1)]
    assert document["notes"] == []
    again = run("index", "photos", cwd=home)
    assert "  builtin: " in again.stdout
    assert "0 embedded" in again.stdout


def test_a_model_that_cannot_be_loaded_keeps_no_other_from_being_updated(home: Path, tmp_path: Path):
    with Collection.open(home / "indexes" / "photos") as collection, collection.write() as writer:
        stored = writer.list_models()[0]
        missing = ModelChoice(backbone="gone.onnx").backbone
        with writer.transaction():
            model = stored.model
            details = json.loads(model.to_json()) | {"backbone": "gone", "runtime": "onnx", "file": f"/{missing}"}
            writer._execute(
                "INSERT INTO models (fingerprint, backbone, width, details, generation) VALUES ('f', 'gone', 8, ?, 1)",
                (json.dumps(details),),
            )
    draw_picture(home / "photos" / "new.png", seed=99)
    done = run("index", "photos", cwd=home)
    assert done.returncode == 0
    assert "1 embedded" in done.stdout
    assert "gone was not brought up to date: " in done.stderr


def test_an_incomplete_model_is_told_by_index_by_every_answer_by_verify_and_by_info(home: Path):
    run("index", "photos", "--backbone", "builtin", cwd=home)
    draw_picture(home / "photos" / "new.png", seed=99)
    sentence = "1 image has no vector of histogram and cannot be found by it; `simsearch index SOURCE` adds them"
    assert sentence in run("index", "photos", "--backbone", "builtin", cwd=home).stderr
    for _ in range(2):
        assert sentence in run("query", home / _A, cwd=home).stderr
    assert sentence not in run("query", home / _A, "--backbone", "builtin", cwd=home).stderr
    assert sentence in read_document("verify", cwd=home)["notes"]
    assert sentence in run("info", cwd=home).stdout
    run("remove", home / "photos" / "new.png", cwd=home)
    assert "no vector" not in run("query", home / _A, cwd=home).stderr


def test_two_folders_of_one_name_do_not_become_one_collection(home: Path):
    draw_picture(home / "other" / "photos" / "x.png", seed=7)
    refused = run("index", "other/photos", cwd=home)
    assert refused.returncode == 2
    assert f"indexes/photos is the collection of {home / 'photos'}; --into indexes/photos-2 makes a" in refused.stderr
    assert run("index", "other/photos", "--into", "indexes/photos", cwd=home).returncode == 0
    assert run("index", "other/photos", cwd=home).returncode == 0  # it is a source of it now


def test_a_source_folder_that_was_moved_is_recognised_by_its_files(home: Path):
    (home / "archive").mkdir()
    shutil.copytree(home / "photos", home / "archive" / "photos")  # a copy, as on another disk
    n_files = len(run("ls", cwd=home).stdout.splitlines())
    assert run("index", "archive/photos", cwd=home).returncode == 2  # the former folder is there: these are two
    shutil.rmtree(home / "photos")
    assert "index it where it is now, or `simsearch remove" in run("verify", cwd=home).stdout
    draw_picture(home / "archive" / "photos" / "new.png", seed=99)
    done = run("index", "archive/photos", cwd=home)
    assert done.returncode == 0, done.stderr
    assert f"1 embedded, {n_files} unchanged or moved, {n_files} gone" in done.stdout
    paths = run("ls", cwd=home).stdout.splitlines()
    assert len(paths) == n_files + 1
    assert all(path.startswith(str(home / "archive" / "photos")) for path in paths)
    draw_picture(home / "photos" / "other.png", seed=5)
    assert run("index", "photos", cwd=home).returncode == 2  # the former source is forgotten


def test_a_folder_with_other_files_is_not_a_source_that_was_moved(home: Path):
    draw_picture(home / "other" / "photos" / "x.png", seed=7)
    (home / "photos").rename(home / "elsewhere")
    refused = run("index", "other/photos", cwd=home)
    assert refused.returncode == 2
    assert f"indexes/photos is the collection of {home / 'photos'}, which is not there now; --into" in refused.stderr


def test_a_collection_of_an_older_simsearch_knows_its_source_by_its_files(home: Path):
    with sqlite3.connect(home / "indexes" / "photos" / "catalog.db") as catalog:
        catalog.execute("DELETE FROM settings WHERE name = 'sources'")
    catalog.close()
    draw_picture(home / "other" / "photos" / "x.png", seed=7)
    assert run("index", "other/photos", cwd=home).returncode == 2
    assert run("index", "photos", cwd=home).returncode == 0


def test_several_sources_need_a_name(home: Path):
    draw_picture(home / "more" / "x.png", seed=7)
    refused = run("index", "photos", "more", cwd=home)
    assert refused.returncode == 2
    assert "2 sources, so the collection has no obvious name; name it with --into" in refused.stderr
    assert run("index", "photos", "more", "--into", "both", cwd=home).returncode == 0


def test_pictures_of_an_emptied_folder_leave_the_results_and_return_without_embedding(home: Path):
    pictures = {file: file.read_bytes() for file in (home / "photos").rglob("*.png")}
    for file in pictures:
        file.unlink()
    emptied = read_document("index", "photos", cwd=home)
    assert (emptied["files"], emptied["gone"]) == (0, len(pictures))
    assert run("query", "--id", 1, cwd=home).returncode == 2
    for file, content in pictures.items():
        file.write_bytes(content)
    assert read_document("index", "photos", cwd=home)["embedded"] == 0


def test_an_empty_folder_in_the_place_of_a_source_loses_nothing(home: Path):
    """As the mount point of a disk that is not mounted, it is another folder than the one that was indexed."""
    (home / "photos").rename(home / "disk")
    (home / "photos").mkdir()
    refused = run("index", "photos", cwd=home)
    assert refused.returncode == 1
    assert "an empty folder, not the one that was indexed; mount its disk" in refused.stderr
    draw_picture(home / "more" / "x.png", seed=7)
    both = read_document("index", "photos", "more", "--into", "indexes/photos", cwd=home)
    assert both["gone"] == 0
    assert both["files"] > 1


def test_collections_are_listed_here_and_in_the_users_place_and_found_by_name(home: Path, tmp_path: Path):
    env = {"SIMSEARCH_HOME": str(tmp_path / "own")}
    draw_picture(home / "trips" / "x.png", seed=7)
    done = run("index", "trips", "--user", "--backbone", "histogram", cwd=home, env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own" / "trips" / "catalog.db").is_file()
    rows = read_document("list", cwd=home, env=env)["collections"]
    assert [(Path(row["collection"]).name, row["images"]) for row in rows][1] == ("trips", 1)
    assert rows[0]["default_backbone"] == "histogram"
    assert rows[0]["sources"] == [str(home / "photos")]
    text = run("list", cwd=home, env=env).stdout
    assert "indexes/photos" in text
    assert str(tmp_path / "own" / "trips") in text
    assert read_document("info", "--in", "trips", cwd=home, env=env)["images"] == 1
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert read_document("info", cwd=elsewhere, env=env)["images"] == 1  # the only one anywhere


def test_the_users_place_follows_the_xdg_variable(home: Path, tmp_path: Path):
    env = {"XDG_DATA_HOME": str(tmp_path / "data")}
    assert run("index", "photos", "--user", "--backbone", "histogram", cwd=home, env=env).returncode == 0
    assert (tmp_path / "data" / "simsearch" / "indexes" / "photos" / "catalog.db").is_file()


def test_many_collections_give_a_short_error(home: Path):
    for number in range(30):
        shutil.copytree(home / "indexes" / "photos", home / "indexes" / f"copy{number:02}")
    refused = run("query", home / _A, cwd=home)
    assert refused.returncode == 2
    assert "31 collections in indexes/: copy00, copy01, copy02, and 28 more; choose one with --in" in refused.stderr
    assert len(refused.stderr) < 250


def test_a_damaged_collection_is_listed_with_its_problem(home: Path):
    (home / "indexes" / "photos" / "catalog.db").write_bytes(b"no catalog")
    done = run("list", cwd=home)
    assert done.returncode == 0
    assert "indexes/photos" in done.stdout


def test_tune_sets_the_method_of_one_model_only(home: Path):
    run("index", "photos", "--backbone", "builtin", cwd=home)
    with Collection.open(home / "indexes" / "photos") as collection:
        collection.set_default_rerank("pca2+aqe2", "builtin")
        assert collection.find_default_rerank("histogram") == collection.default_rerank == "none"
    assert "rerank" not in read_document("query", _A, cwd=home)
    assert read_document("query", _A, "--backbone", "builtin", cwd=home)["rerank"] == "pca2+aqe2"
    assert "results are ranked by pca2+aqe2" in run("info", cwd=home).stdout


def test_an_answer_says_when_its_order_is_not_that_of_the_similarities(tmp_path: Path):
    for number in range(40):
        draw_picture(tmp_path / "photos" / f"{number}.png", seed=number)
    run("index", "photos", "--backbone", "histogram", cwd=tmp_path)
    orders = 0
    for number in range(10):
        query = ("query", f"photos/{number}.png", "-k", 40, "--rerank", "k-reciprocal5")
        done = run(*query, "--json", cwd=tmp_path)
        similarities = [hit["similarity"] for hit in json.loads(done.stdout)["hits"]]
        falls = similarities == sorted(similarities, reverse=True)
        assert ("similarities do not fall from rank to rank" in done.stderr) == (not falls)
        orders += falls
    assert orders < 10
