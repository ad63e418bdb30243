"""Vectors without pictures: what is read, what becomes of keys and columns, and what such a collection can do."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import simsearch
from simsearch import Collection
from simsearch.errors import SourceError, UsageError
from tests.support.command_line import run

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

N, WIDTH = 60, 16


def make_vectors(seed: int = 0, n: int = N) -> np.ndarray:
    """(n, 16) float32 in six groups around different directions: row i is of group i % 6."""
    random = np.random.default_rng(seed)
    centers = random.standard_normal((6, WIDTH))
    return (centers[np.arange(n) % 6] + 0.3 * random.standard_normal((n, WIDTH))).astype(np.float32)


VECTORS = make_vectors()
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
URLS = [f"https://pictures.example/{number:03}.jpg" for number in range(N)]
KEYS = [f"item {number:03}" for number in range(N)]
COLUMNS = {
    "url": URLS, "label": [f"group {number % 6}" for number in range(N)], "likes": list(range(N)),
    "class": ["x"] * N, "width": [640] * N, "height": [480] * N, "share": [None, *([0.5] * (N - 1))],
    "tags": [["a"]] * N,
}  # fmt: skip


def write_parquet(file: Path, columns: dict, vectors: np.ndarray | None = None, *, is_fixed: bool = True) -> Path:
    table = pyarrow.table(columns)
    if vectors is not None:
        kind = pyarrow.list_(pyarrow.float32(), vectors.shape[1]) if is_fixed else pyarrow.list_(pyarrow.float32())
        table = table.append_column("embedding", pyarrow.array(list(vectors), kind))
    parquet.write_table(table, file)
    return file


def write_source(folder: Path, layout: str) -> Path:
    """The same vectors in each layout that is read."""
    folder.mkdir()
    if layout.startswith("one parquet"):
        return write_parquet(folder / "one.parquet", COLUMNS, VECTORS, is_fixed=layout.endswith("fixed"))
    if layout == "clip-retrieval":
        (folder / "img_emb").mkdir()
        (folder / "metadata").mkdir()
    halves = (slice(0, 25), slice(25, N))
    for number, rows in enumerate(halves):
        part = {name: values[rows] for name, values in COLUMNS.items()}
        if layout == "clip-retrieval":
            np.save(folder / f"img_emb/img_emb_{number}.npy", VECTORS[rows].astype(np.float16))
            write_parquet(folder / f"metadata/metadata_{number}.parquet", part)
        elif layout == "folder of parquet":
            write_parquet(folder / f"part_{number}.parquet", part, VECTORS[rows])
        elif layout == "folder of npy with tables":
            np.save(folder / f"part_{number}.npy", VECTORS[rows])
            write_parquet(folder / f"part_{number}.parquet", part)
    if layout in ("npy and csv", "npy and parquet"):
        np.save(folder / "v.npy", VECTORS)
        if layout == "npy and parquet":
            write_parquet(folder / "v.parquet", COLUMNS)
        else:
            with (folder / "v.csv").open("w", newline="") as stream:
                writer = csv.writer(stream)
                names = [name for name in COLUMNS if name != "tags"]
                writer.writerow(names)
                writer.writerows(zip(*(COLUMNS[name] for name in names), strict=True))
        return folder / "v.npy"
    if layout == "jsonl":
        with (folder / "v.jsonl").open("w") as stream:
            for number in range(N):
                row = {name: values[number] for name, values in COLUMNS.items()}
                stream.write(json.dumps(row | {"vector": VECTORS[number].tolist()}) + "\n")
        return folder / "v.jsonl"
    return folder


LAYOUTS = (
    "one parquet, fixed", "one parquet, lists", "clip-retrieval", "folder of parquet", "folder of npy with tables",
    "npy and csv", "npy and parquet", "jsonl",
)  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_keys_vectors_and_columns(tmp_path: Path, layout: str):
    with Collection.open(tmp_path / "c", create=True) as collection:
        report = collection.import_vectors(write_source(tmp_path / "source", layout), "clip")
        assert (report.n_rows, report.n_added, report.n_images, report.skips) == (N, N, N, ())
        ids, rows = collection.vectors("clip")
        assert np.allclose(rows, UNIT, atol=2e-3 if layout == "clip-retrieval" else 1e-6)
        images = list(collection)
        assert [image.image_id for image in images] == ids.tolist()
        assert [image.files[0].path for image in images] == URLS
        assert dict(images[1].columns) == {"class_": "x", "label": "group 1", "likes": 1, "share": 0.5}
        assert "share" not in images[0].columns
        assert all(image.is_unread and (image.width, image.height) == (640, 480) for image in images)


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("vectors")
    source = write_parquet(place / "one.parquet", {**COLUMNS, "url": KEYS, "width": [None] * N}, VECTORS)
    with Collection.open(place / "c", create=True) as collection:
        collection.import_vectors(source, "clip")
    return place / "c"


def test_vectors_are_searched_by_vector_id_and_key_and_filtered(imported: Path):
    with Collection.open(imported) as collection:
        for query in (VECTORS[7], 8, KEYS[7]):
            hits = collection.search(query, k=5)
            expected = np.argsort(-(UNIT @ UNIT[7]).round(6), kind="stable")[:5]
            assert [hit.path for hit in hits] == [KEYS[at] for at in expected]
            assert hits[0].similarity == pytest.approx(1, abs=1e-6)
        near = collection.search(VECTORS[7], k=None, where="likes >= 30 and label != 'group 1'")
        assert {int(hit.path[-3:]) for hit in near} == {at for at in range(30, N) if at % 6 != 1}
        assert len(collection.images("width < 100 or width > 0")) == 0  # the size is not known
        assert len(collection.search(KEYS[7], exclude_self=True, k=None)) == N - 1
        with pytest.raises(simsearch.SimsearchError, match="cannot read"):
            collection.search("item 999", k=1)


def test_vectors_are_mapped_clustered_exported_and_verified(imported: Path, tmp_path: Path):
    with Collection.open(imported) as collection:
        clusters = collection.clusters(6)
        assert sorted(len(cluster.members) for cluster in clusters.clusters) == [10] * 6
        assert collection.export(tmp_path / "out.parquet").n_rows == N
        assert not collection.verify().problems
        assert any("imported without their pictures" in note for note in collection.verify().notes)
        assert collection.info().to_dict()["images"] == N
    assert run("map", "--in", imported, "--out", tmp_path / "map.html", cwd=tmp_path).returncode == 0


def test_stored_vectors_are_benchmarked_with_labels_from_a_column(imported: Path, tmp_path: Path):
    with Collection.open(imported) as collection:
        result = simsearch.benchmark(collection, labels="label", rerank=["none", "pca8"])
        similarities = UNIT @ UNIT.T
        precisions = []
        for query in range(N):  # average precision by hand
            order = [at for at in np.argsort(-similarities[query].round(6), kind="stable") if at != query]
            relevant = np.array([at % 6 == query % 6 for at in order])
            precisions.append((np.cumsum(relevant) / np.arange(1, N))[relevant].mean())
        rows = {row.rerank: row for row in result.rows}
        assert rows["none"].scores["map"].mean == pytest.approx(np.mean(precisions), abs=1e-6)
        assert len(rows) == 2
        assert (result.dataset.n_images, result.dataset.n_queries, result.dataset.n_classes) == (N, N, 6)
        sampled = simsearch.benchmark(collection, "clip", labels="label", n_queries=7, where="likes < 30")
        assert (sampled.dataset.n_images, sampled.dataset.n_queries, sampled.dataset.n_queries_of) == (30, 7, 30)
        for labels, words in (("prize", "no column 'prize'"), ("likes", "no two images"), (None, "needs labels")):
            with pytest.raises(UsageError, match=words):
                simsearch.benchmark(collection, labels=labels)
    done = run(
        "benchmark", imported, "--column", "label", "--metric", "p@1", "--out", tmp_path / "report", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dataset"]["labels"] == "column label"
    assert (tmp_path / "report" / "report.html").is_file()


def test_similar_images_are_found_by_their_vectors_alone(imported: Path, tmp_path: Path):
    with Collection.open(imported) as collection:
        options = simsearch.DuplicateOptions(down_to="similar", min_similarity=0.9)
        similarities = UNIT @ UNIT.T
        report = collection.duplicates(options)
        assert report.groups
        for group in report.groups:
            numbers = [member.image_id - 1 for member in group.members]
            assert group.tier == "similar"
            assert any((similarities[center, numbers] >= 0.9).all() for center in numbers)
            assert {file.action for member in group.members for file in member.files} == {"look"}
        with pytest.raises(UsageError, match=r'without pictures.*`DuplicateOptions\.down_to="similar"`'):
            collection.duplicates()
    done = run("duplicates", "--in", imported, "--tier", "similar", "--out", tmp_path / "d.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_command_line_imports_and_searches_by_a_vector_in_a_file(imported: Path, tmp_path: Path):
    source = write_source(tmp_path / "source", "clip-retrieval")
    done = run(
        "import", source, "--into", tmp_path / "c", "--name", "clip", "--without-pictures", "--column", "label",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["added"] == N
    np.save(tmp_path / "query.npy", VECTORS[3])
    done = run("query", tmp_path / "query.npy", "--in", tmp_path / "c", "-k", "1", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["hits"][0]["path"] == URLS[3]
    done = run(
        "query", URLS[3], "--in", tmp_path / "c", "-k", "1", "--json", "--where", "label = 'group 3'", cwd=tmp_path
    )
    assert json.loads(done.stdout)["hits"][0]["path"] == URLS[3]
    done = run("query", "--id", "4", "--in", imported, "--sheet", tmp_path / "sheet.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert min(sheet.size) > 100
    without = run("import", source, "--into", tmp_path / "d", "--name", "clip", cwd=tmp_path)
    assert without.returncode == 1
    assert without.stderr.count("\n") == 1
    assert "--without-pictures" in without.stderr


def test_keys_are_ids_paths_or_numbers_of_rows(tmp_path: Path):
    np.save(tmp_path / "v.npy", VECTORS)
    with Collection.open(tmp_path / "rows", create=True) as collection:
        collection.import_vectors(tmp_path / "v.npy", "clip")
        assert [image.files[0].path for image in collection] == [str(number) for number in range(N)]
        assert collection.search("17", k=1)[0].path == "17"
    keys = ["sub/a.jpg", "b.png", "007", "shop item 12"]
    with Collection.open(tmp_path / "keys", create=True) as collection:
        collection.add_vectors(
            keys, VECTORS[:4], "clip", root=tmp_path, columns={"price": [1.5, 2, None, float("nan")]}
        )
        paths = [image.files[0].path for image in collection]
        assert paths == [str(tmp_path / "sub/a.jpg"), str(tmp_path / "b.png"), "007", "shop item 12"]
        assert [dict(image.columns) for image in collection] == [{"price": 1.5}, {"price": 2}, {}, {}]
        assert collection.remove("007") == 1
        assert len(collection) == 3


def test_the_picture_is_read_when_its_file_is_indexed_and_keeps_vector_id_and_columns(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(2)
    for number in range(4):
        pixels = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((50, 40)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "3.png").write_bytes((tmp_path / "photos" / "2.png").read_bytes())
    keys = [f"photos/{number}.png" for number in (0, 1, 2, 3, 9)]
    with Collection.open(tmp_path / "c", create=True) as collection:
        collection.add_vectors(keys, VECTORS[:5], "clip", root=tmp_path, columns={"n": [0, 1, 2, 3, 9]})
        before = collection.search(VECTORS[1], k=1, backbone="clip")[0]
        report = collection.ingest(tmp_path / "photos", "histogram")
        assert (report.n_embedded, report.n_gone) == (3, 0)
        after = collection.search(VECTORS[1], k=1, backbone="clip")[0]
        assert (after.image_id, after.path, after.similarity) == (before.image_id, before.path, before.similarity)
        images = {image.files[0].path: image for image in collection}
        first = images[str(tmp_path / "photos/1.png")]
        assert (first.width, first.height, first.format, dict(first.columns)) == (50, 40, "PNG", {"n": 1})
        both = images[str(tmp_path / "photos/2.png")]  # two keys with one content are one image from now on
        assert [Path(file.path).name for file in both.files] == ["2.png", "3.png"]
        assert images[str(tmp_path / "photos/9.png")].is_unread  # its picture is not there, its vector is
        assert len(collection.vectors("clip")[0]) == 4
        assert len(collection.vectors("histogram")[0]) == 3
        assert not collection.verify().problems


def test_an_interrupted_import_continues_and_repeated_keys_count_once(tmp_path: Path):
    source = write_parquet(tmp_path / "v.parquet", {"key": [*URLS[:10], URLS[0]]}, VECTORS[:11])
    code = (
        "import os, sys, simsearch\nfrom simsearch.interchange import vector_import as it, embeddings\n"
        "embeddings._KEYED_BLOCK_ROWS = 4\nn = []\n"
        "def stop(progress):\n    n.append(progress)\n    os._exit(9) if len(n) == 2 else None\n"
        "simsearch.open(sys.argv[1], create=True).import_vectors(sys.argv[2], 'clip', progress=stop)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c"), str(source)], check=False)
    assert killed.returncode == 9
    with Collection.open(tmp_path / "c") as collection:
        assert 0 < len(collection) < 10
        report = collection.import_vectors(source, "clip")
        assert (report.n_rows, report.n_repeated, report.n_images, report.n_kept) == (11, 1, 10, 0)
        assert np.allclose(collection.embed(URLS[0], backbone="clip"), UNIT[10], atol=1e-6)  # the last row counts
        again = collection.import_vectors(source, "clip")
        assert (again.n_added, again.n_kept) == (0, 0)
        changed = write_parquet(tmp_path / "w.parquet", {"key": URLS[:3]}, make_vectors(9)[:3])
        assert collection.import_vectors(changed, "clip").n_kept == 3


BAD = {
    "nan": (lambda v: v.__setitem__((5, 2), np.nan), "row 6: a number is not finite"),
    "infinite": (lambda v: v.__setitem__((0, 0), np.inf), "row 1: a number is not finite"),
    "zeros": (lambda v: v.__setitem__(3, 0), "row 4: all numbers are zero"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path: Path, fault: str, kind: str):
    change, words = BAD[fault]
    vectors = VECTORS.copy()
    change(vectors)
    np.save(tmp_path / "v.npy", vectors)
    file = tmp_path / "v.npy" if kind == "npy" else write_parquet(tmp_path / "v.parquet", {"key": URLS}, vectors)
    with Collection.open(tmp_path / "c", create=True) as collection, pytest.raises(SourceError, match=words) as caught:
        collection.import_vectors(file, "clip")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"v.npy": VECTORS[:, 0]}, r"v\.npy is float32 \(60,\), not an array"),
        ({"v.npy": np.array([["a", "b"]])}, "not an array"),
        ({"v.npy": VECTORS, "v.csv": "key\na\nb\n"}, "60 vectors and v.csv 2 rows"),
        ({"v.npy": VECTORS[:2], "v.csv": "key,x\na,1\n,2\n"}, "row 2: the key in column key is missing"),
        ({"v.npy": VECTORS[:2], "v.csv": "shape,x\na,1\nb,2\n"}, "has no column path, .*; it has shape, x"),
        ({"v.jsonl": '{"key": "a", "vector": [1, 2]}\n{"key": "b", "vector": [1]}\n'}, "1 numbers where 2 are"),
        ({"v.jsonl": '{"key": "a", "vector": [1, "x"]}\n'}, "not a list of numbers"),
        ({"v.jsonl": '{"key": "a", "vector": null}\n'}, "0 numbers where some are expected"),
        ({"v.jsonl": '{"key": "a\\u0000b", "vector": [1, 2]}\n'}, "cannot be the path"),
        ({"v.npy": VECTORS[:0]}, "has no vectors"),
        ({"v.pt": b"x"}, "unsupported format"),
    ],
)  # fmt: skip
def test_a_source_that_is_not_valid_gives_one_clear_line(tmp_path: Path, files: dict, words: str):
    for name, content in files.items():
        if isinstance(content, np.ndarray):
            np.save(tmp_path / name, content)
        else:
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with Collection.open(tmp_path / "c", create=True) as collection, pytest.raises(SourceError, match=words) as caught:
        collection.import_vectors(tmp_path / next(iter(files)), "clip")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c").exists()


def test_arrays_that_do_not_fit_and_names_in_use_are_refused(tmp_path: Path):
    with Collection.open(tmp_path / "c", create=True) as collection:
        for keys, vectors, columns, words in (
            (URLS[:3], VECTORS[:4], {}, "keys has 3 values for 4 vectors"),
            (URLS[:4], VECTORS[:4], {"a": [1]}, "a has 1 values for 4 vectors"),
            (URLS[:4], VECTORS[0], {}, r"vectors of shape \(16,\)"),
            ([None], VECTORS[:1], {}, "key 1 is None"),
        ):
            with pytest.raises(SourceError, match=words):
                collection.add_vectors(keys, vectors, "clip", columns=columns)
        with pytest.raises(UsageError, match="`name`"):
            collection.add_vectors(URLS[:4], VECTORS[:4], "builtin")
        collection.add_vectors(URLS[:4], VECTORS[:4], "clip")
        with pytest.raises(UsageError, match="give them another `name`"):
            collection.add_vectors(URLS[:4], VECTORS[:4, :8], "clip")
        pandas = pytest.importorskip("pandas")
        collection.add_vectors(np.arange(3), VECTORS[:3], "clip", columns=pandas.DataFrame({"n": [1, 2, 3]}))
        assert len(collection.images("n >= 2")) == 2
