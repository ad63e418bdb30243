"""Exports read back with NumPy, pyarrow, csv and json, and held against SQLite itself; imports, good and bad."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simsearch.errors import CollectionDamaged, SimsearchError, SourceError, UsageError
from simsearch.files import create_output_folder, replace_output_file
from simsearch.interchange.embeddings import ColumnNames, open_embeddings
from simsearch.interchange.exporter import export
from simsearch.store.catalog import Catalog
from simsearch.store.snapshot import open_model_views
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot

FILES = ("a.parquet", "a.csv", "a.jsonl", "npy")
ODD_NAME = os.fsdecode(b"caf\xe9 <b>&\t.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A collection of 14 files: two of one content, one whose name is no UTF-8 and holds a tab."""
    base = tmp_path_factory.mktemp("exchange")
    for seed in range(12):
        draw_picture(base / "photos" / ("a" if seed < 6 else "b") / f"picture_{seed:02}.png", seed)
    shutil.copy(base / "photos" / "a" / "picture_00.png", base / "photos" / "b" / 'copy, "quoted" ü.png')
    draw_picture(base / "odd.png", 50).rename(base / "photos" / ODD_NAME)
    oneshot.ingest(base / "index", [base / "photos"], HISTOGRAM)
    return base / "index"


@pytest.fixture
def stored(folder):
    with Catalog.open(folder) as catalog:
        yield catalog, catalog.list_models()[0]


def truth(folder):
    """Every view as SQLite has it: view id -> (image id, paths as bytes, digest, width, height, format, vector)."""
    with sqlite3.connect(folder / "catalog.db") as connection:
        rows = connection.execute(
            """SELECT view_id, image_id, digest, images.width, height, format, vector FROM vectors
               JOIN views ON views.id = view_id JOIN images ON images.id = image_id"""
        ).fetchall()
        paths = connection.execute("SELECT image_id, path FROM files ORDER BY id").fetchall()
    connection.close()

    def of(image_id):
        return [path if isinstance(path, bytes) else path.encode() for owner, path in paths if owner == image_id]

    return {row[0]: (row[1], of(row[1]), *row[2:6], np.frombuffer(row[6], "<f4")) for row in rows}


def read_back(place):
    """Rows as dictionaries, and the vectors, by nothing of ours."""
    if place.is_dir():
        rows = pq.read_table(place / "metadata" / "metadata_0000.parquet").to_pylist()
        return rows, np.load(place / "img_emb" / "img_emb_0000.npy")
    if place.suffix == ".parquet":
        table = pq.read_table(place)
        return table.to_pylist(), np.array(table["vector"].to_pylist(), np.float32)
    if place.suffix == ".csv":
        with place.open(encoding="utf-8", newline="") as stream:
            rows = [row | {"paths": json.loads(row["paths"])} for row in csv.DictReader(stream)]
        return rows, np.array([json.loads(row["vector"]) for row in rows], np.float32)
    rows = [json.loads(line) for line in place.read_text("utf-8").splitlines()]
    return rows, np.array([row["vector"] for row in rows], np.float32)


@pytest.mark.parametrize("name", FILES)
def test_an_export_holds_what_the_catalog_holds_to_the_last_bit(name, folder, stored, tmp_path):
    exported = export(*stored, tmp_path / "new" / name)
    rows, vectors = read_back(exported.path)
    known = truth(folder)
    assert exported.n_rows == len(rows) == len(vectors) == len(known) == 13
    assert [int(row["view_id"]) for row in rows] == sorted(known)
    for row, vector in zip(rows, vectors, strict=True):
        image_id, paths, digest, width, height, form, expected = known[int(row["view_id"])]
        assert np.array_equal(vector, expected)
        found = [int(row[key]) for key in ("image_id", "width", "height")]
        assert (found, row["digest"], row["format"]) == ([image_id, width, height], digest, form)
        path = row["image_path" if name == "npy" else "path"]
        raw = bytes.fromhex(row["path_hex"]) if row["path_hex"] else path.encode()
        assert raw == paths[0]
        assert row["paths"] == [path.decode("utf-8", "replace") for path in paths]
        assert row["kind"] == "original"


