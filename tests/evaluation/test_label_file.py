"""Labels and lists from files in every form that people have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simsearch.errors import UsageError
from simsearch.evaluation.label_file import read_label_file
from simsearch.evaluation.labels import LabelGroups, RelevanceLists
from tests.evaluation.test_labels import tree

NAMES = ("cats/1.jpg", "cats/2.jpg", "dogs/3.jpg", "dogs/4.jpg")


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    return tree(tmp_path / "photos", *NAMES)


def read(tmp_path: Path, photos: list[str], content: object, name: str = "") -> LabelGroups | RelevanceLists:
    """What a file of that content says: text is CSV, bytes are as they are, all else becomes JSON."""
    if isinstance(content, bytes):
        file = tmp_path / (name or "labels.pkl")
        file.write_bytes(content)
    else:
        file = tmp_path / (name or ("labels.csv" if isinstance(content, str) else "labels.json"))
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_label_file(str(file), photos, str(tmp_path / "photos"))


def labels_of(found: LabelGroups | RelevanceLists, photos: list[str]) -> list[str | None]:
    assert isinstance(found, LabelGroups)
    return [found.labels.get(file) for file in photos]


# Groups


@pytest.mark.parametrize("path", ["path", "file", "Filename", "IMAGE", " name "])
@pytest.mark.parametrize("label", ["label", "Class", "group", "category"])
def test_columns_go_by_their_usual_names(tmp_path: Path, photos: list[str], path: str, label: str):
    rows = "".join(f"x,{name},{name[:3]}\n" for name in NAMES)
    found = read(tmp_path, photos, f"number,{path},{label}\n{rows}")
    assert labels_of(found, photos) == ["cat", "cat", "dog", "dog"]
    assert (found.origin, found.unmatched, found.ambiguous) == ("labels file", (), frozenset())


def test_a_table_as_spreadsheets_save_it_is_read(tmp_path: Path, photos: list[str]):
    found = read(tmp_path, photos, '\ufeffpath,label\r\n"cats/1.jpg","black, white"\r\ncats/2.jpg, café \r\n')
    assert labels_of(found, photos) == ["black, white", "café", None, None]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_cells_are_separated_by_commas_semicolons_or_tabs(delimiter: str, tmp_path: Path, photos: list[str]):
    (tmp_path / "labels.csv").write_text(f"Path{delimiter}label\ncats/1.jpg{delimiter}a\n2.jpg{delimiter}b\n")
    found = read_label_file(str(tmp_path / "labels.csv"), photos, str(tmp_path / "photos"))
    assert isinstance(found, LabelGroups)
    assert sorted(found.labels.values()) == ["a", "b"]


def test_an_empty_or_missing_label_is_none(tmp_path: Path, photos: list[str]):
    found = read(tmp_path, photos, "path,label\ncats/1.jpg,\ncats/2.jpg\ndogs/3.jpg,a\n")
    assert labels_of(found, photos) == [None, None, "a", None]


def test_an_object_names_the_label_of_each_path(tmp_path: Path, photos: list[str]):
    said = {"cats/1.jpg": "a", "cats/2.jpg": 0, "dogs/3.jpg": None}
    assert labels_of(read(tmp_path, photos, said), photos) == ["a", "0", None, None]


def test_an_object_names_the_paths_of_each_label(tmp_path: Path, photos: list[str]):
    said = {"a": ["cats/1.jpg", "dogs/3.jpg"], "b": ["cats/2.jpg"], "none": []}
    assert labels_of(read(tmp_path, photos, said), photos) == ["a", "b", "a", None]


def test_a_list_of_objects_is_read(tmp_path: Path, photos: list[str]):
    said = [{"path": "cats/1.jpg", "label": 0}, {"image": "dogs/3.jpg", "Class": "b", "more": [1]}]
    assert labels_of(read(tmp_path, photos, said), photos) == ["0", None, "b", None]


def test_paths_may_be_whole_or_relative_to_the_source_or_the_file_or_bare(tmp_path: Path, photos: list[str]):
    (tmp_path / "photos" / "sub").mkdir()
    said = {photos[0]: "whole", "cats/../cats/2.jpg": "source", "../../photos/dogs/3.jpg": "file", "4": "bare"}
    file = tmp_path / "photos" / "sub" / "labels.json"
    file.write_text(json.dumps({key.replace("../../photos", ".."): label for key, label in said.items()}))
    found = read_label_file(str(file), photos, str(tmp_path / "photos"))
    assert labels_of(found, photos) == ["whole", "source", "file", "bare"]


def test_a_bare_name_is_found_with_and_without_its_extension(tmp_path: Path, photos: list[str]):
    assert labels_of(read(tmp_path, photos, {"1": "a", "3.jpg": "b"}), photos) == ["a", None, "b", None]


def test_a_bare_name_that_several_files_have_means_none_of_them(tmp_path: Path):
    photos = tree(tmp_path / "photos", "a/1.jpg", "b/1.jpg", "a/2.jpg", "a/2.png", "b/3.png")
    found = read(tmp_path, photos, {"1.jpg": "x", "2": "y", "2.png": "z", "3": "z"})
    assert labels_of(found, photos) == [None, None, None, "z", "z"]
    assert found.unmatched == ("1.jpg", "2")


def test_a_table_from_windows_is_read(tmp_path: Path, photos: list[str]):
    assert labels_of(read(tmp_path, photos, {"cats\\1.jpg": "a", "dogs\\4.jpg": "b"}), photos)[::3] == ["a", "b"]


def test_names_that_match_nothing_are_kept_each_once(tmp_path: Path, photos: list[str]):
    found = read(tmp_path, photos, "path,label\ncats/1.jpg,a\ngone.jpg,a\ncats/9.jpg,b\ngone.jpg,b\n")
    assert labels_of(found, photos) == ["a", None, None, None]
    assert found.unmatched == ("gone.jpg", "cats/9.jpg")


def test_a_picture_under_several_labels_is_torn_and_under_one_label_twice_is_not(tmp_path: Path, photos: list[str]):
    found = read(tmp_path, photos, {"a": ["cats/1.jpg", "cats/2.jpg", "2.jpg"], "b": ["cats/1.jpg", "dogs/3.jpg"]})
    assert labels_of(found, photos) == [None, "a", "b", None]
    assert found.ambiguous == {photos[0]}


# Lists


def test_queries_come_with_positives_junk_and_a_box(tmp_path: Path, photos: list[str]):
    said = [
        {"query": "cats/1.jpg", "positives": ["cats/2.jpg"], "junk": ["dogs/3.jpg"], "box": [1, 2.5, 30, 40]},
        {"query": "3", "positives": ["4", "gone"], "junk": None},
        {"query": "lost.jpg", "positives": ["cats/1.jpg", "gone2"]},
    ]
    found = read(tmp_path, photos, said)
    assert isinstance(found, RelevanceLists)
    assert (found.is_graded, found.database, found.origin) == (False, None, "lists of positives")
    first, second = found.queries
    assert (first.path, first.easy, first.hard, first.junk) == (photos[0], {photos[1]}, frozenset(), {photos[2]})
    assert first.box == (1, 2.5, 30, 40)
    assert (second.path, second.easy, second.junk, second.box) == (photos[2], {photos[3]}, frozenset(), None)
    counts = {exclusion.rule: (exclusion.count, exclusion.examples) for exclusion in found.exclusions}
    assert counts == {
        "queries in the lists that match no image are left out": (1, ("lost.jpg",)),
        "answers in the lists that match no image are ignored": (1, ("gone",)),
    }


def revisited() -> dict:
    """Two queries over three images, as the published files have them: answers are numbers of `imlist`."""
    truths = [
        {"bbx": [1.0, 2.0, 30.0, 40.0], "easy": [0], "hard": [2], "junk": [1]},
        {"bbx": [0.0, 0.0, 9.0, 9.0], "easy": [], "hard": [1], "junk": [0, 2]},
    ]
    return {"imlist": ["1", "2", "3"], "qimlist": ["4", "gone"], "gnd": truths}


def check_revisited(found: LabelGroups | RelevanceLists, photos: list[str]) -> None:
    assert isinstance(found, RelevanceLists)
    assert (found.is_graded, found.database) == (True, set(photos[:3]))
    (query,) = found.queries
    assert (query.path, query.easy, query.hard, query.junk) == (photos[3], {photos[0]}, {photos[2]}, {photos[1]})
    assert query.box == (1, 2, 30, 40)
    assert [(exclusion.count, exclusion.examples) for exclusion in found.exclusions] == [(1, ("gone",))]


def test_the_revisited_form_is_read_from_json(tmp_path: Path, photos: list[str]):
    check_revisited(read(tmp_path, photos, revisited()), photos)


@pytest.mark.parametrize("name", ["gnd_roxford5k.pkl", "labels.PICKLE"])
def test_a_pickle_is_refused_unread_and_the_converter_is_named(tmp_path: Path, photos: list[str], name: str):
    with pytest.raises(UsageError, match=r"is a pickle, .*; convert a revisited .* with bench/convert_revisited\.py"):
        read(tmp_path, photos, b"no pickle", name)


# What says nothing


def _broken(**changes: object) -> dict:
    return revisited() | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "path,kind\ncats/1.jpg,a\n",
            "the labels have no column label; the columns are path, kind; name a column label or class",
        ),
        ("a,label\ncats/1.jpg,a\n", "the labels have no column path; the columns are a, label"),
        ("path,label\n", "contains no labels in a supported form"),
        ("", "contains no labels in a supported form"),
        ([], "contains no labels in a supported form"),
        ({}, "contains no labels in a supported form"),
        (["cats/1.jpg"], "contains no labels in a supported form"),
        (3, "contains no labels in a supported form"),
        ({"cats/1.jpg": {"label": "a"}}, "the value of 'cats/1.jpg' is neither a label nor a list of paths"),
        ({"gone.jpg": "a", "lost.jpg": "a"}, "names no image in .*photos; it names, for example, gone.jpg"),
        ({"cats/1.jpg": None}, "names no image in .*; it contains no names"),
        ([{"query": "gone", "positives": ["1"]}], "names no image in .*; it names, for example, gone"),
        ([{"query": "1"}], "a query without a list of positives; write"),
        ([{"query": "1", "positives": "2"}], "a query without a list of positives"),
        ([{"query": "1", "positives": [2]}], "a query without a list of positives"),
        ([{"query": "1", "positives": ["2"], "junk": "3"}], "a query without a list of positives"),
        ([{"query": "1", "positives": ["2"]}, {"path": "3"}], "a query without a list of positives"),
        ([{"query": "1", "positives": ["2"], "box": [1, 2, 3]}], r"has an invalid box \[1, 2, 3\]; give left, top"),
        ([{"query": "1", "positives": ["2"], "box": "wide"}], "has an invalid box 'wide'"),
        ([{"query": "1", "positives": ["2"], "box": [float("inf"), 2, 3, 4]}], r"has an invalid box \[inf, 2, 3, 4\]"),
        ([{"query": "1", "positives": ["2"], "box": [10**400, 2, 3, 4]}], r"has an invalid box \[10"),
        (_broken(gnd=[{"easy": [float("inf")], "hard": [], "junk": []}] * 2), "is not in the revisited"),
        (_broken(qimlist=["4"]), "is not in the revisited Oxford and Paris form"),
        (_broken(gnd=[{"ok": [0], "junk": []}] * 2), "is not in the revisited Oxford and Paris form .*easy"),
        (_broken(gnd=[{"easy": [9], "hard": [], "junk": []}] * 2), "is not in the revisited Oxford and Paris form"),
        (
            _broken(gnd=[{"easy": [-1], "hard": [], "junk": []}] * 2),
            "is not in the revisited Oxford and Paris form .*no image -1",
        ),
        (_broken(gnd=[3, 4]), "is not in the revisited Oxford and Paris form"),
        (_broken(imlist=3), "is not in the revisited Oxford and Paris form"),
    ],
)
def test_a_file_that_says_nothing_useful_is_refused_with_what_it_says(tmp_path: Path, photos, content, message: str):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, photos, content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", '{"cats/1.jpg": "a"'),
        ("labels.json", "[" * 100_000),
        ("labels.csv", b"path,label\ncaf\xe9.jpg,a\n"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, photos: list[str], name: str, content: str | bytes):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=r"cannot be read .*; the file must be CSV or JSON"):
        read_label_file(str(tmp_path / name), photos, str(tmp_path / "photos"))


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.json", "nowhere.pkl", "photos"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, photos: list[str], name: str):
    with pytest.raises(UsageError, match=r"cannot be read .*; check the path of --labels"):
        read_label_file(str(tmp_path / name), photos, str(tmp_path / "photos"))
