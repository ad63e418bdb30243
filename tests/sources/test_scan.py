"""Scanning folders, files and lists: found files, their order, and skips."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simsearch.errors import SourceError
from simsearch.sources.scan import LIST_EXTENSIONS, PICTURE_EXTENSIONS, FoundFile, Scan, scan_sources
from tests.conftest import as_bound_user


def write(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def link(path: Path, target: str | Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target)
    except (OSError, NotImplementedError):
        pytest.skip("this system makes no symbolic links")
    return path


def pipe(path: Path) -> Path:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(path)
    return path


def write_raw_name(folder: Path, name: bytes) -> str:
    """Write a file whose name is any bytes; return its path as Python represents it."""
    path = os.path.join(os.fsencode(folder), name)
    try:
        Path(os.fsdecode(path)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system refuses names that are no UTF-8")
    return os.fsdecode(path)


def found(*sources: Path | str, stdin: bytes = b"") -> list[str]:
    return [file.path for file in scan_sources([str(source) for source in sources], stdin).files]


def found_below(folder: Path) -> list[str]:
    return [os.path.relpath(path, folder) for path in found(folder)]


def reasons(found: Scan) -> dict[str, str]:
    assert len({skip.path for skip in found.skips}) == len(found.skips), "a path is reported twice"
    return {skip.path: skip.reason for skip in found.skips}


# Folders


def test_folders_are_walked_in_name_order_with_folders_in_their_place(tmp_path: Path):
    for name in ("c.jpg", "b/z.jpg", "b/a/deep.jpg", "a.jpg", "b.jpg", "B.jpg", "10.jpg", "9.jpg"):
        write(tmp_path / name)
    assert found_below(tmp_path) == [
        "10.jpg", "9.jpg", "B.jpg", "a.jpg", "b/a/deep.jpg", "b/z.jpg", "b.jpg", "c.jpg"
    ]  # fmt: skip


def test_the_order_does_not_depend_on_when_files_were_made(tmp_path: Path):
    names = [f"{letter}.jpg" for letter in "abcdefgh"]
    for number, order in enumerate((names, names[::-1], names[4:] + names[:4])):
        for name in order:
            write(tmp_path / str(number) / name)
        assert found_below(tmp_path / str(number)) == names


def test_every_file_is_found_whatever_its_extension(tmp_path: Path):
    for name in ("picture", "notes.txt", "film.mp4", "shot.JPG", "shot.HEIC", "drawing.svg"):
        write(tmp_path / name)
    files = {Path(file.path).name: file for file in scan_sources([str(tmp_path)]).files}
    assert {name: file.has_picture_extension for name, file in files.items()} == {
        "picture": False,
        "notes.txt": False,
        "film.mp4": False,
        "shot.JPG": True,
        "shot.HEIC": True,
        "drawing.svg": True,
    }


@pytest.mark.parametrize("extension", sorted(PICTURE_EXTENSIONS))
def test_extensions_count_in_any_case(extension: str):
    for spelled in (extension, extension.upper(), extension.title()):
        assert FoundFile(f"/photos/picture{spelled}", 1, 1).has_picture_extension


def test_lists_and_pictures_share_no_extension():
    assert not LIST_EXTENSIONS & PICTURE_EXTENSIONS


def test_size_and_time_are_those_of_the_file(tmp_path: Path):
    path = write(tmp_path / "a.jpg", b"12345")
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    (file,) = scan_sources([str(tmp_path)]).files
    assert (file.size_bytes, file.mtime_ns) == (5, path.stat().st_mtime_ns)


def test_hidden_files_and_folders_are_left_out_silently(tmp_path: Path):
    for name in (".hidden.jpg", "._a.jpg", ".DS_Store", ".hidden/b.jpg", "sub/.thumbs/c.jpg", "sub/._d.jpg"):
        write(tmp_path / name)
    write(tmp_path / "seen.jpg")
    result = scan_sources([str(tmp_path)])
    assert [Path(file.path).name for file in result.files] == ["seen.jpg"]
    assert result.skips == []


def test_a_hidden_folder_that_is_named_is_walked(tmp_path: Path):
    write(tmp_path / ".photos" / "a.jpg")
    assert found_below(tmp_path / ".photos") == ["a.jpg"]


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"])
def test_folders_of_systems_are_left_out_silently(tmp_path: Path, name: str):
    write(tmp_path / "album" / name / "a.jpg")
    write(tmp_path / "album" / "b.jpg")
    result = scan_sources([str(tmp_path)])
    assert [Path(file.path).name for file in result.files] == ["b.jpg"]
    assert result.skips == []


def test_a_tree_deeper_than_pythons_stack_is_walked_to_its_end(tmp_path: Path):
    folders = [f"{tmp_path}{'/d' * depth}" for depth in range(1, min(1500, (4000 - len(str(tmp_path))) // 2))]
    for folder in folders:
        os.mkdir(folder)
    path = write(Path(folders[-1]) / "a.jpg")
    try:
        assert found(tmp_path) == [str(path)]
    finally:  # pytest's own clearing would end at Python's stack
        path.unlink()
        for folder in reversed(folders):
            os.rmdir(folder)


# Names


@pytest.mark.parametrize(
    "name",
    [
        "Äpfel über Öl.jpg",
        "寿司.jpg",
        "e\u0301.jpg",
        "\u202eright to left.jpg",
        "🏺.jpg",
        "new\nline.jpg",
        "a\ttab.jpg",
        " spaces .jpg",
        "-k.jpg",
        "quote'\".jpg",
        "back\\slash.jpg",
        "100%.jpg",
    ],
)
def test_any_name_is_found_as_it_is_written(tmp_path: Path, name: str):
    try:
        write(tmp_path / name)
    except OSError:
        pytest.skip("this file system refuses the name")
    (path,) = found(tmp_path)
    assert os.path.samefile(path, tmp_path / name)
    assert Path(path).read_bytes() == b"x"


def test_names_that_are_not_utf8_can_be_opened(tmp_path: Path):
    paths = [write_raw_name(tmp_path, name) for name in (b"\xff\xfe.jpg", b"caf\xe9.jpg")]
    assert found(tmp_path) == sorted(paths)
    for path in found(tmp_path):
        assert Path(path).read_bytes() == b"x"
        assert scan_sources([str(tmp_path)]).files[0].has_picture_extension


def test_the_longest_names_are_found(tmp_path: Path):
    path = write(tmp_path / ("n" * 251 + ".jpg"))
    assert found(tmp_path) == [str(path)]


# Links


def test_a_loop_of_folder_links_ends(tmp_path: Path):
    write(tmp_path / "a" / "b" / "picture.jpg")
    link(tmp_path / "a" / "b" / "up", tmp_path / "a")
    link(tmp_path / "a" / "b" / "here", ".")
    result = scan_sources([str(tmp_path)])
    assert [os.path.relpath(file.path, tmp_path) for file in result.files] == ["a/b/picture.jpg"]
    assert result.skips == []


def test_two_folders_that_link_to_each_other_are_walked_once(tmp_path: Path):
    write(tmp_path / "a" / "1.jpg")
    write(tmp_path / "b" / "2.jpg")
    link(tmp_path / "a" / "to_b", tmp_path / "b")
    link(tmp_path / "b" / "to_a", tmp_path / "a")
    assert found_below(tmp_path) == ["a/1.jpg", "a/to_b/2.jpg"]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path):
    write(tmp_path / "elsewhere" / "a.jpg")
    link(tmp_path / "photos" / "more", tmp_path / "elsewhere")
    assert found_below(tmp_path / "photos") == ["more/a.jpg"]


def test_a_link_to_a_home_folder_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The home folder is one of the test, so that a scan that follows the link ends."""
    home = tmp_path / "home" / "me"
    write(home / "private.jpg")
    monkeypatch.setenv("HOME", str(home))
    write(tmp_path / "photos" / "a.jpg")
    path = link(tmp_path / "photos" / "x", home)
    result = scan_sources([str(tmp_path / "photos")])
    assert [file.path for file in result.files] == [str(tmp_path / "photos" / "a.jpg")]
    assert "give that folder itself as a source" in reasons(result)[str(path)]
    assert result.is_gone(str(path / "private.jpg"))


