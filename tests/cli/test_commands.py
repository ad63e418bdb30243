"""The contract of all commands: only JSON on stdout, exit status, one clear line on stderr."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from simsearch.cli.app import app
from tests.conftest import ROOT, draw_picture
from tests.support.command_line import read_document, run, run_process
from tests.support.servers import serving

pytestmark = pytest.mark.long

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ indexed under indexes/ with the built-in network, for tests that change neither."""
    folder = tmp_path_factory.mktemp("home")
    for seed in range(12):
        draw_picture(folder / "photos" / ("a" if seed < 6 else "b") / f"picture_{seed:02}.png", seed)
    read_document("index", "photos", cwd=folder)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("to do")
    return folder


@pytest.fixture
def own_home(photos: Path) -> Path:
    """The same for one test, which may change it, with a backbone that needs no time."""
    read_document("index", "photos", "--backbone", "histogram", cwd=photos.parent)
    return photos.parent


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_is_in_the_readme(command: str, tmp_path: Path):
    done = run(command, "--help", cwd=tmp_path, env={"COLUMNS": "200"})
    assert done.returncode == 0
    assert re.search(rf"Example: +simsearch {command}", done.stdout)
    assert f"simsearch {command}" in (ROOT / "README.md").read_text()


def test_index_json_has_the_documented_keys(photos: Path):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    told = read_document("index", "photos", cwd=photos.parent)
    assert set(told) == {
        "collection", "model", "backbone", "precision", "agreement", "files", "images", "embedded", "reused", "gone",
        "views", "skipped", "seconds", "images_per_second", "stages", "notes", "other_models", "default_backbone",
    }  # fmt: skip
    assert (told["collection"], told["backbone"]) == (os.path.join("indexes", "photos"), "builtin")
    assert (told["files"], told["images"], told["embedded"], told["reused"], told["views"]) == (12, 12, 12, 0, 12)
    assert [skip["path"] for skip in told["skipped"]] == [str(photos / "broken.jpg")]
    assert {"read", "decode", "embed", "write"} <= set(told["stages"])


def test_query_json_has_the_documented_keys(home: Path):
    told = read_document("query", "photos/a/picture_02.png", "-k", 3, cwd=home)
    assert set(told) == {"query", "backbone", "model", "default_backbone", "hits", "milliseconds"}
    assert told["query"] == ["photos/a/picture_02.png"]
    assert set(told["milliseconds"]) == {"load", "embed", "search"}
    assert [hit["rank"] for hit in told["hits"]] == [1, 2, 3]
    assert told["hits"][0] == {
        "rank": 1,
        "similarity": 1.0,
        "image_id": 3,
        "path": str(home / "photos" / "a" / "picture_02.png"),
        "paths": [str(home / "photos" / "a" / "picture_02.png")],
        "view": {"kind": "original"},
    }


def test_query_by_id_and_by_list(home: Path):
    by_id = read_document("query", "--id", 3, "-k", 2, cwd=home)
    (home / "list.txt").write_text("photos/a/picture_02.png\nphotos/b/picture_09.png\n")
    by_list = read_document("query", "--list", "list.txt", "-k", 2, cwd=home)
    assert [answer["query"] for answer in by_list["answers"]] == [
        ["photos/a/picture_02.png"],
        ["photos/b/picture_09.png"],
    ]
    assert by_list["answers"][0]["hits"] == by_id["hits"]


def test_a_list_of_paths_is_read_from_stdin(photos: Path):
    listed = b"\0".join(os.fsencode(path) for path in sorted(photos.rglob("*.png"))[:5])
    done = run_process("index", "-", "--into", "indexes/some", "--json", cwd=photos.parent, stdin=listed)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["files"] == 5


