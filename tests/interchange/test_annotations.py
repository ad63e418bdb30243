"""Columns of the user's own: read from tables, noted beside images, asked about at once."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from simsearch import Collection
from simsearch.errors import CollectionNotFound, SourceError, UsageError
from tests.conftest import HISTOGRAM
from tests.support import oneshot


@pytest.fixture
def indexed(photos: Path, collection: Path) -> Path:
    oneshot.ingest(collection, [photos], HISTOGRAM)
    return collection


def noted(collection: Path) -> dict[tuple[int, str], object]:
    with sqlite3.connect(collection / "catalog.db") as connection:
        rows = connection.execute("SELECT image_id, name, value FROM annotations").fetchall()
    connection.close()
    return {(image_id, name): value for image_id, name, value in rows}


def table(folder: Path, text: str, name: str = "table.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def found(collection: Path, where: str) -> set[int]:
    with Collection.open(collection) as opened:
        return {hit.image_id for hit in opened.search(1, k=None, where=where).hits}


@pytest.mark.parametrize(("delimiter", "number"), [(",", "12.5"), (";", "12,5"), ("\t", "12.5")])
def test_cells_are_separated_by_commas_semicolons_or_tabs(delimiter: str, number: str, indexed: Path, photos: Path):
    """A spreadsheet writes semicolons, and decimal commas, where the comma is the decimal sign."""
    path = min(photos.rglob("*.png"))
    rows = [
        ["name", "path", "price", "note"],
        ["A1", str(path), number, "red; not blue" if delimiter == "," else "red"],
    ]
    text = "\ufeff" + "".join(delimiter.join(row) + "\r\n" for row in rows)
    text = text.replace("name", "sku", 1)
    assert oneshot.annotate(indexed, table(photos, text)).columns == ("sku", "price", "note")
    assert noted(indexed)[1, "price"] == 12.5


def test_values_of_a_csv_are_noted_as_what_they_are(indexed: Path, photos: Path):
    rows = ["20", "2.5", "-3", "0", "007", "1e3", "1.5e3", "true", "FALSE", "99999999999999999999", "blue", "-0.25"]
    values = [20, 2.5, -3, 0, "007", "1e3", 1500.0, 1, 0, "99999999999999999999", "blue", -0.25]
    paths = sorted(photos.rglob("*.png"))
    text = "path,price\n" + "".join(f"{path},{value}\n" for path, value in zip(paths, rows, strict=True))
    result = oneshot.annotate(indexed, table(photos, text))
    assert (result.n_values, result.n_images, result.columns, result.unknown) == (12, 12, ("price",), ())
    assert noted(indexed) == {(number, "price"): value for number, value in enumerate(values, start=1)}


def test_filters_see_them_at_once_even_in_an_open_collection(indexed: Path, photos: Path):
    with Collection.open(indexed) as opened:
        with pytest.raises(UsageError, match=r"no user columns; add some with `Collection\.annotate"):
            opened.search(1, where="price < 20")
        oneshot.annotate(indexed, table(photos, "image_id,price,colour\n3,10,blue\n4,30,\n5,,red\n"))
        assert [hit.image_id for hit in opened.search(1, where="price < 20").hits] == [3]
        assert opened.info().to_dict()["columns"] == {"colour": 2, "price": 2}
    assert found(indexed, "price >= 10") == {3, 4}
    assert found(indexed, "colour is missing and price is present") == {4}
    assert found(indexed, "colour in (red, blue)") == {3, 5}


def test_empty_cells_say_nothing_and_later_values_replace_earlier_ones(indexed: Path, photos: Path):
    oneshot.annotate(indexed, table(photos, "image_id,price\n3,10\n4,20\n"))
    oneshot.annotate(indexed, table(photos, "image_id,price\n3,\n4,25\n4,26\n"))
    assert noted(indexed) == {(3, "price"): 10, (4, "price"): 26}


@pytest.mark.parametrize("whole", [True, False], ids=["list", "by path"])
def test_json_is_read_as_it_is(indexed: Path, photos: Path, whole: bool):
    values = {"n": 3, "x": 0.5, "yes": True, "no": False, "text": "3", "none": None, "empty": "", "large": 2**70}
    path = str(photos / "a" / "picture_01.png")
    document = [values | {"path": path}] if whole else {path: values}
    oneshot.annotate(indexed, table(photos, json.dumps(document), "table.json"))
    assert noted(indexed) == {
        (2, "n"): 3, (2, "x"): 0.5, (2, "yes"): 1, (2, "no"): 0, (2, "text"): "3", (2, "large"): float(2**70),
    }  # fmt: skip


def test_paths_are_from_here_or_from_the_table(indexed: Path, photos: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(photos / "b")
    text = "path,n\npicture_07.png,1\na/picture_02.png,2\n../a/picture_03.png,3\nnowhere.png,4\n"
    result = oneshot.annotate(indexed, table(photos, "\ufeff" + text))
    assert noted(indexed) == {(8, "n"): 1, (3, "n"): 2, (4, "n"): 3}
    assert result.unknown == ("nowhere.png",)


def test_a_path_that_is_no_utf8_is_found(indexed: Path, photos: Path):
    name = os.fsencode(photos) + b"/caf\xe9.png"
    try:
        os.rename(photos / "a" / "picture_00.png", name)
    except OSError as error:
        pytest.skip(f"this file system refuses such names: {error}")
    oneshot.ingest(indexed, [photos], HISTOGRAM)
    (photos / "table.csv").write_bytes(b"path,n\n" + name + b",1\n")
    oneshot.annotate(indexed, photos / "table.csv")
    assert noted(indexed) == {(1, "n"): 1}


def test_names_of_columns_may_be_anything(indexed: Path, photos: Path):
    oneshot.annotate(indexed, table(photos, 'image_id,"odd, name",between\n3,1,2\n'))
    assert found(indexed, '"odd, name" = 1 and "between" = 2 and width = 48') == {3}


def test_columns_go_when_they_are_cleared_and_with_their_images(indexed: Path, photos: Path):
    oneshot.annotate(indexed, table(photos, "image_id,price,colour\n3,10,blue\n4,20,red\n"))
    assert oneshot.clear_columns(indexed, ["price"]) == 2
    assert set(noted(indexed)) == {(3, "colour"), (4, "colour")}
    with pytest.raises(UsageError, match="no column 'price' of yours; its columns are colour"):
        oneshot.clear_columns(indexed, ["colour", "price"])
    assert len(noted(indexed)) == 2
    oneshot.remove(indexed, [str(photos / "a" / "picture_02.png")])
    oneshot.prune(indexed)
    assert set(noted(indexed)) == {(4, "colour")}


def test_they_survive_when_a_file_is_moved(indexed: Path, photos: Path):
    oneshot.annotate(indexed, table(photos, "image_id,price\n3,10\n"))
    (photos / "a" / "picture_02.png").rename(photos / "b" / "moved.png")
    oneshot.ingest(indexed, [photos], HISTOGRAM)
    assert found(indexed, "price = 10 and name = 'moved.png'") == {3}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "file,price\na.jpg,3\n", "no column path or image_id"),
        ("t.csv", "", "no column path"),
        ("t.csv", "path,n,n\na,1,2\n", "a repeated name"),
        ("t.csv", "path,\na,1\n", "column without a name"),
        ("t.csv", "path,n\na,1,2\n", "line 2 has more cells than the header"),
        ("t.csv", "path,n\n,1\n", "line 2: no path or image_id"),
        ("t.csv", "image_id,n\nx,1\n", "line 2: 'x' is not an image_id"),
        ("t.csv", "path,n\nnowhere.jpg,1\n", "has none of the 1 images in"),
        ("t.json", "{", r"t\.json cannot be read \(Expecting"),
        ("t.json", "3", "neither a list nor an object"),
        ("t.json", "[3]", "entry 1 is not an object"),
        ("t.json", '[{"path": "a", "x": [1]}]', "entry 1 has a value that is not text or a finite number"),
        ("t.json", '[{"path": "a", "x": NaN}]', "entry 1 has a value"),
        ("t.json", '[{"x": 1}]', "entry 1: no path"),
        ("t.json", '[{"image_id": 1, "": 2}]', "entry 1: a column without a name"),
        (
            "t.json",
            r'[{"image_id": 1, "x": "\ud800"}]',
            r"entry 1: '\\ud800' is not valid Unicode text; save .* as UTF-8",
        ),
        ("t.json", r'[{"image_id": 1, "\udc80": 2}]', r"entry 1: '\\udc80' is not valid"),
        ("t.json", r'[{"path": "\ud800", "x": 2}]', r"entry 1: '\\ud800' cannot be the path"),
        ("t.json", r'[{"path": "a\u0000b", "x": 2}]', r"entry 1: 'a\\x00b' cannot be the path"),
        ("t.json", "[" * 100_000, "nested too deeply"),
        ("t.xlsx", "", "unsupported format; use a .csv, .tsv or .json"),
    ],
)
def test_an_invalid_table_is_refused_and_nothing_is_stored(
    indexed: Path, tmp_path: Path, name: str, text: str, message: str
):
    with pytest.raises(SourceError, match=message):
        oneshot.annotate(indexed, table(tmp_path, text, name))
    assert noted(indexed) == {}


@pytest.mark.parametrize("row", ["1,M\xfcnchen", "1,x,2\xb0"], ids=["value", "second value"])
def test_a_table_in_latin1_is_refused_with_its_line(indexed: Path, tmp_path: Path, row: str):
    (tmp_path / "t.csv").write_bytes(f"image_id,a,b\n2,y\n{row}\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"line 3: '.*' is not valid Unicode text; save the file as UTF-8"):
        oneshot.annotate(indexed, tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes("image_id,stra\xdfe\n2,y\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"'stra\\udcdfe' is not valid Unicode text"):
        oneshot.annotate(indexed, tmp_path / "t.csv")
    assert noted(indexed) == {}


def test_a_missing_table_and_a_missing_collection_are_told(indexed: Path, tmp_path: Path):
    with pytest.raises(SourceError, match="No such file"):
        oneshot.annotate(indexed, tmp_path / "no.csv")
    with pytest.raises(CollectionNotFound):
        oneshot.annotate(tmp_path / "nothing", table(tmp_path, "path,n\na,1\n"))
    assert not (tmp_path / "nothing").exists()