def test_with_safe_links_no_link_leads_out_of_its_source(tmp_path: Path):
    write(tmp_path / "elsewhere" / "a.jpg")
    inner = write(tmp_path / "photos" / "b" / "inner.jpg")
    links = [
        link(tmp_path / "photos" / "folder", tmp_path / "elsewhere"),
        link(tmp_path / "photos" / "file.jpg", tmp_path / "elsewhere" / "a.jpg"),
        link(tmp_path / "photos" / "chain.jpg", "file.jpg"),
    ]
    stays = link(tmp_path / "photos" / "stays.jpg", "b/inner.jpg")
    result = scan_sources([str(tmp_path / "photos")], safe_links=True)
    assert [file.path for file in result.files] == [str(inner), str(stays)]
    assert set(reasons(result)) == set(map(str, links))
    assert all("leads out of the source" in reason for reason in reasons(result).values())
    assert len(scan_sources([str(tmp_path / "photos")]).files) == 5


def test_link_to_a_file_is_listed_under_its_own_name(tmp_path: Path):
    target = write(tmp_path / "elsewhere" / "target.jpg", b"12345")
    link(tmp_path / "photos" / "link.jpg", target)
    (file,) = scan_sources([str(tmp_path / "photos")]).files
    assert file.path == str(tmp_path / "photos" / "link.jpg")
    assert file.size_bytes == 5