@pytest.mark.parametrize("name", FILES)
def test_what_was_exported_can_be_imported(name, folder, stored, tmp_path):
    exported = export(*stored, tmp_path / name)
    found = open_embeddings(exported.path)
    blocks = list(found.iterate_blocks())
    known = truth(folder)
    assert found.width == stored[1].width
    assert [os.fsencode(path) for block in blocks for path in block.paths] == [
        known[view_id][1][0] for view_id in sorted(known)
    ]
    vectors = np.concatenate([block.vectors for block in blocks])
    assert vectors == pytest.approx(np.stack([known[view_id][-1] for view_id in sorted(known)]), abs=1e-6)


def test_vectors_of_a_parquet_file_are_lists_of_fixed_length(stored, tmp_path):
    width = stored[1].width
    schema = pq.read_schema(export(*stored, tmp_path / "a.parquet").path)
    assert schema.field("vector").type == pa.list_(pa.float32(), width)
    assert schema.metadata[b"simsearch.model"].decode() == stored[1].fingerprint
    half = pq.read_schema(export(*stored, tmp_path / "h.parquet", vectors="float16").path)
    assert half.field("vector").type == pa.list_(pa.float16(), width)


@pytest.mark.parametrize("name", FILES)
def test_half_precision_is_the_nearest_half_of_every_number(name, folder, stored, tmp_path):
    _, vectors = read_back(export(*stored, tmp_path / name, vectors="float16").path)
    known = truth(folder)
    expected = np.stack([known[view_id][-1] for view_id in sorted(known)]).astype(np.float16)
    assert np.array_equal(vectors.astype(np.float16), expected)


def test_vectors_can_be_left_out(stored, tmp_path):
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        text = export(*stored, tmp_path / name, vectors="none").path
        columns = pq.read_schema(text).names if name.endswith("parquet") else text.read_text("utf-8").splitlines()[0]
        assert "digest" in columns
        assert "vector" not in columns
    with pytest.raises(UsageError, match="npy layout needs vectors"):
        export(*stored, tmp_path / "npy", vectors="none")


def test_a_large_npy_export_is_in_parts_that_belong_together(folder, stored, tmp_path):
    place = export(*stored, tmp_path / "npy", rows_per_file=5).path
    names = [sorted(file.name for file in (place / kind).iterdir()) for kind in ("img_emb", "metadata")]
    assert names[0] == ["img_emb_0000.npy", "img_emb_0001.npy", "img_emb_0002.npy"]
    assert names[1] == ["metadata_0000.parquet", "metadata_0001.parquet", "metadata_0002.parquet"]
    arrays = [np.load(place / "img_emb" / name) for name in names[0]]
    tables = [pq.read_table(place / "metadata" / name) for name in names[1]]
    assert [len(array) for array in arrays] == [len(table) for table in tables] == [5, 5, 3]
    known = truth(folder)
    ids = [view_id for table in tables for view_id in table["view_id"].to_pylist()]
    assert np.array_equal(np.concatenate(arrays), np.stack([known[view_id][-1] for view_id in ids]))
    assert [len(block.paths) for block in open_embeddings(place).iterate_blocks()] == [5, 5, 3]


def test_a_file_without_a_known_extension_needs_a_format(stored, tmp_path):
    with pytest.raises(UsageError, match=r"a\.xlsx has no known extension"):
        export(*stored, tmp_path / "a.xlsx")
    assert export(*stored, tmp_path / "a.txt", format="csv").format == "csv"


def test_images_without_a_file_are_not_exported(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "index")
    oneshot.remove(tmp_path / "index", [str(folder.parent / "photos" / "b" / "picture_11.png")])
    with Catalog.open(tmp_path / "index") as catalog:
        assert export(catalog, catalog.list_models()[0], tmp_path / "a.jsonl").n_rows == 12


