"""Labels from folders, names and order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simsearch.errors import UsageError
from simsearch.evaluation.labels import group_by_folder, group_by_fours, group_by_pattern


def tree(root: Path, *names: str) -> list[str]:
    """Files at those places below `root`; a name that ends in / is an empty folder."""
    for name in names:
        if name.endswith("/"):
            (root / name).mkdir(parents=True)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    return [str(root / name) for name in names if not name.endswith("/")]


# Folders


def test_the_first_folder_below_the_source_is_the_label(tmp_path: Path):
    files = tree(tmp_path, "cats/1.jpg", "cats/old/2.jpg", "cats/old/er/3.jpg", "dogs/1.jpg")
    groups = group_by_folder(files, str(tmp_path))
    assert [groups.labels[file] for file in files] == ["cats", "cats", "cats", "dogs"]
    assert (groups.origin, groups.exclusions, groups.unmatched, groups.ambiguous) == ("folder", (), (), frozenset())


def test_a_file_directly_in_the_source_has_no_label(tmp_path: Path):
    files = tree(tmp_path, "1.jpg", "cats/1.jpg")
    assert group_by_folder(files, str(tmp_path)).labels == {files[1]: "cats"}


def test_folders_without_a_picture_are_reported_and_hidden_ones_are_none(tmp_path: Path):
    files = tree(tmp_path, "cats/1.jpg", "empty/", "bare/deep/", ".hidden/", "notes.txt")
    (exclusion,) = group_by_folder(files[:1], str(tmp_path)).exclusions
    assert exclusion.rule == "class folders without an image are ignored"
    assert (exclusion.count, exclusion.examples) == (2, ("bare", "empty"))


def test_of_many_empty_folders_all_are_counted_and_some_named(tmp_path: Path):
    tree(tmp_path, *(f"empty{number}/" for number in range(9)))
    (exclusion,) = group_by_folder(tree(tmp_path, "cats/1.jpg"), str(tmp_path)).exclusions
    assert (exclusion.count, len(exclusion.examples)) == (9, 5)


def test_a_source_named_through_a_link_or_from_beside_it_has_the_same_labels(tmp_path: Path, monkeypatch):
    files = tree(tmp_path / "photos", "cats/1.jpg", "dogs/1.jpg")
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path)
    for source in ("photos", "photos/", "link", "./photos/../photos"):
        assert list(group_by_folder(files, source).labels.values()) == ["cats", "dogs"]


def test_files_of_a_list_are_labelled_below_the_folder_that_holds_them_all(tmp_path: Path):
    files = tree(tmp_path, "photos/cats/1.jpg", "photos/dogs/1.jpg", "photos/other/1.jpg")
    groups = group_by_folder(files[:2], str(tmp_path / "list.txt"))
    assert list(groups.labels.values()) == ["cats", "dogs"]
    assert groups.exclusions == ()


# Names


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        (r"(\d+)-(?P<label>[a-z]+)", ["cat", "dog", "cat"]),  # the named group, wherever it stands
        (r"(\d)\d-([a-z]+)", ["0", "0", "1"]),  # the first group
        (r"[a-z]+(?=\.jpg)", ["cat", "dog", "cat"]),  # all of it
        (r"^(a)?", ["a", "a", None]),  # a group that takes no part says nothing
        (r"^[ab]/", ["a/", "a/", "b/"]),  # the path below the source, with slashes
    ],
)
def test_what_an_expression_finds_is_the_label(tmp_path: Path, pattern: str, labels: list[str]):
    files = tree(tmp_path, "a/01-cat.jpg", "a/02-dog.jpg", "b/13-cat.jpg")
    groups = group_by_pattern(files, str(tmp_path), pattern)
    assert [groups.labels.get(file) for file in files] == labels
    assert groups.origin == f"regular expression {pattern}"


def test_files_in_which_an_expression_finds_nothing_have_no_label(tmp_path: Path):
    files = tree(tmp_path, "cat_1.jpg", "readme.jpg")
    assert group_by_pattern(files, str(tmp_path), r"^(\w+)_\d").labels == {files[0]: "cat"}


def test_an_expression_is_not_asked_of_folders_above_the_source(tmp_path: Path):
    files = tree(tmp_path / "cat", "1.jpg")
    with pytest.raises(UsageError, match=r"matches no file name, such as 1\.jpg; correct"):
        group_by_pattern(files, str(tmp_path / "cat"), "cat")


@pytest.mark.parametrize("pattern", ["(", "[a", "(?P<label>a)(?P<label>b)"])
def test_what_is_no_expression_is_refused(pattern: str):
    with pytest.raises(UsageError, match="not a valid regular expression"):
        group_by_pattern(["/photos/a.jpg"], "/photos", pattern)


def test_an_expression_that_finds_nothing_but_emptiness_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="matches no file name"):
        group_by_pattern(tree(tmp_path, "a.jpg"), str(tmp_path), "x*")


# Order


def test_every_four_names_are_one_object_and_the_rest_has_no_label(tmp_path: Path):
    files = tree(tmp_path, *(f"ukbench{number:05}.jpg" for number in range(10)))
    labels = group_by_fours(files[::-1]).labels
    assert [labels.get(file) for file in files] == ["object 1"] * 4 + ["object 2"] * 4 + [None] * 2


def test_a_path_that_is_no_utf8_is_labelled_like_any_other(tmp_path: Path):
    name = os.fsdecode(b"caf\xe9/1.jpg")
    assert group_by_folder([str(tmp_path / name)], str(tmp_path)).labels == {
        str(tmp_path / name): os.fsdecode(b"caf\xe9")
    }