@pytest.mark.parametrize("command", [["info"], ["query", "missing.jpg"], ["query"], ["verify", "--json"]])
def test_a_process_prints_and_returns_what_a_call_in_this_process_does(home: Path, command: list[str]):
    process, call = run_process(*command, cwd=home), run(*command, cwd=home)
    assert process.returncode == call.returncode
    assert process.stdout == call.stdout
    assert process.stderr.replace("python -m simsearch", "simsearch") == call.stderr


def test_a_name_that_is_not_utf8_can_be_indexed_searched_and_printed(own_home: Path):
    name = os.fsencode(own_home / "photos") + b"/caf\xe9_\xff.png"
    try:
        os.rename(own_home / "photos" / "a" / "picture_00.png", name)
    except OSError as error:
        pytest.skip(f"this file system refuses such names: {error}")
    assert read_document("index", "photos", cwd=own_home)["embedded"] == 0
    hit = read_document("query", os.fsdecode(name), "-k", 1, cwd=own_home)["hits"][0]
    assert os.fsencode(hit["path"]) == name
    shown = run_process("query", os.fsdecode(name), "-k", 1, cwd=own_home)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "caf\ufffd_\ufffd.png" in shown.stdout


def test_query_prints_a_table(home: Path):
    done = run("query", "photos/a/picture_02.png", "-k", 2, cwd=home)
    assert done.returncode == 0
    assert re.search(r"rank\tsimilarity\tid\timage", done.stdout)
    assert re.search(r"1\t1\.0000\t3\tphotos/a/picture_02\.png", done.stdout)


def test_no_progress_bar_when_stderr_is_not_a_terminal(photos: Path):
    assert run("index", "photos", cwd=photos.parent).stderr == ""


def test_info_backbones_verify_rebuild_remove_and_prune_print_json(own_home: Path):
    assert read_document("info", cwd=own_home)["images"] == 12
    names = [row["name"] for row in read_document("backbones", cwd=own_home)["backbones"]]
    assert {"histogram", "vgg16", "resnet50", "mobilenet_v2"} <= set(names)
    assert read_document("verify", cwd=own_home) == {"problems": [], "notes": []}
    assert len(read_document("rebuild", cwd=own_home)["rebuilt"]) == 1
    assert read_document("remove", "photos/a", cwd=own_home) == {"removed": 6}
    assert read_document("prune", cwd=own_home)["images"] == 6


@pytest.mark.parametrize("command", ["info", "backbones", "verify", "rebuild", "prune"])
def test_the_same_commands_print_text(own_home: Path, command: str):
    done = run(command, cwd=own_home)
    assert done.returncode == 0
    assert done.stdout.strip()


def test_damage_is_exit_status_1(own_home: Path):
    catalog = own_home / "indexes" / "photos" / "catalog.db"
    import contextlib
    import sqlite3

    with contextlib.closing(sqlite3.connect(catalog)) as connection, connection:
        connection.execute("UPDATE vectors SET vector = zeroblob(4) WHERE id = 1")
    assert run("verify", cwd=own_home).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["index", "nowhere"], 1, "nowhere does not exist; check the path"),
        (["index", "empty"], 1, "no images in empty"),
        (["index", "photos", "--backbone", "resnet5"], 2, "did you mean resnet50"),
        (
            ["index", "photos", "--backbone", "vgg16", "--offline"],
            1,
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
        ),
        (["index", "photos", "--pooling", "mean"], 2, "'mean' is not one of 'avg', 'max', 'gem'"),
        (["index", "photos", "--resize", "stretch"], 2, "'stretch' is not one of 'squash', 'crop', 'pad', 'nearest'"),
        (["index", "-"], 2, "--into"),
        (["index"], 2, "Missing argument"),
        (["index", "photos", "--into", "photos"], 1, "holds other things"),
        (["query", "photos/a/picture_00.png", "-k", "0"], 2, "k is 0"),
        (["query", "photos/a/picture_00.png", "--min-similarity", "7"], 2, "from -1 to 1"),
        (["query", "missing.jpg"], 1, "cannot read missing.jpg"),
        (["query", "notes.txt"], 1, "cannot read notes.txt"),
        (["query"], 2, "name an image"),
        (["query", "--id", "99"], 2, "no image 99"),
        (["query", "x.jpg", "--in", "elsewhere"], 1, "no collection at elsewhere"),
        (["query", "photos/a/picture_00.png", "--backbone", "resnet50"], 2, "was not indexed with resnet50"),
        (["query", "photos/a/picture_00.png", "--sheet", "x.docx"], 2, "no extension of a picture"),
        (["remove", "elsewhere.jpg"], 2, "has no file"),
        (["prune", "--backbone", "vgg16"], 2, "was not indexed with vgg16"),
    ],
)
def test_bad_input_gets_one_clear_line(home: Path, arguments: list[str], code: int, message: str):
    done = run(*arguments, cwd=home, env={"SIMSEARCH_CACHE": str(home / "cache"), "KERAS_HOME": str(home / "keras")})
    assert (done.returncode, done.stdout) == (code, "")
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    if "Usage" not in done.stderr:
        assert done.stderr.count("\n") == 1


