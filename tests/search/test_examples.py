"""What can be asked with: several pictures, weights, parts, bytes, addresses."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection
from simsearch.errors import ImageError, ImageNotFound, UsageError
from simsearch.models.histogram import SIDE_PX, compute_histograms
from simsearch.models.weights import WeightsOptions
from simsearch.search.examples import Crop, Example
from simsearch.sources.scan import Skip
from simsearch.store.catalog import Catalog
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot
from tests.support.servers import serving


@pytest.fixture
def indexed(photos: Path, collection: Path) -> Path:
    oneshot.ingest(collection, [photos], HISTOGRAM)
    return collection


def vectors_of(collection: Path) -> np.ndarray:
    """The vectors (12, d) of images 1 to 12."""
    with Catalog.open(collection) as catalog:
        stored = catalog.list_models()[0]
        return np.stack([catalog.find_vector(stored, catalog.find_original_view(number)) for number in range(1, 13)])


def similarities(collection: Path, queries: object, **options: object) -> list[float]:
    """To images 1 to 12."""
    with Collection.open(collection) as opened:
        hits = opened.search(queries, k=12, **options).hits
    return [hit.similarity for hit in sorted(hits, key=lambda hit: hit.image_id)]


# Several, and weights


@pytest.mark.parametrize("weights", [(1, 1, 1), (2, 1, 0.5), (1, -1, 1), (1, -0.5, -0.25), (-1, -1, -2)])
def test_examples_are_summed_by_their_weights(indexed: Path, weights: tuple[float, ...]):
    vectors = vectors_of(indexed)
    query = sum(weight * vectors[at] for weight, at in zip(weights, (0, 4, 9), strict=True))
    expected = vectors @ (query / np.linalg.norm(query))
    examples = [Example(number, weight) for number, weight in zip((1, 5, 10), weights, strict=True)]
    assert similarities(indexed, examples) == pytest.approx(expected.tolist(), abs=2e-6)


def test_images_similar_to_a_negative_example_rank_lower(indexed: Path):
    plain = similarities(indexed, [1, 5])
    unlike = similarities(indexed, [1, 5, Example(9, -0.5)])
    assert unlike[8] < plain[8]


def test_pictures_that_cancel_each_other_out_are_a_usage_error(indexed: Path, photos: Path):
    with Collection.open(indexed) as opened, pytest.raises(UsageError, match="cancel each other out"):
        opened.search([1, Example(photos / "a" / "picture_00.png", -1)])


@pytest.mark.parametrize("weight", [0, math.inf, math.nan])
def test_a_weight_that_says_nothing_is_a_usage_error(weight: float):
    with pytest.raises(UsageError, match=r"a\.jpg has the weight"):
        Example("a.jpg", weight)


def test_a_weight_stands_before_the_name_unless_a_file_is_called_so(tmp_path: Path):
    assert Example.parse("2:a.jpg") == Example("a.jpg", 2)
    assert Example.parse("0.5:https://x/y.jpg") == Example("https://x/y.jpg", 0.5)
    assert Example.parse(".5:7") == Example("7", 0.5)
    assert [Example.parse(text).picture for text in ("C:\\a.jpg", "x:a.jpg", ":a.jpg", "2:", "2:a:b")] == [
        "C:\\a.jpg", "x:a.jpg", ":a.jpg", "2:", "a:b",
    ]  # fmt: skip
    (tmp_path / "2:a.jpg").touch()
    assert Example.parse(str(tmp_path / "2:a.jpg")) == Example(str(tmp_path / "2:a.jpg"))


def test_an_answer_names_what_was_asked_with(indexed: Path, photos: Path):
    file = str(photos / "a" / "picture_00.png")
    with Collection.open(indexed) as opened:
        queries = [file, Example(5, 2), Example(7, -0.5), Example(8, crop=Crop(0, 0, 0.5, 0.5), name="that one")]
        assert opened.search(queries).queries == (file, "2:5", "-0.5:7", "that one (0,0,0.5,0.5)")


# A part


@pytest.mark.parametrize("crop", [Crop(8, 6, 20, 30), Crop(0.25, 0.5, 0.5, 0.25), Crop(20, 20, 999, 999)])
def test_a_part_of_a_picture_is_asked_as_if_it_were_cut_out_before(
    indexed: Path, photos: Path, tmp_path: Path, crop: Crop
):
    file = photos / "b" / "picture_08.png"
    with Image.open(file) as picture:
        box = {8: (8, 6, 28, 36), 0.25: (12, 24, 36, 37), 20: (20, 20, 48, 49)}[crop.x]
        assert picture.size == (48, 49)
        picture.crop(box).save(tmp_path / "cut.png")
    for example in (file, 9):
        assert similarities(indexed, Example(example, crop=crop)) == similarities(indexed, tmp_path / "cut.png")


def test_a_part_of_a_jpeg_is_cut_from_its_full_size(tmp_path: Path, collection: Path):
    """The whole picture may be decoded at an eighth of its size; a part of it never."""
    pixels = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "large.jpg", quality=95)
    oneshot.ingest(collection, [tmp_path / "photos"], HISTOGRAM)
    with Image.open(tmp_path / "photos" / "large.jpg") as picture:
        part = np.asarray(picture.crop((100, 200, 100 + SIDE_PX, 200 + SIDE_PX)))
    expected = vectors = compute_histograms(part[None])[0]
    with Catalog.open(collection) as catalog:
        stored = catalog.list_models()[0]
        vectors = catalog.find_vector(stored, 1)
    with Collection.open(collection) as opened:
        hit = opened.search(Example(1, crop=Crop(100, 200, SIDE_PX, SIDE_PX))).hits[0]
    assert hit.similarity == pytest.approx(float(expected @ vectors), abs=1e-5)


def test_a_part_is_of_the_upright_picture(tmp_path: Path, collection: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    upright = np.zeros((60, 40, 3), np.uint8)
    upright[:30] = (255, 0, 0)
    upright[30:] = (0, 0, 255)
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.rot90(upright)).save(tmp_path / "photos" / "turned.png", exif=exif)
    Image.fromarray(upright[:30]).save(tmp_path / "photos" / "red.png")
    oneshot.ingest(collection, [tmp_path / "photos"], HISTOGRAM)
    with Collection.open(collection) as opened:
        turned = tmp_path / "photos" / "turned.png"
        hit = opened.search(Example(turned, crop=Crop(0, 0, 40, 30))).hits[0]
    assert Path(hit.path).name == "red.png"
    assert hit.similarity > 0.999


def test_boxes_are_whole_pixels_that_lie_within(indexed: Path):
    assert Crop(0, 0, 1, 1).to_box(30, 20) == (0, 0, 30, 20)
    assert Crop(0.1, 0.1, 0.2, 0.2).to_box(10, 10) == (1, 1, 3, 3)
    assert Crop(0.5, 0.5, 0.001, 0.001).to_box(10, 10) == (5, 5, 6, 6)
    assert Crop(2, 3, 100, 4).to_box(10, 10) == (2, 3, 10, 7)
    assert Crop(10, 0, 5, 5).to_box(10, 10) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3", "'1,2,3' is not a crop; write x,y,w,h"),
        ("a,b,c,d", "is not a crop"),
        ("", "is not a crop"),
        ("1,2,0,5", "the crop 1,2,0,5 is empty"),
        ("-1,2,3,5", "invalid crop -1,2,3,5"),
        ("nan,2,3,5", "invalid crop"),
        ("0,0,inf,5", "invalid crop"),
    ],
)
def test_a_wrong_crop_is_a_usage_error(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        Crop.parse(text)


def test_a_crop_outside_the_picture_is_an_error_with_its_size(indexed: Path, photos: Path):
    file = photos / "b" / "picture_08.png"
    with (
        Collection.open(indexed) as opened,
        pytest.raises(ImageError, match=r"the crop 48,0,5,5 is outside the picture; its size is 48 x 49 px"),
    ):
        opened.search(Example(file, crop=Crop(48, 0, 5, 5)))


def test_a_part_is_not_taken_for_the_stored_picture_but_for_one_of_its_content(indexed: Path):
    part = Example(9, crop=Crop(0, 0, 0.5, 0.5))
    with Collection.open(indexed) as opened:
        assert opened.search(part, k=12).hits[0].similarity < 1
        assert 9 not in {hit.image_id for hit in opened.search(part, k=12, exclude_self=True).hits}


# Bytes and addresses


def test_bytes_are_asked_as_the_file_they_are_of(indexed: Path, photos: Path, tmp_path: Path):
    known, unknown = photos / "a" / "picture_02.png", draw_picture(tmp_path / "new.png", 50)
    for file in (known, unknown):
        assert similarities(indexed, file.read_bytes()) == similarities(indexed, file)
    with Collection.open(indexed) as opened, pytest.raises(ImageError, match=r"cannot read a picture of 5 bytes: "):
        opened.search(b"hello")


def test_a_web_address_gives_the_results_of_its_file(indexed: Path, tmp_path: Path):
    new = draw_picture(tmp_path / "new.png", 50)
    with serving({"/new.png": new.read_bytes(), "/page.png": b"<html>"}) as address:
        assert similarities(indexed, f"{address}/new.png") == similarities(indexed, new)
        with Collection.open(indexed) as opened:
            assert opened.search(f"{address}/new.png").queries == (f"{address}/new.png",)
            with pytest.raises(ImageError, match=r"/page\.png: .*web page"):
                opened.search(f"{address}/page.png")
            with pytest.raises(ImageError, match="404"):
                opened.search(f"{address}/old.png")
            with pytest.raises(UsageError, match="omit `offline=True`"):
                opened.search(f"{address}/new.png", weights=WeightsOptions(offline=True))


# Many, each by itself


def test_every_picture_of_a_folder_is_asked_by_itself(indexed: Path, photos: Path):
    (photos / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (photos / "a" / "notes.txt").write_text("nothing")
    with Collection.open(indexed) as opened:
        found = list(opened.search_each([photos / "a", photos / "b" / "picture_07.png"], k=1))
    skips = [some for some in found if isinstance(some, Skip)]
    assert [Path(skip.path).name for skip in skips] == ["broken.jpg"]
    assert found.index(skips[0]) == 0  # in the order of names
    answered = [some for some in found if not isinstance(some, Skip)]
    assert [Path(answer.hits[0].path).name for answer in answered] == [
        f"picture_{n:02}.png" for n in (0, 1, 2, 3, 4, 5, 7)
    ]


def test_files_of_examples_can_be_looked_at(indexed: Path, photos: Path, tmp_path: Path):
    file = photos / "b" / "picture_08.png"
    with Collection.open(indexed) as opened:
        files = opened.files_of([file, 9, file.read_bytes(), Example(9, crop=Crop(0, 0, 10, 12))], tmp_path)
        with pytest.raises(ImageNotFound):
            opened.files_of([99], tmp_path)
    assert files[:2] == [str(file), str(file)]
    sizes = []
    for made in files[2:]:
        with Image.open(io.BytesIO(Path(made).read_bytes())) as picture:
            sizes.append(picture.size)
    assert sizes == [(48, 49), (10, 12)]
    assert all(tmp_path in Path(made).parents for made in files[2:])
    assert Path(files[3]).name == "9 (0,0,10,12)"


@pytest.mark.parametrize("question", [{"offset": -1}, {"k": 0}, {"k": None, "min_similarity": 2}])
def test_wrong_limits_are_a_usage_error(indexed: Path, question: dict):
    with Collection.open(indexed) as opened, pytest.raises(UsageError):
        opened.search(1, **question)


def test_a_crop_is_rounded_outwards_to_whole_pixels():
    assert Crop(0.25, 0.15, 0.5, 0.5).to_box(10, 10) == (2, 1, 8, 7)
    assert Crop(2.5, 1.5, 3.2, 4).to_box(10, 10) == (2, 1, 6, 6)
    assert Crop(0.1, 0, 0.2, 1).to_box(10, 10) == (1, 0, 3, 10)  # and 0.1 + 0.2 is no more than 0.3
