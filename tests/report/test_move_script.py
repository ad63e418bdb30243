"""The script that moves copies: run by the shells of this machine, on names that hurt."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from simsearch.duplicates.options import DuplicateOptions
from simsearch.duplicates.results import Action, DuplicateGroup, DuplicateReport, GroupMember, MemberFile
from simsearch.report.move_script import build_move_script

SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]
pytestmark = pytest.mark.skipif(os.name != "posix" or not SHELLS, reason="there is no POSIX shell")

ODD_NAMES = [
    "-rf.jpg", "--", "two  spaces .jpg", "it's.jpg", '"quoted".jpg', "new\nline.jpg", "ends\n", "$(touch hacked).jpg",
    "`touch hacked`.jpg", "back\\slash\\", "*?[a].jpg", "~", "#.jpg", "a;touch hacked;.jpg", "tab\t.jpg", "é雪🙂.jpg",
    "%s%n.jpg", "!!.jpg", "\x01\x7f.jpg", os.fsdecode(bytes(range(0x80, 0x100)) + b".jpg"),
    os.fsdecode(b"\x81'\x88\xff"),
]  # fmt: skip


def report_of(*groups: DuplicateGroup) -> DuplicateReport:
    return DuplicateReport(DuplicateOptions(), groups, None, 9, (), {})


def member(image_id: int, *files: tuple[object, Action]) -> GroupMember:
    return GroupMember(image_id, tuple(MemberFile(str(path), action, "") for path, action in files), 4, 4, 3, 1.0)


def run_script(
    shell: str, report: DuplicateReport, folder: Path, *arguments: object
) -> subprocess.CompletedProcess[bytes]:
    script = folder / "move it.sh"
    script.write_bytes(build_move_script(report))
    words = [shell, *(["sh"] if shell == "busybox" else []), script, *map(str, arguments)]
    return subprocess.run(words, cwd=folder, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("shell", SHELLS)
def test_odd_names_are_moved_with_their_whole_path(tmp_path: Path, shell: str):
    photos = tmp_path / "my 'photos'\n"
    photos.mkdir()
    groups = []
    for number, name in enumerate(ODD_NAMES):
        kept, copy = photos / f"kept {number}", photos / name
        kept.write_text(f"content {number}")
        copy.write_text(f"content {number}")
        groups.append(DuplicateGroup("exact", (member(number, (kept, "keep"), (copy, "remove")),)))
    done = run_script(shell, report_of(*groups), tmp_path, "-to go")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"%d files moved, 0 left where they are\n" % len(ODD_NAMES)
    moved = Path(f"{tmp_path / '-to go'}{photos}")
    assert sorted(os.listdir(moved)) == sorted(ODD_NAMES)
    assert [(moved / name).read_text() for name in ODD_NAMES] == [f"content {n}" for n in range(len(ODD_NAMES))]
    assert sorted(os.listdir(photos)) == sorted(f"kept {n}" for n in range(len(ODD_NAMES)))
    assert sorted(os.listdir(tmp_path)) == sorted(["-to go", "move it.sh", photos.name])  # nothing was run


@pytest.mark.parametrize("shell", SHELLS)
def test_a_file_stays_where_something_has_changed_since(tmp_path: Path, shell: str):
    for name in ("kept", "changed", "linked", "gone", "there"):
        (tmp_path / name).write_text("same")
    (tmp_path / "changed").write_text("another picture now")
    (tmp_path / "linked").unlink()
    (tmp_path / "linked").symlink_to("kept")
    (tmp_path / "gone").unlink()
    (tmp_path / "hard").hardlink_to(tmp_path / "kept")
    (tmp_path / "empty").write_text("")
    (tmp_path / "edit").write_text("edit")
    already = Path(f"{tmp_path / 'to'}{tmp_path}") / "there"
    already.parent.mkdir(parents=True)
    already.write_text("earlier")
    copies = ("changed", "linked", "gone", "hard", "there")
    report = report_of(
        DuplicateGroup(
            "exact", (member(1, (tmp_path / "kept", "keep"), *((tmp_path / name, "remove") for name in copies)),)
        ),
        DuplicateGroup("near", (member(2, (tmp_path / "empty", "keep")), member(3, (tmp_path / "edit", "remove")))),
    )
    done = run_script(shell, report, tmp_path, tmp_path / "to")
    assert (done.returncode, done.stdout) == (1, b"0 files moved, 6 left where they are\n")
    assert done.stderr.count(b"not moved, ") == 6
    assert already.read_text() == "earlier"
    assert all((tmp_path / name).exists() for name in ("kept", "changed", "linked", "hard", "there", "empty", "edit"))


@pytest.mark.parametrize("shell", SHELLS)
def test_an_edit_is_moved_though_its_bytes_differ(tmp_path: Path, shell: str):
    (tmp_path / "kept").write_text("original")
    (tmp_path / "edit").write_text("edit")
    near = DuplicateGroup("near", (member(1, (tmp_path / "kept", "keep")), member(2, (tmp_path / "edit", "remove"))))
    done = run_script(shell, report_of(near), tmp_path, tmp_path / "to")
    assert (done.returncode, done.stdout) == (0, b"1 files moved, 0 left where they are\n")
    assert not (tmp_path / "edit").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_without_a_folder_the_script_tells_its_usage_and_moves_nothing(tmp_path: Path, shell: str):
    for name in ("kept", "copy"):
        (tmp_path / name).write_text("same")
    exact = DuplicateGroup("exact", (member(1, (tmp_path / "kept", "keep"), (tmp_path / "copy", "remove")),))
    for arguments in ((), ("",), ("a", "b")):
        done = run_script(shell, report_of(exact), tmp_path, *arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"usage: sh " in done.stderr
    assert (tmp_path / "copy").exists()


def test_remote_files_are_not_in_the_script():
    exact = DuplicateGroup("exact", (member(1, ("s3://b/kept.jpg", "keep"), ("s3://b/copy.jpg", "remove")),))
    assert b"s3://" not in build_move_script(report_of(exact))
