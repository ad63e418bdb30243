"""What scripts rely on: paths and nothing else, JSON also for errors, statuses, and nothing overwritten by surprise."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from PIL import Image
from rich.cells import cell_len
from typer.main import get_command

from simsearch import Collection
from simsearch.cli.app import app
from simsearch.files import is_own_picture
from simsearch.machine import find_core_limit
from simsearch.models.precision import calibration_pays_off
from simsearch.sources.path_filter import PathFilter
from tests.conftest import draw_picture
from tests.support.command_line import read_document, run

pytestmark = pytest.mark.long

ODD_NAMES = (
    b"with space.png", b"two\nlines.png", b"tab\there.png", b"quote'and\".png", b"-dash.png", b"\xff\xfe latin.png",
    "寿司 🏺.png".encode(), b"back\\slash.png", b"$HOME`ls`.png", b"[red]markup[/red].png", b"per%cent?.png",
    b"\x1b[31mescape.png", b"a" * 250 + b".png",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of odd names, indexed; tests do not change it."""
    folder = tmp_path_factory.mktemp("odd")
    for seed, name in enumerate(ODD_NAMES):
        content = draw_picture(folder / "draft.png", seed).read_bytes()
        path = os.fsencode(folder / "photos") + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
    (folder / "draft.png").unlink()
    assert run("index", "photos", "--backbone", "histogram", cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize("command", ["query --id 1 -k 50 --paths -0", "ls -0"])
def test_paths_with_any_name_go_through_xargs(home: Path, command: str):
    line = f"{sys.executable} -m simsearch {command} | xargs -0 ls"
    done = subprocess.run(["/bin/bash", "-o", "pipefail", "-c", line], cwd=home, capture_output=True)
    assert done.returncode == 0, done.stderr
    expected = [os.fsencode(home / "photos") + b"/" + name for name in ODD_NAMES]
    assert sorted(done.stdout.removesuffix(b"\n").split(b"\n")) == sorted(b"\n".join(expected).split(b"\n"))


def test_paths_only_and_one_per_line(home: Path):
    done = run("query", "--id", 1, "-k", 2, "--paths", cwd=home)
    assert done.stdout.splitlines()[0].startswith(str(home / "photos"))
    assert len(done.stdout.splitlines()) >= 2
    assert run("query", "--id", 1, "--paths", "--json", cwd=home).returncode == 2


def test_ls_lists_what_matches_a_filter(home: Path):
    everything = read_document("ls", cwd=home)["images"]
    assert len(everything) == len(ODD_NAMES)
    some = read_document("ls", "--where", "id <= 3", cwd=home)["images"]
    assert [image["image_id"] for image in some] == [1, 2, 3]
    none = run("ls", "--where", "id > 999", cwd=home)
    assert (none.returncode, none.stdout) == (0, "")
    assert "no image matches the filter" in none.stderr


def test_a_table_for_a_program_has_tabs_and_is_not_folded(home: Path):
    lines = run("query", "--id", 1, "-k", 50, cwd=home, env={"COLUMNS": "40"}).stdout.splitlines()
    assert lines[1] == "rank\tsimilarity\tid\timage"
    assert len(lines) == 2 + len(ODD_NAMES)
    assert all(line.count("\t") == 3 for line in lines[1:])


def test_on_a_terminal_each_hit_is_one_line_and_its_path_is_shortened_in_the_middle(home: Path):
    parent, child = pty.openpty()
    env = {**os.environ, "COLUMNS": "60", "TERM": "xterm"}
    command = [sys.executable, "-m", "simsearch", "query", "--id", "1", "-k", "50"]
    process = subprocess.Popen(command, cwd=home, stdout=child, env=env)
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end was closed
        while chunk := os.read(parent, 65536):
            shown += chunk
    assert process.wait() == 0
    os.close(parent)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).splitlines()
    assert len(lines) == 2 + len(ODD_NAMES)
    assert all(cell_len(line) <= 60 for line in lines[1:])
    long = next(line for line in lines if "aaa" in line)
    assert "…" in long
    assert long.rstrip().endswith("aaa.png")


