"""Verified queries: copies and parts of the query picture come first, with the box of the part."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from simsearch import Collection
from simsearch.errors import UsageError
from simsearch.rerank.method import RerankMethod
from simsearch.search.examples import Crop, Example
from simsearch.search.results import UNVERIFIED, Hit, View
from tests.conftest import HISTOGRAM
from tests.support import oneshot
from tests.support.command_line import read_document, run


def draw_scene(seed: int, width: int = 480, height: int = 360) -> Image.Image:
    """A picture with detail everywhere: coarse colors with fine shapes on them."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height), 3)
    shapes = Image.fromarray(random.integers(0, 256, (45, 60, 3), dtype=np.uint8)).resize((width, height), 0)
    return Image.blend(image, shapes, 0.5)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes; indexed with histogram, under which a part of a scene is not always the nearest."""
    base = tmp_path_factory.mktemp("album")
    (base / "photos").mkdir()
    for seed in range(12):
        draw_scene(seed).save(base / "photos" / f"scene_{seed:02}.jpg", quality=95)
    oneshot.ingest(base / "ix", [base / "photos"], HISTOGRAM)
    return base


@pytest.fixture
def opened(album: Path) -> Iterator[Collection]:
    with Collection.open(album / "ix") as collection:
        yield collection


def encode(image: Image.Image, quality: int = 60) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def test_a_part_of_a_picture_is_found_first_with_its_box(opened: Collection):
    for seed in (2, 7):
        part = draw_scene(seed).crop((96, 72, 384, 288))
        answer = opened.search(encode(part), k=5, rerank="geometric")
        first, *others = answer.hits
        assert (Path(first.path).name, first.rank, answer.rerank) == (f"scene_{seed:02}.jpg", 1, "geometric100")
        assert first.verification is not None
        assert (first.verification.mark, first.verification.whole) == ("part of", "hit")
        assert first.verification.hit_box == pytest.approx((0.2, 0.2, 0.8, 0.8), abs=0.02)
        assert [hit.verification for hit in others] == [UNVERIFIED] * 4
        assert [hit.rank for hit in others] == [2, 3, 4, 5]


def test_a_crop_of_a_query_is_what_is_compared(opened: Collection):
    example = Example(encode(draw_scene(4), 95), crop=Crop(0.5, 0.25, 0.4, 0.5))
    first = opened.search(example, rerank="geometric").hits[0]
    assert Path(first.path).name == "scene_04.jpg"
    assert first.verification is not None
    assert first.verification.hit_box == pytest.approx((0.5, 0.25, 0.9, 0.75), abs=0.02)


def test_a_hit_that_is_a_part_of_the_query_has_its_box_in_the_query(opened: Collection):
    framed = ImageOps.expand(draw_scene(5), (120, 60, 120, 60), "navy")
    first = opened.search(encode(framed, 90), rerank="geometric").hits[0]
    assert Path(first.path).name == "scene_05.jpg"
    assert first.verification is not None
    assert (first.verification.mark, first.verification.whole, first.verification.hit_box) == ("part of", "query", None)
    assert first.verification.box == pytest.approx((1 / 6, 1 / 8, 5 / 6, 7 / 8), abs=0.03)


@pytest.mark.parametrize("kind", ["mirrored", "resized", "re-encoded"])
def test_a_copy_is_the_same_picture_and_says_how_it_differs(opened: Collection, kind: str):
    scene = draw_scene(9)
    edited = {"mirrored": ImageOps.mirror(scene), "resized": scene.resize((240, 180)), "re-encoded": scene}[kind]
    first = opened.search(encode(edited), rerank="geometric").hits[0]
    assert Path(first.path).name == "scene_09.jpg"
    assert first.verification is not None
    assert (first.verification.mark, first.verification.box) == ("same picture", None)
    assert kind in first.verification.kinds


def test_a_picture_that_is_not_there_leaves_the_order_as_it_is(opened: Collection):
    strange = encode(draw_scene(99))
    plain, verified = opened.search(strange, k=12).hits, opened.search(strange, k=12, rerank="geometric").hits
    assert [(hit.image_id, hit.similarity, hit.rank) for hit in verified] == [
        (hit.image_id, hit.similarity, hit.rank) for hit in plain
    ]
    assert {hit.verification for hit in verified} == {UNVERIFIED}


def test_pages_of_results_follow_the_verified_order(opened: Collection):
    part = encode(draw_scene(3).crop((0, 0, 240, 200)))
    every = opened.search(part, k=12, rerank="geometric").hits
    pages = [opened.search(part, k=5, offset=offset, rerank="geometric").hits for offset in (0, 5, 10)]
    assert [hit for page in pages for hit in page] == list(every)
    assert opened.search(part, k=None, rerank="geometric").hits == every


def test_only_as_many_hits_as_named_are_compared(opened: Collection):
    hits = opened.search(encode(draw_scene(1)), k=12, rerank="geometric3").hits
    assert [hit.verification is None for hit in hits] == [False] * 3 + [True] * 9


def test_a_hit_whose_file_is_gone_is_not_verified_and_is_told(album: Path, tmp_path: Path):
    shutil.copytree(album / "photos", tmp_path / "photos")
    oneshot.ingest(tmp_path / "ix", [tmp_path / "photos"], HISTOGRAM)
    (tmp_path / "photos" / "scene_06.jpg").unlink()
    with Collection.open(tmp_path / "ix") as collection:
        answer = collection.search(encode(draw_scene(6)), rerank="geometric", k=12)
    assert {hit.verification for hit in answer.hits} == {UNVERIFIED}
    assert answer.notes == ("1 hits could not be read or have changed, so they are not verified",)


def test_several_examples_cannot_be_verified(opened: Collection):
    with pytest.raises(UsageError, match="only the hits of one positive example picture can be verified"):
        opened.search([1, 2], rerank="geometric")


def test_the_step_joins_others_and_its_text_is_canonical():
    assert str(RerankMethod.parse("geometric+pca64+aqe")) == "pca64+aqe5+geometric100"
    assert RerankMethod.parse("geometric30").has_plain_similarities
    assert not RerankMethod.parse("geometric30+aqe5").has_plain_similarities


def test_a_measurement_by_vectors_refuses_the_step(album: Path):
    done = run("tune", "--rerank", "geometric", "--in", "ix", cwd=album)
    assert (done.returncode, done.stdout) == (2, "")
    assert "geometric100 needs pixels or examples" in done.stderr


def test_the_command_shows_marks_in_table_json_and_sheet(album: Path, tmp_path: Path):
    (tmp_path / "part.jpg").write_bytes(encode(draw_scene(8).crop((96, 72, 384, 288))))
    done = run(
        "query", tmp_path / "part.jpg", "--verify", "-k", 3, "--sheet", tmp_path / "s.png", "--in", "ix", cwd=album
    )
    assert done.returncode == 0
    assert "query is a part" in done.stdout
    assert done.stdout.count("unverified") == 2
    with Image.open(tmp_path / "s.png") as sheet:
        colors = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert (np.abs(colors.astype(int) - (0xFF, 0xD2, 0x3F)).sum(1) == 0).sum() > 500  # the box
    told = read_document("query", tmp_path / "part.jpg", "--verify", "-k", 2, "--in", "ix", cwd=album)["hits"]
    assert told[0]["verification"]["mark"] == "part of"
    assert told[0]["verification"]["box"] == pytest.approx([0.2, 0.2, 0.8, 0.8], abs=0.02)
    assert told[1]["verification"] == UNVERIFIED.to_dict()


def test_a_hit_without_verification_has_none_in_json():
    hit = Hit(1, 0.5, 7, "a.jpg", ("a.jpg",), View("original", {}))
    assert "verification" not in hit.to_dict()
    assert hit.to_api_dict()["verification"] is None
