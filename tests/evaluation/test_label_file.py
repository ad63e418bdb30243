"""Labels and lists from files in every form that people have."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsearch.errors import UsageError
from simsearch.evaluation.label_file import read_label_file
from simsearch.evaluation.labels import LabelGroups, RelevanceLists
from tests.evaluation.test_labels import tree

NAMES = ("cats/1.jpg", "cats/2.jpg", "dogs/3.jpg", "dogs/4.jpg")


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    return tree(tmp_path / "photos", *NAMES)


def read(tmp_path: Path, photos: list[str], content: object, name: str = "") -> LabelGroups | RelevanceLists:
    """What a file of that content says: text is CSV, bytes are a pickle, all else becomes JSON."""
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
        "a query in the lists that matches no picture is left out": (1, ("lost.jpg",)),
        "an answer in the lists that matches no picture takes no part": (1, ("gone",)),
    }


def revisited(array: type = list) -> dict:
    """Two queries over three images, as the published files have them: answers are numbers of `imlist`."""
    truths = [
        {"bbx": [1.0, 2.0, 30.0, 40.0], "easy": array([0]), "hard": array([2]), "junk": array([1])},
        {"bbx": [0.0, 0.0, 9.0, 9.0], "easy": array([], int) if array is not list else [], "hard": array([1])}
        | {"junk": array([0, 2])},
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


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_revisited_form_is_read_from_pickles_with_arrays(tmp_path: Path, photos: list[str], protocol: int):
    content = revisited(np.array)
    content["gnd"][0]["bbx"] = list(np.array(content["gnd"][0]["bbx"]))  # NumPy's numbers in a plain list
    check_revisited(read(tmp_path, photos, pickle.dumps(content, protocol)), photos)


def test_a_pickle_of_an_older_numpy_is_read(tmp_path: Path, photos: list[str]):
    """NumPy 1 wrote its insides under `numpy.core`."""
    written = pickle.dumps(revisited(np.array), 2)
    assert b"numpy._core.multiarray" in written
    check_revisited(
        read(tmp_path, photos, written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")), photos
    )


class _Evil:
    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self._place),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path, photos: list[str]):
    content = revisited(np.array) | {"more": _Evil(tmp_path / "run")}
    with pytest.raises(UsageError, match=r"cannot be read \(it holds a posix\.mkdir\)"):
        read(tmp_path, photos, pickle.dumps(content))
    assert not (tmp_path / "run").exists()
    pickle.loads(pickle.dumps(content))  # it would have
    assert (tmp_path / "run").exists()


@given(st.binary(max_size=60))
def test_no_bytes_that_call_themselves_a_pickle_get_further_than_a_clear_error(tmp_path_factory, content: bytes):
    file = tmp_path_factory.getbasetemp() / "fuzzed.pkl"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="fuzzed"):
        read_label_file(str(file), ["/photos/a.jpg"], "/photos")


# What says nothing


def _broken(**changes: object) -> dict:
    return revisited() | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,kind\ncats/1.jpg,a\n", "the labels have no label: there are path, kind; name a column label or class"),
        ("a,label\ncats/1.jpg,a\n", "the labels have no path: there are a, label"),
        ("path,label\n", "says nothing about labels"),
        ("", "says nothing about labels"),
        ([], "says nothing about labels"),
        ({}, "says nothing about labels"),
        (["cats/1.jpg"], "says nothing about labels"),
        (3, "says nothing about labels"),
        ({"cats/1.jpg": {"label": "a"}}, "says of 'cats/1.jpg' neither a label nor paths"),
        ({"gone.jpg": "a", "lost.jpg": "a"}, "names no picture in .*photos; it names, for example, gone.jpg"),
        ({"cats/1.jpg": None}, "names no picture in .*; it names none at all"),
        ([{"query": "gone", "positives": ["1"]}], "names no picture in .*; it names, for example, gone"),
        ([{"query": "1"}], "a query without its positives; give each"),
        ([{"query": "1", "positives": "2"}], "a query without its positives"),
        ([{"query": "1", "positives": [2]}], "a query without its positives"),
        ([{"query": "1", "positives": ["2"], "junk": "3"}], "a query without its positives"),
        ([{"query": "1", "positives": ["2"]}, {"path": "3"}], "a query without its positives"),
        ([{"query": "1", "positives": ["2"], "box": [1, 2, 3]}], r"has a box \[1, 2, 3\]; give left, top"),
        ([{"query": "1", "positives": ["2"], "box": "wide"}], "has a box 'wide'"),
        (_broken(qimlist=["4"]), "is not in the revisited form"),
        (_broken(gnd=[{"ok": [0], "junk": []}] * 2), "is not in the revisited form .*easy"),
        (_broken(gnd=[{"easy": [9], "hard": [], "junk": []}] * 2), "is not in the revisited form"),
        (_broken(gnd=[{"easy": [-1], "hard": [], "junk": []}] * 2), "is not in the revisited form .*no image -1"),
        (_broken(gnd=[3, 4]), "is not in the revisited form"),
        (_broken(imlist=3), "is not in the revisited form"),
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
        ("labels.pkl", b""),
        ("labels.pickle", b"no pickle"),
        ("labels.pkl", pickle.dumps(list(range(99)))[:20]),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, photos: list[str], name: str, content: str | bytes):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=r"cannot be read .*; it must be CSV, JSON, or a revisited pickle"):
        read_label_file(str(tmp_path / name), photos, str(tmp_path / "photos"))


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.json", "nowhere.pkl", "photos"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, photos: list[str], name: str):
    with pytest.raises(UsageError, match=r"cannot be read .*; check the path of --labels"):
        read_label_file(str(tmp_path / name), photos, str(tmp_path / "photos"))