def test_a_dangling_link_is_reported(tmp_path: Path):
    path = link(tmp_path / "lost.jpg", tmp_path / "nowhere.jpg")
    result = scan_sources([str(tmp_path)])
    assert result.files == []
    assert reasons(result) == {str(path): "broken symbolic link; fix or remove it"}


def test_broken_link_without_a_picture_extension_is_ignored(tmp_path: Path):
    link(tmp_path / "lock", tmp_path / "nowhere")
    result = scan_sources([str(tmp_path)])
    assert (result.files, result.skips) == ([], [])


def test_a_link_to_itself_is_reported(tmp_path: Path):
    path = link(tmp_path / "self.jpg", "self.jpg")
    result = scan_sources([str(tmp_path)])
    assert result.files == []
    assert "; check the path" in reasons(result)[str(path)]


# What is no file, or shut


def test_pipe_named_like_a_picture_is_reported_without_blocking(tmp_path: Path):
    path = pipe(tmp_path / "x.jpg")
    result = scan_sources([str(tmp_path)])
    assert result.files == []
    assert reasons(result) == {str(path): "not a regular file; remove it from the source"}


def test_a_pipe_of_another_name_is_left_out_silently(tmp_path: Path):
    pipe(tmp_path / "control")
    result = scan_sources([str(tmp_path)])
    assert (result.files, result.skips) == ([], [])


def test_a_folder_named_like_a_picture_is_a_folder(tmp_path: Path):
    write(tmp_path / "album.jpg" / "a.jpg")
    assert found_below(tmp_path) == ["album.jpg/a.jpg"]


def test_a_folder_that_cannot_be_listed_is_reported_and_silent(open_folder: Path):
    shut = open_folder / "shut"
    write(shut / "a.jpg")
    write(open_folder / "b.jpg")
    shut.chmod(0)
    try:
        with as_bound_user():
            result = scan_sources([str(open_folder)])
    finally:
        shut.chmod(0o755)
    assert [file.path for file in result.files] == [str(open_folder / "b.jpg")]
    assert reasons(result) == {str(shut): "the folder cannot be listed (Permission denied); check its permissions"}
    assert not result.is_gone(str(shut / "a.jpg"))
    assert result.is_gone(str(open_folder / "c.jpg"))


def test_files_of_a_folder_that_can_only_be_listed_are_reported_and_not_gone(open_folder: Path):
    blind = open_folder / "blind"
    path = write(blind / "a.jpg")
    blind.chmod(0o444)
    try:
        with as_bound_user():
            result = scan_sources([str(open_folder)])
    finally:
        blind.chmod(0o755)
    assert result.files == []
    assert reasons(result) == {str(path): "Permission denied; check the path and its permissions"}
    assert not result.is_gone(str(path))


# Files as sources


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tmp_path: Path):
    paths = [write(tmp_path / name) for name in ("b.jpg", "picture", ".hidden.jpg")]
    assert found(*paths) == [str(path) for path in paths]


def test_sources_come_in_the_order_they_are_named(tmp_path: Path):
    for name in ("one/a.jpg", "two/b.jpg", "c.jpg"):
        write(tmp_path / name)
    assert found(tmp_path / "two", tmp_path / "c.jpg", tmp_path / "one") == [
        str(tmp_path / name) for name in ("two/b.jpg", "c.jpg", "one/a.jpg")
    ]