@pytest.mark.parametrize(
    ("arguments", "status", "kind"),
    [
        (["query", "missing.png"], 1, "UnreadableFile"),
        (["query", "--id", "1", "--backbone", "nothing"], 2, "ModelNotIndexed"),
        (["query", "--id", "77"], 2, "ImageNotFound"),
        (["query", "--id", "1", "--where", "width >"], 2, "UsageError"),
        (["query", "--id", "1", "--rerank", "pac"], 2, "UsageError"),
        (["query", "--id", "1", "--in", "nowhere"], 1, "CollectionNotFound"),
        (["query", "--no-such-option"], 2, "UsageError"),
        (["index"], 2, "UsageError"),
        (["index", "photos", "--into", "new", "--backbone", "nothing"], 2, "UnknownBackbone"),
        (["index", "photos", "--pooling", "mean"], 2, "UsageError"),
    ],
)
def test_errors_are_json_too_and_a_wrong_word_has_status_2(home: Path, arguments: list[str], status: int, kind: str):
    done = run(*arguments, "--json", cwd=home)
    document = json.loads(done.stdout)
    assert (done.returncode, document["schema_version"], document["error"]["type"]) == (status, 1, kind)
    assert document["error"]["problem"]
    assert done.stderr.startswith("simsearch: ")
    assert run(*arguments, cwd=home).returncode == status


def test_quiet_leaves_out_notes_and_keeps_errors(home: Path):
    none = ("ls", "--where", "id > 999")
    assert run(*none, cwd=home).stderr != ""
    assert run(*none, "--quiet", cwd=home).stderr == ""
    assert run("query", "missing.png", "--quiet", cwd=home).stderr != ""
    assert run(*none, cwd=home).stderr != ""  # it holds for one command


def test_quiet_prints_what_was_asked_for_and_not_what_was_done(tmp_path: Path):
    for seed in range(4):
        draw_picture(tmp_path / "photos" / f"{seed}.png", seed)
    (tmp_path / "own.csv").write_text("path;mark\nphotos/0.png;1,5\n")
    done = ["index photos --backbone histogram", "annotate own.csv", "default histogram", "export out.csv",
            "map --out map.png", "rebuild", "verify", "remove photos/3.png", "prune"]  # fmt: skip
    for command in done:
        told = run(*command.split(), "--quiet", cwd=tmp_path)
        assert (told.returncode, told.stdout, told.stderr) == (0, "", ""), command
    for command in (
        "info",
        "list",
        "ls",
        "query --id 1",
        "clusters -k 2",
        "duplicates",
        "remove photos/0.png --dry-run",
    ):
        assert run(*command.split(), "--quiet", cwd=tmp_path).stdout != "", command
    assert run("default", "histogram", cwd=tmp_path).stdout != ""


def test_dry_runs_say_what_would_happen_and_change_nothing(tmp_path: Path):
    for seed in range(3):
        draw_picture(tmp_path / "photos" / f"{seed}.png", seed)
    preview = read_document("index", "photos", "--dry-run", cwd=tmp_path)
    assert [Path(path).name for path in preview["new"]] == ["0.png", "1.png", "2.png"]
    assert not (tmp_path / "indexes").exists()
    run("index", "photos", "--backbone", "histogram", cwd=tmp_path)
    (tmp_path / "photos" / "0.png").unlink()
    draw_picture(tmp_path / "photos" / "1.png", 77, side_px=50)
    draw_picture(tmp_path / "photos" / "3.png", 3)
    preview = read_document("index", "photos", "--dry-run", cwd=tmp_path)
    names = {key: [Path(path).name for path in preview[key]] for key in ("new", "changed", "gone")}
    assert names == {"new": ["3.png"], "changed": ["1.png"], "gone": ["0.png"]}
    assert preview["unchanged"] == 1
    assert run("index", "photos", "--dry-run", cwd=tmp_path).stdout.splitlines() == [
        "  read photos/3.png",
        "  read photos/1.png",
        "  gone photos/0.png",
        "indexes/photos: 1 new, 1 changed, 1 gone, 1 unchanged; nothing was written",
    ]
    assert read_document("info", cwd=tmp_path)["files"] == 3
    shown = run("remove", "photos", "--dry-run", cwd=tmp_path)
    assert len(shown.stdout.splitlines()) == 3
    assert read_document("info", cwd=tmp_path)["files"] == 3
    run("remove", "photos/2.png", cwd=tmp_path)
    assert read_document("prune", "--dry-run", cwd=tmp_path)["images"] == 1
    assert read_document("info", cwd=tmp_path)["orphans"] == 1
    assert run("prune", cwd=tmp_path).stdout.startswith("1 image deleted")


