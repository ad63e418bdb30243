"""Standard streams that are closed, full or of another encoding, and names with characters that a terminal obeys."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import HISTOGRAM, ROOT, draw_picture
from tests.support import oneshot
from tests.support.command_line import run

pytestmark = pytest.mark.long

CONTROLS = "\x1b]0;title\x07\x1b[31m\r\x9b2J\u202e"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with two pictures and their collection; one name has control characters, one is not ASCII."""
    draw_picture(tmp_path / "photos" / f"a{CONTROLS}" / "1.png", 1)
    draw_picture(tmp_path / "photos" / "ä" / "猫.png", 2)
    (tmp_path / "photos" / f"bad{CONTROLS}.jpg").write_bytes(b"no picture")
    oneshot.ingest(tmp_path / "ix", [tmp_path / "photos"], HISTOGRAM)
    return tmp_path


def shell(words: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a shell command in which S is simsearch."""
    script = f'S() {{ "{sys.executable}" -m simsearch "$@"; }}; {words}'
    return subprocess.run(
        ["sh", "-c", script], cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(env or {}), capture_output=True
    )


@pytest.mark.parametrize(
    "words",
    [
        ["info"],
        ["query", "--id", "1"],
        ["query", "photos", "--each"],
        ["query", f"photos/a{CONTROLS}/1.png"],
        ["query", f"photos/a{CONTROLS}/none.png"],
        ["query", f"photos/bad{CONTROLS}.jpg"],
        ["duplicates"],
        ["clusters", "-k", "2"],
        ["index", "photos", "--into", f"ix{CONTROLS}", "--backbone", "histogram"],
        ["index", f"none{CONTROLS}"],
        ["remove", f"none{CONTROLS}"],
        ["verify"],
    ],
    ids=lambda words: " ".join(words)[:30].replace("\x1b", "ESC"),
)
def test_no_control_character_of_a_name_reaches_the_terminal(home: Path, words: list[str]):
    (home / "photos" / "ä" / "猫.png").unlink()
    done = run(*words, cwd=home, env={"SIMSEARCH_INDEX": "ix"})
    printed = done.stdout + done.stderr
    assert printed
    assert not set(printed) & set(
        CONTROLS.replace("0;title", "").replace("[31m", "").replace("]", "").replace("2J", "")
    )


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_a_service_with_closed_streams_indexes(tmp_path: Path, closed: str):
    draw_picture(tmp_path / "photos" / "1.png", 1)
    done = shell(f"S index photos --into ix --backbone histogram {closed}", tmp_path)
    assert (done.returncode, (tmp_path / "ix" / "catalog.db").is_file()) == (0, True)


def test_an_error_goes_nowhere_else_if_stderr_is_closed(home: Path):
    done = shell("S info --in nowhere 2>&-", home)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_picture_from_closed_stdin_is_an_error(home: Path):
    done = shell("S query - --in ix 0<&-", home)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"simsearch: cannot read -")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", ["info --json", "query --id 1"])
def test_stdout_that_is_full_is_named(home: Path, words: str):
    done = shell(f"S {words} --in ix >/dev/full", home)
    assert done.returncode == 1
    text = b"simsearch: stdout cannot be written to (No space left on device); redirect it to another file or device\n"
    assert done.stderr == text


def test_a_deleted_current_folder_is_named(home: Path):
    words = f"mkdir {home}/gone; cd {home}/gone; rmdir {home}/gone"
    done = shell(f"{words}; S index photos --backbone histogram", home)
    assert done.returncode == 1
    assert done.stderr == b"simsearch: the current folder was deleted; change to another folder\n"
    assert shell(f"{words}; S query --id 1 --in {home}/ix", home).returncode == 0


@pytest.mark.parametrize("words", ["query photos --each", "index photos --into ix"])
def test_any_name_is_read_and_printed_in_a_locale_without_it(home: Path, words: str):
    settings = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "SIMSEARCH_INDEX": "ix"}
    done = shell(f"S {words}", home, settings)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert b"gone" not in done.stdout
    assert b"missing" not in shell("S verify", home, settings).stdout
