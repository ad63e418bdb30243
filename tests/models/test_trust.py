"""A model file of a stranger's collection is a program: it runs once its user has named it on this machine."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simsearch import Collection, ModelChoice
from simsearch.errors import UntrustedModel
from simsearch.models import histogram
from simsearch.models.choice import resolve_model
from simsearch.models.custom_model import read_model_file
from simsearch.models.trust import check_is_trusted, trust_model
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.command_line import run

pytestmark = pytest.mark.long

SIDE_PX = 16
CHECK = """
import sys
from simsearch.errors import UntrustedModel
from simsearch.models.custom_model import read_model_file
from simsearch.models.trust import check_is_trusted
try:
    check_is_trusted(read_model_file(sys.argv[1], layer=None, pooling=None, resize=None))
except UntrustedModel:
    sys.exit(7)
"""


def write_settings(path: Path) -> None:
    path.with_suffix(".json").write_text(json.dumps({"side": SIDE_PX, "scaling": "none"}))


def read_model(path: Path):
    return read_model_file(str(path), layer=None, pooling=None, resize=None)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A SavedModel that writes a file when it runs, and that file."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("program")
    trace = folder / "it_ran"

    class Program(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, SIDE_PX, SIDE_PX, 3], tf.float32)])
        def serve(self, pixels):
            tf.io.write_file(str(trace), "ran")
            means = tf.tile(tf.reduce_mean(pixels, axis=[1, 2]), [1, histogram.WIDTH // 3 + 1])
            return {"vector": means[:, : histogram.WIDTH]}

    module = Program()
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": module.serve})
    return folder / "model", trace


@pytest.fixture
def foreign(program: tuple[Path, Path], photos: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A collection of a stranger with a program inside, the program, and the file that shows that it ran."""
    collection, model = tmp_path / "ix", tmp_path / "ix" / "model"
    oneshot.ingest(collection, [photos], HISTOGRAM)
    shutil.copytree(program[0], model)
    (model / "assets" / "name").parent.mkdir(exist_ok=True)
    (model / "assets" / "name").write_text(str(tmp_path))  # every test has a model of its own
    write_settings(model)
    with sqlite3.connect(collection / "catalog.db") as catalog:
        catalog.execute("UPDATE models SET details = ?, backbone = 'model'", [read_model(model).to_json()])
    catalog.close()
    program[1].unlink(missing_ok=True)
    return collection, model, program[1]


def test_a_query_does_not_run_the_program_of_a_foreign_collection(foreign, tmp_path: Path):
    collection, model, trace = foreign
    new = draw_picture(tmp_path / "new.png", 99)
    done = run("query", new, "--in", collection, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"name it once with --backbone {model}" in done.stderr
    assert not trace.exists()


@pytest.mark.parametrize("more", [[], ["--pooling", "max"], ["--precision", "f32", "--resize", "pad"]])
def test_indexing_into_a_foreign_collection_does_not_run_its_program(foreign, tmp_path: Path, more: list[str]):
    collection, model, trace = foreign
    draw_picture(tmp_path / "photos" / "new.png", 99)
    done = run("index", tmp_path / "photos", "--into", collection, *more, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"--backbone {model}" in done.stderr
    assert not trace.exists()


def test_the_name_of_the_backbone_is_no_trust_even_where_a_folder_has_that_name(foreign, tmp_path: Path):
    collection, _, trace = foreign
    new = draw_picture(tmp_path / "new.png", 99)
    done = run("query", new, "--in", collection, "--backbone", "model", cwd=collection)
    assert done.returncode == 1
    assert "is a program" in done.stderr
    assert not trace.exists()


def test_a_foreign_collection_opens_and_answers_without_its_program(foreign, photos: Path, tmp_path: Path):
    collection, _, trace = foreign
    known = next(photos.rglob("*.png"))
    for command in (
        ["info"], ["verify"], ["query", "--id", "1"], ["query", known], ["clusters", "-k", "2"], ["export", "v.csv"],
        ["rebuild"],
    ):  # fmt: skip
        done = run(*command, "--in", collection, cwd=tmp_path)
        assert (command, done.returncode, done.stderr) == (command, 0, "")
    assert not trace.exists()


def test_a_program_that_is_named_runs_then_and_later(foreign, tmp_path: Path):
    collection, model, trace = foreign
    new = draw_picture(tmp_path / "new.png", 99)
    assert run("query", new, "--in", collection, "--backbone", model, cwd=tmp_path).returncode == 0
    assert trace.exists()
    assert run("query", new, "--in", collection, cwd=tmp_path).returncode == 0


def test_trust_is_kept_for_later_processes_and_ends_with_any_change(foreign):
    _, model, _ = foreign

    def is_trusted() -> bool:
        return subprocess.run([sys.executable, "-c", CHECK, str(model)], check=False).returncode == 0

    assert not is_trusted()
    trust_model(read_model(model))
    assert is_trusted()
    (model / "assets" / "name").write_text("another")
    assert not is_trusted()
    with pytest.raises(UntrustedModel):
        check_is_trusted(read_model(model))


def test_a_model_that_this_user_indexed_is_trusted(foreign):
    _, model, _ = foreign
    with pytest.raises(UntrustedModel):
        check_is_trusted(read_model(model))
    check_is_trusted(resolve_model(ModelChoice(backbone=str(model))))


def test_a_file_moved_between_the_folders_of_a_model_is_another_model(foreign):
    """The names count, too: TensorFlow reads them by name."""
    _, model, _ = foreign
    trust_model(read_model(model))
    (model / "assets" / "name").rename(model / "name")
    with pytest.raises(UntrustedModel):
        check_is_trusted(read_model(model))


def test_a_linked_folder_of_a_model_counts_with_its_content(foreign, tmp_path: Path):
    _, model, _ = foreign
    (model / "assets").rename(tmp_path / "elsewhere")
    (model / "assets").symlink_to(tmp_path / "elsewhere")
    (model / "again").symlink_to(model)
    trust_model(read_model(model))
    check_is_trusted(read_model(model))
    (tmp_path / "elsewhere" / "name").write_text("another")
    with pytest.raises(UntrustedModel):
        check_is_trusted(read_model(model))


def test_a_keras_file_counts_as_a_program_and_an_onnx_file_as_data(tmp_path: Path):
    (tmp_path / "a.keras").write_bytes(str(tmp_path).encode())
    write_settings(tmp_path / "a.keras")
    model = read_model(tmp_path / "a.keras")
    with pytest.raises(UntrustedModel, match="program"):
        check_is_trusted(model)
    check_is_trusted(replace(model, runtime="onnx"))


def test_the_library_names_the_program_in_its_error(foreign, tmp_path: Path):
    collection, model, trace = foreign
    with Collection.open(collection) as opened, pytest.raises(UntrustedModel) as caught:
        opened.search(str(draw_picture(tmp_path / "new.png", 99)))
    assert caught.value.file == str(model)
    assert not trace.exists()