def test_paths_are_absolute_however_the_source_is_written(tmp_path: Path):
    path = write(tmp_path / "photos" / "a.jpg")
    relative = os.path.relpath(path)
    assert found(relative) == [str(path)]
    assert found(os.path.dirname(relative)) == [str(path)]
    assert found(f"{tmp_path}/photos/") == [str(path)]
    assert found(f"{tmp_path}/photos/../photos/./a.jpg") == [str(path)]


def test_a_file_reached_twice_is_listed_once(tmp_path: Path):
    path = write(tmp_path / "photos" / "a.jpg")
    link(tmp_path / "album", tmp_path / "photos")
    listed = write(tmp_path / "list.txt", os.fsencode(path))
    sources = (path, path, tmp_path / "photos", tmp_path / "album", tmp_path / "album" / "a.jpg", listed, "-")
    assert found(*sources, stdin=os.fsencode(path)) == [str(path)]
    assert found(*reversed(sources), stdin=os.fsencode(path)) == [str(path)]


def test_a_link_to_a_folder_speaks_for_the_folder(tmp_path: Path):
    path = write(tmp_path / "photos" / "a.jpg")
    assert found(link(tmp_path / "album", tmp_path / "photos")) == [str(path)]


@pytest.mark.parametrize("name", ["missing", "missing.jpg", "missing.txt", "a.jpg/b.jpg", "nul\0.jpg", ""])
def test_a_source_that_is_not_there_is_an_error(tmp_path: Path, name: str):
    write(tmp_path / "a.jpg")
    source = str(tmp_path / name) if name else ""
    with pytest.raises(SourceError, match="does not exist; check the path") as caught:
        scan_sources([str(tmp_path / "a.jpg"), source])
    assert caught.value.source == source


def test_a_dangling_link_that_is_named_is_reported(tmp_path: Path):
    path = link(tmp_path / "lost.jpg", tmp_path / "nowhere.jpg")
    assert reasons(scan_sources([str(path)])) == {str(path): "broken symbolic link; fix or remove it"}


def test_no_source_finds_nothing():
    result = scan_sources([])
    assert (result.files, result.skips) == ([], [])


# Lists


@pytest.mark.parametrize(
    ("joined", "end"),
    [(b"\n", b""), (b"\n", b"\n"), (b"\r\n", b"\r\n"), (b"\n\n  \n", b"\n\n"), (b"\0", b""), (b"\0", b"\0")],
    ids=["lines", "last line ends", "CRLF", "blank lines", "NUL", "NUL at the end"],
)
@pytest.mark.parametrize("is_stdin", [True, False], ids=["stdin", "file"])
def test_list_keeps_the_order_of_its_lines(tmp_path: Path, joined: bytes, end: bytes, is_stdin: bool):
    paths = [str(write(tmp_path / name)) for name in ("b.jpg", "ä ö.jpg", "a.jpg")]
    content = joined.join(os.fsencode(path) for path in paths) + end
    result = scan_sources(["-"], content) if is_stdin else scan_sources([str(write(tmp_path / "list.txt", content))])
    assert [file.path for file in result.files] == paths
    assert result.skips == []


@pytest.mark.parametrize("name", ["list.txt", "LIST.TXT", "pictures.lst", "pictures.list"])
def test_lists_are_known_by_their_extension(tmp_path: Path, name: str):
    path = write(tmp_path / "a.jpg")
    assert found(write(tmp_path / name, os.fsencode(path))) == [str(path)]


def test_a_list_within_a_folder_is_a_file_like_others(tmp_path: Path):
    write(tmp_path / "elsewhere" / "a.jpg")
    write(tmp_path / "photos" / "list.txt", os.fsencode(tmp_path / "elsewhere" / "a.jpg"))
    assert found_below(tmp_path / "photos") == ["list.txt"]


def test_an_empty_list_names_nothing(tmp_path: Path):
    result = scan_sources([str(write(tmp_path / "list.txt", b"")), "-"], b"\n\r\n \n")
    assert (result.files, result.skips) == ([], [])


def test_a_list_names_files_whose_names_are_no_utf8(tmp_path: Path):
    path = write_raw_name(tmp_path, b"\xff\xfe.jpg")
    assert found(write(tmp_path / "list.txt", os.fsencode(path) + b"\n")) == [path]


@pytest.mark.parametrize("name", ["new\nline.jpg", "return.jpg\r", " "])
def test_a_list_joined_by_nul_takes_names_as_they_are(tmp_path: Path, name: str):
    paths = [str(write(tmp_path / name)), str(write(tmp_path / "a.jpg"))]
    assert found("-", stdin=b"\0".join(map(os.fsencode, paths))) == paths