def test_files_are_chosen_by_patterns(tmp_path: Path):
    for name in ("a.png", "thumbs/b.png", "trip/c.png", "trip/thumbs/d.png", "trip/e_old.png"):
        draw_picture(tmp_path / "photos" / name, len(name) + ord(name[-5]))
    command = ("index", "photos", "--backbone", "histogram", "--exclude", "thumbs", "--exclude", "trip/*_old*")
    read_document(*command, cwd=tmp_path)
    listed = run("ls", cwd=tmp_path).stdout.splitlines()
    assert sorted(Path(path).name for path in listed) == ["a.png", "c.png"]
    assert read_document("index", "photos", "--include", "a*", cwd=tmp_path)["gone"] == 1
    chosen = PathFilter(include=("*.jpg",))
    assert [chosen.accepts(path, ["/p"]) for path in ("/p/x.jpg", "/p/y/x.jpg", "/p/x.jpg/z.png")] == [
        True,
        True,
        False,
    ]


def test_every_command_with_json_prints_a_document_with_its_version_even_for_an_error(tmp_path: Path):
    names = [name for name, command in get_command(app).commands.items() if _has_json(command)]
    assert len(names) >= 25
    for name in names:
        done = run(name, "--json", "--no-such-option", cwd=tmp_path)
        assert (done.returncode, json.loads(done.stdout)["schema_version"]) == (2, 1), name


def _has_json(command: click.Command) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


def test_every_json_document_in_a_file_has_the_version(tmp_path: Path):
    for label in ("a", "b"):
        for number in range(2):
            draw_picture(tmp_path / "photos" / label / f"{number}.png", number + 5 * (label == "b"))
    for words in (
        ("benchmark", "photos", "--backbone", "histogram", "--rerank", "none", "--out", "report"),
        ("duplicates", "--backbone", "histogram", "--out", "report/duplicates.json"),
        ("study", "photos/a/0.png", "photos/b/0.png", "--backbone", "histogram", "--out", "report"),
    ):
        assert run(*words, cwd=tmp_path).returncode == 0, words
    documents = sorted((tmp_path / "report").glob("*.json"))
    assert [document.name for document in documents] == ["duplicates.json", "report.json", "study.json"]
    assert [json.loads(document.read_text())["schema_version"] for document in documents] == [1, 1, 1]


def test_the_number_of_cores_is_limited_for_one_command(tmp_path: Path):
    draw_picture(tmp_path / "photos" / "a.png", 1)
    assert run("index", "photos", "--jobs", 1, "--backbone", "histogram", cwd=tmp_path).returncode == 0
    assert run("index", "photos", "--jobs", 0, cwd=tmp_path).returncode == 2
    assert run("rebuild", "--jobs", 1, cwd=tmp_path).returncode == 0