def test_what_is_read_is_of_one_moment(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "index")
    with (
        Catalog.open(tmp_path / "index") as catalog,
        open_model_views(catalog.folder, catalog.list_models()[0]) as found,
    ):
        assert len(found.list_view_ids()) == 13
        oneshot.remove(tmp_path / "index", [str(folder.parent / "photos" / "b")])
        assert sum(len(records) for records, _ in found.iterate_blocks()) == 13
        with open_model_views(catalog.folder, catalog.list_models()[0]) as later:
            assert len(later.list_view_ids()) == 7


@pytest.mark.parametrize("name", FILES)
def test_an_export_that_fails_leaves_what_was_there(name, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "index")
    with sqlite3.connect(tmp_path / "index" / "catalog.db") as connection:
        connection.execute("UPDATE vectors SET vector = x'00' WHERE view_id = 7")
    connection.close()
    place = tmp_path / "out" / name
    place.parent.mkdir()
    if place.suffix:
        place.write_text("what was there")
    with Catalog.open(tmp_path / "index") as catalog, pytest.raises(CollectionDamaged):
        export(catalog, catalog.list_models()[0], place)
    assert [file.name for file in place.parent.iterdir()] == ([name] if place.suffix else [])
    assert not place.suffix or place.read_text() == "what was there"


def test_a_folder_in_use_is_not_written_into(stored, tmp_path):
    (tmp_path / "npy").mkdir()
    export(*stored, tmp_path / "npy")
    with pytest.raises(UsageError, match="exists already"):
        export(*stored, tmp_path / "npy")


def test_a_place_that_cannot_be_written_to_is_said_so(stored, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SimsearchError, match="cannot be written"):
        export(*stored, tmp_path / "file" / "a.csv")


def test_whole_files_and_folders_have_the_rights_that_new_ones_have(tmp_path):
    (tmp_path / "plain").write_text("")
    (tmp_path / "plain_folder").mkdir()
    with replace_output_file(tmp_path / "ours.txt") as workshop:
        workshop.write_text("x")
    with create_output_folder(tmp_path / "ours"):
        pass
    assert (tmp_path / "ours.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain_folder").stat().st_mode


def test_without_pyarrow_the_extra_is_named_and_nothing_is_left(folder, tmp_path):
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\nfrom simsearch.errors import MissingExtra\n"
        "from simsearch.interchange.exporter import export\nfrom simsearch.store.catalog import Catalog\n"
        f"catalog = Catalog.open(Path({str(folder)!r}))\n"
        "for name in ('a.parquet', 'npy'):\n"
        f"    try:\n        export(catalog, catalog.list_models()[0], Path({str(tmp_path)!r}) / name)\n"
        "    except MissingExtra as error:\n        print(error)\n"
        f"print(export(catalog, catalog.list_models()[0], Path({str(tmp_path)!r}) / 'a.csv').n_rows)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    advice = "Parquet needs an optional package; install it: pip install 'pandas>=2.2' 'pyarrow>=20'"
    assert done.stdout.splitlines() == [advice, advice, "13"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]


def test_a_sample_is_gathered_in_order_and_the_same_for_the_same_seed(folder, stored):
    known = truth(folder)
    with open_model_views(stored[0].folder, stored[1], originals_only=True) as found:
        chosen = found.sample_ids(6, seed=4)
        records, vectors = found.read_records(chosen)
        assert np.array_equal(found.sample_ids(6, seed=4), chosen)
        assert not np.array_equal(found.sample_ids(6, seed=5), chosen)
        assert np.array_equal(found.sample_ids(100), sorted(known))
    assert [record.view_id for record in records] == chosen.tolist() == sorted(chosen.tolist())
    assert np.array_equal(vectors, np.stack([known[view_id][-1] for view_id in chosen.tolist()]))


# Import


