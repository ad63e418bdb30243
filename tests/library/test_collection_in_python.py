"""The collection as Python expects it: length, iteration, tables, vectors, errors, and what a closed one says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import simsearch
from simsearch import Collection, ModelChoice, errors
from simsearch.errors import CollectionClosed, ImageNotFound, ModelNotIndexed, UsageError
from simsearch.python_terms import convert_to_python_terms
from tests.support.command_line import make_unmeasured_environment


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(6)
    for number in range(12):
        place = folder / ("even" if number % 2 == 0 else "odd")
        place.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((50, 40)).save(
            place / f"{number:02}.png"
        )
    return folder


@pytest.fixture(scope="module")
def opened(photos: Path, tmp_path_factory):
    made = tmp_path_factory.mktemp("made")
    with simsearch.index_images(photos, made / "photos", "histogram") as collection:
        (made / "own.csv").write_text(
            f"path,price,note\n{photos / 'even/00.png'},20,new\n{photos / 'odd/01.png'},7.5,\n"
        )
        collection.annotate(made / "own.csv")
        yield collection


def test_a_collection_has_a_length_and_iterates_over_its_images(opened: Collection, photos: Path):
    assert len(opened) == 12
    assert bool(opened)
    images = list(opened)
    assert sorted(image.files[0].path for image in images) == sorted(map(str, photos.rglob("*.png")))
    assert {(image.width, image.height, image.format) for image in images} == {(50, 40, "PNG")}
    assert repr(opened) == f"Collection({str(opened.folder)!r}, 12 images, histogram)"


def test_images_are_a_list_that_is_filtered_and_sliced(opened: Collection):
    images = opened.images("class = even and price > 10")
    assert [image.columns for image in images] == [{"note": "new", "price": 20}]
    assert repr(images) == f"ImageList(1 images of {str(opened.folder)!r})"
    every = opened.images()
    assert every[-1].image_id == every.ids[-1] == list(every)[-1].image_id
    assert [image.image_id for image in every[2:4]] == every.ids[2:4].tolist()
    with pytest.raises(IndexError):
        every[12]
    with pytest.raises(ValueError, match="`where`: unknown field 'prize'"):
        opened.images("prize > 3")


def test_images_and_hits_become_tables(opened: Collection, photos: Path):
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = opened.images().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert len(frame) == 12
    first = frame[frame["path"] == str(photos / "even/00.png")].iloc[0]
    assert (first["width"], first["height"], first["price"], first["note"]) == (50, 40, 20, "new")
    table = opened.images().to_arrow()
    assert isinstance(table, arrow.Table)
    assert table.column_names == list(frame.columns)
    answer = opened.search(1, k=3)
    assert answer.to_pandas()["path"].tolist() == [hit.path for hit in answer]
    assert answer.to_arrow().to_pylist()[0]["similarity"] == 1
    assert opened.images("price > 99").to_pandas().columns[0] == "image_id"
    assert len(opened.search(1, min_similarity=1, exclude_self=True).to_pandas()) == 0


def test_an_answer_is_a_sequence_of_its_hits(opened: Collection):
    answer = opened.search(1, k=12)
    assert len(answer) == 12
    assert list(answer) == list(answer.hits)
    assert answer[0] == answer.hits[0]
    assert answer[-2:] == answer.hits[-2:]
    assert answer.hits[3] in answer
    lines = repr(answer).splitlines()
    assert lines[0] == "Answer(1: 12 hits of histogram)"
    assert lines[1].split() == ["1", "1.0000", "1", answer[0].path]
    assert lines[-1].strip() == "and 2 more"
    assert repr(answer[0]) == f"Hit(rank=1, similarity=1.0, image_id=1, path={answer[0].path!r})"


def test_vectors_are_those_of_the_images_and_are_mapped_from_disk(opened: Collection):
    ids, rows = opened.vectors("histogram")
    assert rows.dtype == np.float32
    assert rows.shape == (12, opened.model().width)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert not rows.flags.writeable
    for image_id, row in zip(ids.tolist(), rows, strict=True):
        assert np.array_equal(opened.embed(image_id), row)


def test_vectors_are_one_row_for_each_image_with_a_file_whatever_else_is_stored(photos: Path, tmp_path: Path):
    with simsearch.index_images(
        photos, tmp_path / "c", "histogram", augment=simsearch.collection.ViewChoice(2)
    ) as opened:
        opened.remove(str(photos / "odd/01.png"))
        ids, rows = opened.vectors()
        assert len(opened) == len(ids) == len(rows) == 11
        assert ids.tolist() == sorted(opened.images().ids.tolist())
        assert all(np.array_equal(opened.embed(int(ids[at])), rows[at]) for at in range(11))


def test_a_backbone_name_stands_for_a_choice_and_one_path_for_a_list(photos: Path, tmp_path: Path):
    with Collection.open(tmp_path / "c", create=True) as collection:
        assert len(collection) == 0
        assert list(collection) == []
        assert repr(collection) == f"Collection({str(tmp_path / 'c')!r}, empty)"
        assert collection.ingest(photos / "even", "histogram").n_images == 6
        assert collection.ingest(str(photos / "odd"), ModelChoice(backbone="histogram")).n_images == 12
        assert len(list(collection.search_each(photos / "odd"))) == 6
        assert collection.remove(photos / "odd") == 6
        with pytest.raises(ModelNotIndexed, match=r"`Collection\.ingest\(\)`") as caught:
            collection.model("builtin")
        assert isinstance(caught.value, KeyError)


def test_a_closed_collection_says_that_it_is_closed(photos: Path, tmp_path: Path):
    collection = simsearch.index_images(photos, tmp_path / "c", "histogram")
    images = collection.images()
    collection.close()
    collection.close()
    for use in (
        lambda: collection.search(1), lambda: collection.ingest(photos), lambda: len(collection),
        lambda: collection.info(), lambda: collection.catalog, lambda: collection.prune(),
        lambda: list(collection.search_each(photos)),
        lambda: collection.vectors(), lambda: list(collection), lambda: collection.default_rerank,
    ):  # fmt: skip
        with pytest.raises(CollectionClosed, match="is closed; open it again") as caught:
            use()
        assert isinstance(caught.value, ValueError)
    with pytest.raises(CollectionClosed), collection:
        pass
    assert repr(collection) == f"Collection({str(tmp_path / 'c')!r}, closed)"
    assert len(list(images)) == 12  # a list of images opens the catalog by itself


def test_errors_are_what_python_expects_and_name_its_parameters(opened: Collection):
    expected = [
        (lambda: opened.search(1, where="widht > 3"), ValueError, "`where`: unknown field 'widht'"),
        (lambda: opened.search(1, k=0), ValueError, "k is 0"),
        (lambda: opened.search(77), KeyError, "has no image 77; the results of a query show the ids"),
        (lambda: opened.search(1, min_probability=0.5), ValueError, r"run `Collection\.calibrate\(\)` first"),
        (lambda: opened.search(1, backbone="resnet50"), KeyError, "resnet50"),
        (
            lambda: Collection.open("no/such/folder"),
            simsearch.SimsearchError,
            r"create one with `Collection\.ingest\(\)`",
        ),
    ]
    for use, kind, words in expected:
        with pytest.raises(kind, match=words) as caught:
            use()
        assert isinstance(caught.value, simsearch.SimsearchError)
        assert not re.search(r"--[a-z]|`simsearch ", str(caught.value))
    assert "--where: unknown field" in str(_catch(lambda: opened.search(1, where="widht > 3")).message)


def _catch(use) -> errors.SimsearchError:
    with pytest.raises(errors.SimsearchError) as caught:
        use()
    return caught.value


def test_no_message_of_the_library_keeps_an_option_when_it_is_translated():
    """Every text in the package that is no docstring, outside the command line, the server and the reports."""
    left = []
    for file in Path(simsearch.__file__).parent.rglob("*.py"):
        if file.relative_to(Path(simsearch.__file__).parent).parts[0] in ("cli", "web", "report", "python_terms.py"):
            continue
        left += [f"{file.name}: {text}" for text in _list_texts(file) if _has_option(convert_to_python_terms(text))]
    assert left == []


def _list_texts(file: Path) -> list[str]:
    tree = ast.parse(file.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            texts.append("".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | parts:
            texts.append(node.value)
    return texts


def _has_option(text: str) -> bool:
    return re.search(r"(?<!\w)--[a-z]", text.replace("ray start --head", "").replace("--git", "")) is not None


@pytest.mark.parametrize(
    ("message", "translated"),
    [
        ("change --where", "change `where`"),
        ("--where: unknown field 'x'", "`where`: unknown field 'x'"),
        ("search with one picture and --rerank none, or use --min-similarity",
         'search with one picture and `rerank="none"`, or use `min_similarity`'),
        ("run `simsearch index` again with --backbone resnet50",
         'run `Collection.ingest()` again with `backbone="resnet50"`'),
        ("index again: simsearch index ... --backbone builtin", "index again: `Collection.ingest()`"),
        ("leave --layer out for the default", "leave `layer` out for the default"),
        ("raise it with --max-megapixels if you trust the file", "raise it with `max_pixels` if you trust the file"),
        ("name another folder with --out", "name another folder with `out`"),
        ("use a local file, or omit --offline", "use a local file, or omit `offline=True`"),
        ("search with an image of the collection (--id)", "search with an image of the collection (an image id)"),
        ("start one: ray start --head", "start one: ray start --head"),
        ("run `simsearch compare a b`", "run `simsearch compare a b`"),
        ("a plain text - with -- dashes", "a plain text - with -- dashes"),
    ],
)  # fmt: skip
def test_options_and_commands_are_translated(message: str, translated: str):
    assert convert_to_python_terms(message) == translated


def test_the_package_is_imported_without_its_parts():
    code = (
        "import sys, simsearch\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'numpy', 'PIL', 'faiss', 'openvino', 'pandas', 'sqlite3', 'tensorflow'}, loaded\n"
        "assert not [name for name in sys.modules if name.startswith('simsearch.')]\n"
        "assert set(simsearch.__all__) <= set(dir(simsearch))\n"
        "[getattr(simsearch, name) for name in simsearch.__all__]\n"
        "assert not {'tensorflow', 'keras', 'pandas', 'pyarrow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=make_unmeasured_environment())
    with pytest.raises(AttributeError, match="has no attribute 'serach'"):
        simsearch.serach  # noqa: B018


def test_duplicates_and_the_benchmark_need_no_collection(photos: Path, tmp_path: Path):
    copies = tmp_path / "copies"
    copies.mkdir()
    for path in sorted((photos / "even").iterdir())[:2]:
        (copies / path.name).write_bytes(path.read_bytes())
    report = simsearch.find_duplicates(
        [photos, copies], simsearch.DuplicateOptions(down_to="exact"), backbone="histogram"
    )
    assert [group.tier for group in report.groups] == ["exact", "exact"]
    result = simsearch.benchmark(photos, "histogram", rerank=["none", "pca4"])
    frame = result.to_pandas()
    assert frame["rerank"].tolist() == ["none", "pca(4)"] or len(frame) == 2
    assert {"map", "map_low", "map_high", "backbone", "query_ms_p50"} <= set(frame.columns)
    assert "per_class" not in frame.columns
    assert repr(result).startswith("BenchmarkResult(2 rows on 12 images, 12 queries; best map: 0.")
    with simsearch.index_images(photos, tmp_path / "c", "histogram") as collection:
        assert simsearch.find_duplicates(collection).groups == ()
    with simsearch.open(tmp_path / "c") as collection:
        assert len(collection) == 12
    with pytest.raises(UsageError, match="`n_queries` is 0"):
        simsearch.benchmark(photos, "histogram", n_queries=0)


def test_an_image_of_another_collection_is_a_key_error():
    assert issubclass(ImageNotFound, KeyError)
    assert str(ImageNotFound("c", "c has no image 3", "look")) == "c has no image 3; look"