def test_the_number_of_cores_bounds_the_threads_of_libraries(tmp_path: Path):
    """In a process of its own: libraries read the number when they are imported."""
    draw_picture(tmp_path / "photos" / "a.png", 1)
    script = (
        "import os; before = dict(os.environ); from simsearch.cli import main\n"
        "assert main(['index', 'photos', '--jobs', '1', '--backbone', 'histogram', '--quiet']) == 0\n"
        "import faiss; print(faiss.omp_get_max_threads(), dict(os.environ) == before)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 True"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_contact_sheet_is_marked_and_never_indexed_as_a_photo(tmp_path: Path, suffix: str):
    for seed in range(2):
        draw_picture(tmp_path / "photos" / f"{seed}.png", seed)
    run("index", "photos", "--backbone", "histogram", cwd=tmp_path)
    sheet = tmp_path / "photos" / f"sheet{suffix}"
    assert run("query", "--id", 1, "--sheet", sheet, cwd=tmp_path).returncode == 0
    assert is_own_picture(sheet.read_bytes())
    again = read_document("index", "photos", cwd=tmp_path)
    assert again["images"] == 2
    assert [Path(skip["path"]).name for skip in again["skipped"]] == [sheet.name]
    assert "simsearch made this picture" in again["skipped"][0]["reason"]
    assert run("query", "--id", 1, "--sheet", sheet, cwd=tmp_path).returncode == 0  # its own file is overwritten


def test_a_photo_is_not_taken_for_a_picture_of_simsearch(tmp_path: Path):
    file = io.BytesIO()
    Image.new("RGB", (40, 40)).save(file, "JPEG")
    assert not is_own_picture(file.getvalue())


@pytest.mark.parametrize(
    "command",
    [
        ["query", "--id", "1", "--sheet", "FILE.png"],
        ["map", "--out", "FILE.html"],
        ["export", "FILE.csv"],
        ["export", "FILE.jsonl"],
        ["duplicates", "--out", "FILE.html"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_only_files_of_simsearch_are_overwritten_without_force(home: Path, tmp_path: Path, command: list[str]):
    shutil.copytree(home / "indexes", tmp_path / "indexes")
    words = [word.replace("FILE", str(tmp_path / "out")) for word in command]
    file = Path(next(word for word in words if word.startswith(str(tmp_path))))
    file.write_text("mine")
    refused = run(*words, cwd=tmp_path)
    assert refused.returncode == 2
    assert f"{file} exists and was not written by simsearch; name another file, or overwrite it with --force" in (
        refused.stderr
    )
    assert file.read_text() == "mine"
    assert run(*words, "--force", cwd=tmp_path).returncode == 0
    assert run(*words, cwd=tmp_path).returncode == 0


def test_the_help_shows_brackets_and_joins_the_lines_of_a_paragraph(home: Path):
    shown = run("export", "--help", cwd=home, env={"COLUMNS": "200"}).stdout
    assert "[parquet]" in shown
    assert "<bool>" not in shown + run("--help", cwd=home).stdout
    shown = run("index", "--help", cwd=home, env={"COLUMNS": "200"}).stdout
    assert "[@revision]" in shown or "hf:owner/repository" in shown
    paragraph = next(line for line in shown.splitlines() if "All backbones of the collection" in line)
    assert "An interrupted run resumes" in paragraph


def test_a_calibration_for_int8_must_pay_off():
    """At 100 images/s a calibration of about 15 s saves nothing for 1,000 images, and minutes for 100,000."""
    assert not calibration_pays_off(1_000, 100)
    assert not calibration_pays_off(30_000, 250)
    assert calibration_pays_off(100_000, 100)
    assert calibration_pays_off(20_000, 5)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--where", "id > 999"], "no image with a vector of histogram matches the filter"),
        (["--min-similarity", "1", "--exclude-self"], "the nearest image has the similarity 0."),
        (["--offset", "500"], "there are fewer than 501 results"),
    ],
)
def test_an_empty_answer_says_why(home: Path, arguments: list[str], reason: str):
    done = run("query", "--id", 1, *arguments, cwd=home)
    assert done.returncode == 0
    assert "no results" in done.stdout
    assert reason in done.stderr


def test_a_collection_of_one_image_says_that_it_is_the_query(tmp_path: Path):
    draw_picture(tmp_path / "photos" / "a.png", 1)
    indexed = run("index", "photos", "--backbone", "histogram", cwd=tmp_path)
    assert indexed.stdout.startswith("indexes/photos: 1 image in 1 file, histogram (1 embedded")
    done = run("query", "photos/a.png", "--exclude-self", cwd=tmp_path)
    assert "the only image of the collection is the query itself" in done.stderr


def test_own_columns_are_booleans_quoted_texts_and_never_built_in_fields(home: Path, tmp_path: Path):
    shutil.copytree(home / "indexes", tmp_path / "indexes")
    (tmp_path / "own.csv").write_text("image_id,sold,room\n1,true,living room\n2,FALSE,bath\n")
    assert read_document("annotate", "own.csv", cwd=tmp_path)["columns"] == ["sold", "room"]

    def find(where: str) -> list[int]:
        return [image["image_id"] for image in read_document("ls", "--where", where, cwd=tmp_path)["images"]]

    assert (find("sold = true"), find("sold = false"), find("sold in (true, false)")) == ([1], [2], [1, 2])
    assert find("room in (bath, 'living room')") == [1, 2]
    unquoted = run("ls", "--where", "room in (living room)", cwd=tmp_path)
    assert unquoted.returncode == 2
    assert "quotes around a text of several words" in unquoted.stderr
    (tmp_path / "clash.csv").write_text("image_id,Width\n1,5\n")
    refused = run("annotate", "clash.csv", cwd=tmp_path)
    assert refused.returncode == 1
    assert "the column Width has the name of a field that every image has; rename it" in refused.stderr


def test_tune_says_at_once_on_a_terminal_what_it_measures(home: Path):
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "simsearch", "tune", "--rerank", "none", "--sample", "3", "--dry-run"]
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=child)
    os.close(child)
    first = os.read(parent, 65536).decode()
    process.wait()
    os.close(parent)
    assert first.startswith("simsearch: measuring 1 method with up to 3 queries ...")