def vectors_of(n=4, d=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def taken(found):
    blocks = list(found.iterate_blocks())
    return [path for block in blocks for path in block.paths], np.concatenate([block.vectors for block in blocks])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_vectors_of_any_length_and_type_become_unit_rows(dtype, tmp_path):
    rows = (vectors_of() * 40).astype(dtype)
    np.save(tmp_path / "a.npy", rows)
    (tmp_path / "a.txt").write_text("1.jpg\n2.jpg\n3.jpg\n4.jpg\n")
    paths, vectors = taken(open_embeddings(tmp_path / "a.npy"))
    assert paths == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert vectors.dtype == np.float32
    assert vectors == pytest.approx(unit(rows.astype(np.float64)), abs=1e-6)


def test_a_folder_as_clip_retrieval_writes_it_is_read_in_order(tmp_path):
    (tmp_path / "e" / "img_emb").mkdir(parents=True)
    (tmp_path / "e" / "metadata").mkdir()
    for part in range(3):
        np.save(tmp_path / "e" / "img_emb" / f"img_emb_{part}.npy", vectors_of(2, 3, part).astype(np.float16))
        table = pa.table({"caption": ["x", "y"], "image_path": [f"{part}0.jpg", f"{part}1.jpg"]})
        pq.write_table(table, tmp_path / "e" / "metadata" / f"metadata_{part}.parquet")
    paths, vectors = taken(open_embeddings(tmp_path / "e"))
    assert paths == ["00.jpg", "01.jpg", "10.jpg", "11.jpg", "20.jpg", "21.jpg"]
    assert vectors == pytest.approx(unit(np.concatenate([vectors_of(2, 3, part) for part in range(3)])), abs=2e-3)


def test_columns_of_other_names_can_be_named(tmp_path):
    table = pa.table({"where": ["1.jpg"], "clip": [[3.0, 4.0]]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"a\.parquet has no column .*; it has where, clip; rename the column"):
        open_embeddings(tmp_path / "a.parquet")
    paths, vectors = taken(open_embeddings(tmp_path / "a.parquet", columns=ColumnNames(path="where", vector="clip")))
    assert (paths, vectors.tolist()) == (["1.jpg"], [pytest.approx([0.6, 0.8])])


def test_a_table_of_another_name_beside_a_npy_can_be_named(tmp_path):
    np.save(tmp_path / "a.npy", vectors_of(2))
    (tmp_path / "list.csv").write_text("filename,size\n1.jpg,3\n2.jpg,4\n")
    paths, _ = taken(open_embeddings(tmp_path / "a.npy", metadata=tmp_path / "list.csv"))
    assert paths == ["1.jpg", "2.jpg"]


def test_augmented_views_of_an_export_are_left_out(tmp_path):
    lines = [("1.jpg", "original"), ("1.jpg", "augmented"), ("2.jpg", "original")]
    rows = [{"path": path, "kind": kind, "vector": [1.0, number]} for number, (path, kind) in enumerate(lines)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    paths, vectors = taken(open_embeddings(tmp_path / "a.jsonl"))
    assert paths == ["1.jpg", "2.jpg"]
    assert vectors == pytest.approx(unit(np.array([[1.0, 0.0], [1.0, 2.0]])))


def write_lines(file, *rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


BAD_ROWS = {
    "2 numbers where 3 are expected": {"path": "2.jpg", "vector": [1, 2]},
    "0 numbers where 3 are expected": {"path": "2.jpg", "vector": None},
    "a number is not finite": {"path": "2.jpg", "vector": [1, float("nan"), 2]},
    "all numbers are zero": {"path": "2.jpg", "vector": [0, 0, 0]},
    "the path is missing": {"path": "", "vector": [1, 2, 3]},
    "a vector is not a list of numbers": {"path": "2.jpg", "vector": ["x", "y", "z"]},
}


@pytest.mark.parametrize("problem", BAD_ROWS)
def test_a_bad_row_is_named_with_what_is_wrong_with_it(problem, tmp_path):
    good = {"path": "1.jpg", "vector": [1, 2, 3]}
    file = write_lines(tmp_path / "a.jsonl", good, BAD_ROWS[problem], good)
    with pytest.raises(SourceError, match=f"a.jsonl, row .: {problem}") as caught:
        list(open_embeddings(file).iterate_blocks())
    assert caught.value.advice
    if "list of numbers" not in problem:
        assert "row 2:" in str(caught.value)


def test_a_bad_row_far_down_is_found_under_its_own_number(tmp_path):
    rows = vectors_of(2500)
    rows[2317, 1] = np.inf
    np.save(tmp_path / "a.npy", rows)
    (tmp_path / "a.txt").write_text("".join(f"{number}.jpg\n" for number in range(2500)))
    with pytest.raises(SourceError, match=r"a\.npy, row 2318: a number is not finite"):
        list(open_embeddings(tmp_path / "a.npy").iterate_blocks())


def test_counts_that_differ_are_told_before_anything_is_read(tmp_path):
    np.save(tmp_path / "a.npy", vectors_of(3))
    (tmp_path / "a.csv").write_text("path\n1.jpg\n2.jpg\n")
    with pytest.raises(SourceError, match=r"a\.npy has 3 vectors and a\.csv 2 rows; use two files of the same export"):
        open_embeddings(tmp_path / "a.npy")
    for folder, n in (("img_emb", 2), ("metadata", 1)):
        (tmp_path / "e" / folder).mkdir(parents=True)
        for part in range(n):
            (tmp_path / "e" / folder / f"{part}.{'npy' if folder == 'img_emb' else 'parquet'}").write_bytes(b"")
    with pytest.raises(SourceError, match=r"2 \.npy files and 1 table of metadata"):
        open_embeddings(tmp_path / "e")


def test_parts_of_different_widths_are_told_apart(tmp_path):
    for folder in ("img_emb", "metadata"):
        (tmp_path / "e" / folder).mkdir(parents=True)
    for part, width in enumerate((3, 4)):
        np.save(tmp_path / "e" / "img_emb" / f"img_emb_{part}.npy", vectors_of(1, width))
        pq.write_table(pa.table({"image_path": ["1.jpg"]}), tmp_path / "e" / "metadata" / f"metadata_{part}.parquet")
    with pytest.raises(SourceError, match=r"img_emb_1\.npy, row 1: 4 numbers where 3 are expected"):
        list(open_embeddings(tmp_path / "e").iterate_blocks())


def test_an_invalid_source_is_refused_with_its_reason(tmp_path):
    def complaint(name, content=None):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError) as caught:
            open_embeddings(tmp_path / name)
        return str(caught.value)

    np.save(tmp_path / "flat.npy", np.ones(3))
    np.save(tmp_path / "alone.npy", np.ones((3, 2)))
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    for name in ("flat", "objects", "torn"):
        (tmp_path / f"{name}.txt").write_text("1.jpg\n")
    (tmp_path / "empty").mkdir()
    assert "does not exist" in complaint("missing.npy")
    assert "float64 (3,), not an array" in complaint("flat.npy")
    assert "has no table of paths" in complaint("alone.npy")
    assert "cannot be read as .npy" in complaint("objects.npy")
    assert "cannot be read as .npy" in complaint("torn.npy", b"\x93NUMPY")
    assert "has no img_emb/*.npy" in complaint("empty")
    assert "unsupported format" in complaint("a.xlsx", b"")
    assert "cannot be read as Parquet" in complaint("a.parquet", b"PAR1 no")
    assert "has no vectors" in complaint("a.jsonl", b"")
    assert "cannot be read" in complaint("b.jsonl", b"{")
    assert "cannot be read" in complaint("b.csv", b"path,vector\n\xff\xfe,[1]\n")
    assert "has no column" in complaint("c.csv", b"name,x\na,1\n")