def test_relative_paths_in_a_list_start_at_the_current_folder(tmp_path: Path):
    path = write(tmp_path / "photos" / "a.jpg")
    listed = write(tmp_path / "elsewhere" / "list.txt", os.fsencode(os.path.relpath(path)))
    assert found(listed) == [str(path)]


def test_a_missing_entry_is_reported_and_the_others_are_found(tmp_path: Path):
    good, lost = write(tmp_path / "a.jpg"), tmp_path / "lost.jpg"
    within = good / "b.jpg"
    result = scan_sources(["-"], b"\n".join(map(os.fsencode, (lost, good, within))))
    assert [file.path for file in result.files] == [str(good)]
    missing = "no such file; check the path"
    assert reasons(result) == {str(lost): missing, str(within): missing}


def test_an_entry_too_long_for_a_path_is_reported(tmp_path: Path):
    good = write(tmp_path / "a.jpg")
    result = scan_sources(["-"], b"n" * 5000 + b"\n" + os.fsencode(good))
    assert [file.path for file in result.files] == [str(good)]
    assert len(result.skips) == 1


def test_a_folder_in_a_list_is_walked(tmp_path: Path):
    path = write(tmp_path / "photos" / "sub" / "a.jpg")
    assert found("-", stdin=os.fsencode(tmp_path / "photos")) == [str(path)]


def test_a_list_that_cannot_be_read_is_an_error(open_folder: Path):
    path = write(open_folder / "list.txt", b"a.jpg")
    path.chmod(0)
    with as_bound_user(), pytest.raises(SourceError, match=r"cannot be read .*; check its permissions"):
        scan_sources([str(path)])


# What is gone, and what is only out of sight


def test_file_not_found_below_a_listed_folder_is_gone(tmp_path: Path):
    write(tmp_path / "photos" / "a.jpg")
    result = scan_sources([str(tmp_path / "photos")])
    assert result.is_gone(str(tmp_path / "photos" / "b.jpg"))
    assert result.is_gone(str(tmp_path / "photos" / "sub" / "deep" / "b.jpg"))


def test_beside_a_listed_folder_nothing_is_known(tmp_path: Path):
    write(tmp_path / "photos" / "a.jpg")
    result = scan_sources([str(tmp_path / "photos")])
    assert not result.is_gone(str(tmp_path / "b.jpg"))
    assert not result.is_gone(str(tmp_path / "photos2" / "b.jpg"))
    assert not result.is_gone(str(tmp_path / "photos.jpg"))


def test_everything_is_below_the_root():
    assert Scan(folders=["/"]).is_gone("/photos/a.jpg")


def test_a_list_speaks_only_for_its_entries(tmp_path: Path):
    good, lost = write(tmp_path / "a.jpg"), tmp_path / "lost.jpg"
    result = scan_sources(["-"], b"\n".join(map(os.fsencode, (good, lost))))
    assert result.is_gone(str(lost))
    assert not result.is_gone(str(tmp_path / "other.jpg"))


def test_below_a_silent_folder_nothing_is_gone():
    found = Scan(folders=["/photos"], unreachable=["/photos/shut", "/photos/odd.jpg"])
    assert not found.is_gone("/photos/shut/a.jpg")
    assert not found.is_gone("/photos/odd.jpg")
    assert found.is_gone("/photos/shut2/a.jpg")
    assert found.is_gone("/photos/odd.jpg2")


def test_a_pipe_is_not_opened_by_a_scan_in_another_process(tmp_path: Path):
    pipe(tmp_path / "x.jpg")
    pipe(tmp_path / "list.txt")
    code = (
        "import sys; from simsearch.sources.scan import scan_sources; sys.exit(len(scan_sources(sys.argv[1:]).skips))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "list.txt"), str(tmp_path / "x.jpg")],
        timeout=60,
        check=False,
    )
    assert done.returncode == 1


def test_the_reason_for_a_path_that_is_too_long_is_its_length(tmp_path: Path):
    path = f"{tmp_path}{'/x' * 3000}.jpg"
    listed = write(tmp_path / "list.txt", os.fsencode(path))
    assert reasons(scan_sources([str(listed)])) == {path: "File name too long; shorten the path"}