def test_a_new_collection_says_on_a_terminal_what_to_type_next(tmp_path: Path):
    draw_picture(tmp_path / "my photos" / "a.png", 1)
    command = [sys.executable, "-m", "simsearch", "index", "my photos", "--backbone", "histogram"]
    shown = [_run_on_terminal(command, tmp_path) for _ in range(2)]
    assert "next: simsearch query IMAGE --in 'indexes/my photos', or simsearch serve" in shown[0]
    assert "next" not in shown[1]


def _run_on_terminal(command: list[str], folder: Path) -> str:
    """Run a command with stderr on a pseudo-terminal; return what it prints there."""
    parent, child = pty.openpty()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=child)
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal is closed
        while block := os.read(parent, 65536):
            shown += block
    os.close(parent)
    assert process.wait() == 0
    return shown.decode()


def test_messages_stay_above_the_bar_of_an_activity_and_the_bar_goes_away():
    script = (
        "from simsearch.cli.output import *\n"
        "with show_activity('converting x') as report:\n"
        "    report(0.5); print_message('one'); print_message('two')\n"
        "    with show_activity('comparing y') as inner: inner(1.0)\n"
        "print_message('done')"
    )
    shown = _run_on_terminal(["env", "TERM=xterm", sys.executable, "-c", script], Path.cwd())
    # What a terminal shows: each line break, and each erased line, begins a new one.
    lines = [line.strip() for line in re.sub(r"\x1b\[2K|\r", "\n", shown).split("\n")]
    texts = [line for line in lines if line.startswith(("simsearch", "one", "two", "done"))]
    assert texts == ["simsearch: converting x ...", "one", "two", "simsearch: comparing y ...", "done"]
    assert shown.rstrip().endswith("done")


def test_options_of_a_command_do_not_outlive_it(home: Path, tmp_path: Path):
    """A program may call `main` and then the library, which overwrites what it is told to."""
    assert run("ls", "--jobs", 1, cwd=home).returncode == 2  # has no such option
    shutil.copytree(home / "indexes", tmp_path / "indexes")
    assert run("export", "first.csv", cwd=tmp_path).returncode == 0
    (tmp_path / "mine.csv").write_text("mine")
    with Collection.open(tmp_path / "indexes" / "photos") as collection:
        collection.export(tmp_path / "mine.csv")
    assert find_core_limit() is None
