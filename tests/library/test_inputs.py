"""What `search` and `embed` take: every form of picture that a notebook has, vectors, ids; one or several."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import simsearch
from simsearch import Collection, Example
from simsearch.errors import UnsupportedInput, UsageError
from simsearch.search.inputs import make_examples
from tests.conftest import HISTOGRAM


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(5)
    for number in range(12):
        colors = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(colors).resize((50, 40)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def opened(photos: Path, tmp_path_factory):
    with simsearch.index_images(photos, tmp_path_factory.mktemp("made") / "photos", "histogram") as collection:
        yield collection


def read_as(path: Path, form: str):
    """The same picture in another form."""
    data = path.read_bytes()
    with Image.open(path) as opened:
        picture = opened.copy()
    pixels = np.asarray(picture)
    forms = {
        "text": str(path), "path": path, "bytes": data, "bytearray": bytearray(data), "memoryview": memoryview(data),
        "BytesIO": io.BytesIO(data), "Pillow": picture, "RGBA": picture.convert("RGBA"), "pixels": pixels,
        "rows upside down": pixels[::-1][::-1], "Example": Example(path),
    }  # fmt: skip
    return forms[form]


FORMS = (
    "text", "path", "bytes", "bytearray", "memoryview", "BytesIO", "Pillow", "RGBA", "pixels", "rows upside down",
    "Example",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_finds_itself_in_every_form(opened: Collection, photos: Path, form: str):
    path = photos / "03.png"
    answer = opened.search(read_as(path, form), k=1)
    assert answer[0].path == str(path)
    assert answer[0].similarity == pytest.approx(1, abs=1e-6)
    assert opened.embed(read_as(path, form)) == pytest.approx(opened.embed(str(path)), abs=1e-6)


def test_a_file_that_is_open_is_named_by_its_path(opened: Collection, photos: Path):
    with (photos / "03.png").open("rb") as file:
        assert opened.search(file, k=1).queries == (str(photos / "03.png"),)
    with (photos / "03.png").open(encoding="latin-1") as file, pytest.raises(TypeError, match="binary mode"):
        opened.search(file)


def test_an_open_file_that_was_read_before_says_so(opened: Collection, photos: Path):
    with (photos / "03.png").open("rb") as file:
        file.read()
        with pytest.raises(UsageError, match=r"read to its end; call its seek\(0\) first"):
            opened.search(file)
        file.seek(0)
        assert opened.search(file)[0].path.endswith("03.png")


def test_ids_may_be_numpy_integers_and_arrays(opened: Collection):
    for several in (np.array([2, 5]), [np.int64(2), 5], (np.uint8(2), np.int32(5)), iter([2, 5])):
        assert [example.picture for example in make_examples(several)] == [2, 5]
    assert opened.search(np.int64(2), k=1)[0].image_id == 2


def test_vectors_are_searched_with_whatever_their_length_and_type(opened: Collection):
    ids, rows = opened.vectors()
    for form in (rows[4], 3 * rows[4].astype(np.float64), rows[4].tolist(), rows[4:5], [rows[4]]):
        assert opened.search(form, k=1)[0].image_id == ids[4]
    both = opened.search(rows[[2, 4]], k=None)
    mean = rows @ (rows[2] + rows[4]) / np.linalg.norm(rows[2] + rows[4])
    assert [hit.image_id for hit in both] == ids[np.argsort(-mean.round(6), kind="stable")].tolist()
    assert opened.search(rows[4], k=12, rerank="pca4")[0].image_id == ids[4]


def test_the_exif_orientation_of_a_pillow_image_is_applied(tmp_path: Path):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        assert np.array_equal(
            simsearch.embed(turned, "histogram"), simsearch.embed(tmp_path / "turned.png", "histogram")
        )
        assert np.array_equal(simsearch.embed(turned, "histogram"), simsearch.embed(np.rot90(pixels, -1), "histogram"))


def test_one_picture_gives_one_row_and_a_list_gives_several(opened: Collection, photos: Path):
    pixels = read_as(photos / "01.png", "pixels")
    width = opened.model().width
    assert opened.embed(photos / "01.png").shape == opened.embed(pixels).shape == (width,)
    assert opened.embed([photos / "01.png"]).shape == opened.embed(pixels[None]).shape == (1, width)
    assert opened.embed([]).shape == (0, width)
    many = sorted(photos.iterdir()) * 4  # more than a batch
    assert np.allclose(opened.embed(many), np.tile(opened.vectors()[1], (4, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("query", "kind", "words"),
    [
        (None, TypeError, "NoneType is not a query"),
        (True, TypeError, "bool is not a query"),
        ({"a": 1}, TypeError, "dict is not a query"),
        ([1, None], TypeError, "NoneType is not a query"),
        (1.5, TypeError, "float is not a query"),
        ("", Exception, "cannot read"),
        (np.zeros((4, 4, 3), np.float32), ValueError, r"an array \(4, 4, 3\) of float32 is neither"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, r"an array \(4, 4, 4\) of uint8 is neither"),
        (np.zeros((4, 4), np.uint8), ValueError, r"an array \(4, 4\) of uint8 is neither"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "is neither"),
        (np.zeros(64, np.float32), ValueError, "only zeros, or a number that is not finite"),
        (np.full(64, np.nan), ValueError, "only zeros, or a number that is not finite"),
        (np.ones(3), ValueError, r"the vector has 3 numbers, and those of histogram have \d+; .* `backbone`"),
        ([], ValueError, "the query has no example"),
        (999, KeyError, "has no image 999"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_with_is_refused_in_the_terms_of_python(opened: Collection, query, kind, words: str):
    with pytest.raises(kind, match=words) as caught:
        opened.search(query)
    assert "--" not in str(caught.value)


def test_a_vector_is_compared_with_no_pixels_and_has_no_crop(opened: Collection):
    vector = opened.vectors()[1][0]
    with pytest.raises(UsageError, match="a vector has no pixels"):
        opened.search(vector, rerank="geometric5")
    with pytest.raises(UnsupportedInput):
        opened.search(object())


def test_an_embedder_embeds_as_the_collection_does(opened: Collection, photos: Path):
    embedder = simsearch.Embedder("histogram")
    paths = sorted(photos.iterdir())
    assert np.allclose(embedder.embed(paths), opened.vectors()[1], atol=1e-6)
    assert np.array_equal(embedder(paths[0]), simsearch.embed(paths[0], HISTOGRAM))
    assert embedder.width == opened.model().width
    assert repr(embedder) == f"Embedder('histogram', {embedder.width} d)"
    assert repr(simsearch.Embedder()) == "Embedder('builtin')"
    cropped = simsearch.embed(Example(paths[0], crop=simsearch.Crop(0, 0, 0.5, 0.5)), "histogram")
    assert np.array_equal(cropped, embedder(read_as(paths[0], "pixels")[:20, :25]))
    for query, words in ((1, "ids and vectors belong to a collection"), (np.ones(4), "belong to a collection")):
        with pytest.raises(ValueError, match=words):
            embedder.embed(query)
    with pytest.raises(ValueError, match="cannot be embedded as a picture"):
        embedder.embed(simsearch.TextExample("a rose"))
    with pytest.raises(ValueError, match=r"unknown backbone 'histogramm'; .*`simsearch.list_backbones\(\)`"):
        simsearch.embed(paths, "histogramm")


def test_an_embedder_is_a_transformer_of_scikit_learn(photos: Path):
    sklearn = pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    paths = [str(path) for path in sorted(photos.iterdir())]
    labels = ["first" if number < 6 else "second" for number in range(12)]
    model = sklearn.base.clone(make_pipeline(simsearch.Embedder("histogram"), LogisticRegression(C=1e4)))
    assert model.fit(paths, labels).score(paths, labels) == 1
    assert model.set_params(pictureembedder__backbone="builtin").get_params()["pictureembedder__backbone"] == "builtin"
    with pytest.raises(ValueError, match="no parameter 'size'"):
        simsearch.Embedder().set_params(size=3)