def test_several_collections_need_a_choice_and_the_variable_makes_it(own_home: Path):
    read_document("index", "photos/a", "--backbone", "histogram", cwd=own_home)
    done = run("info", cwd=own_home)
    assert done.returncode == 2
    assert "2 collections in indexes/: a, photos; choose one" in done.stderr
    assert read_document("info", cwd=own_home, env={"SIMSEARCH_INDEX": "indexes/a"})["images"] == 6


def test_a_sheet_shows_query_and_hits(home: Path):
    done = run("query", "photos/a/picture_02.png", "-k", 7, "--sheet", "sheet.png", cwd=home)
    assert done.returncode == 0
    with Image.open(home / "sheet.png") as sheet:
        assert sheet.width > 1000
        query_place = sheet.convert("RGB").crop((28, 28, 308, 308))
    with Image.open(home / "photos" / "a" / "picture_02.png") as picture:
        expected = picture.convert("RGB").resize((40, 40))
    shown = query_place.resize((40, 40))
    difference = sum(abs(a - b) for a, b in zip(shown.tobytes(), expected.tobytes(), strict=True)) / 4800
    assert difference < 12


@pytest.mark.parametrize("command", [["query", "photos/a/picture_02.png"], ["index", "photos"]])
def test_tensorflow_is_not_imported_when_no_network_runs(home: Path, command: list[str]):
    code = (
        "import sys\nfrom simsearch.cli import main\n"
        f"sys.argv = ['simsearch', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('tensorflow', 'keras', 'openvino', 'sqlite_utils') if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


class _LateList(list[str]):
    """What a server was asked for; it sends a list only after a second."""

    def append(self, line: str) -> None:
        super().append(line)
        if line == "GET /list.txt":
            time.sleep(1.2)


def test_the_progress_bar_appears_on_a_terminal_after_a_second(tmp_path: Path):
    """A real terminal: the child's stderr is a pseudo-terminal, its stdout a pipe."""
    import pty

    drawn = {f"/{seed}.png": draw_picture(tmp_path / "one.png", seed).read_bytes() for seed in range(40)}
    listed = {"/list.txt": "".join(f".{path}\n" for path in drawn).encode()}
    with serving(drawn | listed, _LateList()) as web:
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "simsearch", "index", f"{web}/list.txt", "--into", "ix", "--json"]
        command += ["--backbone", "histogram"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=child)
        os.close(child)
        shown = b""
        while True:
            try:
                block = os.read(parent, 4096)
            except OSError:  # the terminal is closed
                break
            if not block:
                break
            shown += block
        os.close(parent)
        output, _ = process.communicate()
        assert process.returncode == 0, shown.decode()
        assert json.loads(output)["embedded"] == 40
        assert b"files/s" in shown
