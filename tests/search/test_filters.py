"""`where`: answers among the images that match, against NumPy over all of them; and what can be asked about."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection
from simsearch.errors import UsageError
from simsearch.images.metadata import ExifMetadata
from simsearch.images.views import ViewChoice
from simsearch.index import exact
from simsearch.models.choice import resolve_model
from simsearch.search import Hit
from simsearch.sources.scan import FoundFile
from simsearch.store.catalog import EmbeddedView, FileEntry, ImageProperties
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM, draw_picture
from tests.support import oneshot

N_IMAGES, WIDTH = 6000, 24


class Row(NamedTuple):
    """An image of the synthetic collection."""

    path: str
    width: int
    height: int
    format: str
    size: int
    taken: str | None
    camera: str | None
    price: float | None
    colour: str | None


class Rows(NamedTuple):
    """A collection of rows; image n has the id n + 1, `vectors` (n, d) are of the originals, `views` of one view."""

    collection: Path
    rows: list[Row]
    vectors: np.ndarray
    views: np.ndarray

    def brute_force(self, query: np.ndarray, matches: Callable[[Row], bool]) -> list[tuple[int, float]]:
        """Ids and similarities of all matching images, each by its better view, by falling similarity."""
        similarities = np.maximum(self.vectors @ query, self.views @ query)
        inside = np.array([at for at, row in enumerate(self.rows) if matches(row)], np.int64)
        order = inside[np.lexsort((inside, -np.round(similarities[inside].astype(np.float64), 6)))]
        return [(int(at) + 1, float(similarities[at])) for at in order]


def drawn_row(draw: random.Random, number: int) -> Row:
    folder = draw.choice(["lamp", "vase", "holiday/2024", "holiday/2023"])
    year = draw.choice(["2022", "2023", "2024"])
    return Row(
        f"/pictures/{folder}/{number:05}.{draw.choice(['jpg', 'png'])}",
        draw.choice([320, 640, 800, 4000]),
        draw.choice([240, 480, 800, 3000]),
        draw.choice(["JPEG", "PNG", "GIF"]),
        draw.randrange(10_000_000),
        draw.choice([None, f"{year}-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}T12:00:00"]),
        draw.choice([None, "FUJIFILM X100V", "NIKON D90"]),
        draw.choice([None, *range(40), 2.5]),
        draw.choice([None, "blue", "dark blue", "red"]),
    )


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    draw, random_ = random.Random(3), np.random.default_rng(3)
    rows = [drawn_row(draw, number) for number in range(N_IMAGES)]
    pair = random_.standard_normal((2, N_IMAGES, WIDTH))
    pair[1] = pair[0] + 0.7 * pair[1]
    vectors, views = (pair / np.linalg.norm(pair, axis=2, keepdims=True)).astype(np.float32)
    collection = tmp_path_factory.mktemp("filters") / "indexed"
    with CatalogWriter.open_or_create(collection) as writer, writer.transaction():
        stored = writer.add_model(resolve_model(HISTOGRAM), WIDTH, "synthetic-0")
        writer.begin_run(stored.id, ["/pictures"])
        writer.record_files(
            [
                FileEntry(
                    FoundFile(row.path, row.size, 0),
                    f"{number:032x}",
                    ImageProperties(row.width, row.height, row.format, ExifMetadata(row.taken, row.camera)),
                    [
                        EmbeddedView("original", "{}", vectors[number]),
                        EmbeddedView("augmented", '{"number": 1, "seed": 0}', views[number]),
                    ],
                )
                for number, row in enumerate(rows)
            ],
            stored.id,
        )
        own = [(number + 1, "price", row.price) for number, row in enumerate(rows) if row.price is not None]
        own += [(number + 1, "colour", row.colour) for number, row in enumerate(rows) if row.colour is not None]
        writer.annotate(own)
    return Rows(collection, rows, vectors, views)


def drawn_test(draw: random.Random) -> tuple[str, Callable[[Row], bool]]:
    """A test as text, and the same in Python."""
    number = draw.randrange(40)
    name = draw.choice(["lamp", "vase", "2024"])
    month = f"{draw.choice([2022, 2023, 2024])}-{draw.randrange(1, 13):02}"
    tests: list[tuple[str, Callable[[Row], bool]]] = [
        (f"width >= {number * 50}", lambda row: row.width >= number * 50),
        (f"megapixels < {number / 10}", lambda row: row.width * row.height / 1e6 < number / 10),
        (f"size between {number * 1000} and 5MB", lambda row: number * 1000 <= row.size <= 5_000_000),
        ("format in (jpeg, gif)", lambda row: row.format in ("JPEG", "GIF")),
        (f"class = '{name}'", lambda row: row.path.split("/")[-2] == name),
        (f"path glob 'vase/*{number}.jpg'", lambda row: "/vase/" in row.path and row.path.endswith(f"{number}.jpg")),
        (f"taken < {month}", lambda row: row.taken is not None and row.taken[:7] < month),
        (f"taken = {month}", lambda row: row.taken is not None and row.taken[:7] == month),
        ("camera is missing", lambda row: row.camera is None),
        ("camera ~ 'x100'", lambda row: row.camera is not None and "X100" in row.camera),
        (f"price < {number}", lambda row: row.price is not None and row.price < number),
        (f"price = {number}", lambda row: row.price == number),
        ("colour like '%blue'", lambda row: row.colour is not None and row.colour.endswith("blue")),
        (f"id <= {number}", lambda row: int(row.path[-9:-4]) + 1 <= number),
    ]  # fmt: skip
    return draw.choice(tests)


def drawn_filter(draw: random.Random, depth: int = 0) -> tuple[str, Callable[[Row], bool]]:
    shape = draw.choice(["test", "test", "not", "and", "or"]) if depth < 3 else "test"
    if shape == "test":
        return drawn_test(draw)
    text, holds = drawn_filter(draw, depth + 1)
    if shape == "not":
        return f"not ({text})", lambda row: not holds(row)
    other_text, other = drawn_filter(draw, depth + 1)
    if shape == "and":
        return f"({text}) and ({other_text})", lambda row: holds(row) and other(row)
    return f"({text}) or ({other_text})", lambda row: holds(row) or other(row)


def assert_equal(hits: tuple[Hit, ...], ranked: list[tuple[int, float]], part: slice) -> None:
    """That part of all that match; images that rounding alone parts may have changed places."""
    similarities = dict(ranked)
    assert len({hit.image_id for hit in hits}) == len(hits)
    np.testing.assert_allclose([hit.similarity for hit in hits], [value for _, value in ranked[part]], atol=2e-6)
    for hit, (image_id, value) in zip(hits, ranked[part], strict=True):
        assert hit.image_id == image_id or abs(similarities[hit.image_id] - value) < 2e-6


@pytest.mark.parametrize("n_filters", [100, pytest.param(1000, marks=pytest.mark.thorough)])
def test_answers_under_random_filters_are_those_of_brute_force(synthetic: Rows, n_filters: int):
    draw = random.Random(n_filters)
    n_matching = []
    with Collection.open(synthetic.collection) as opened:
        for _ in range(n_filters):
            text, holds = drawn_filter(draw)
            image_id, k = draw.randrange(1, N_IMAGES + 1), draw.choice([1, 10, 60])
            ranked = synthetic.brute_force(synthetic.vectors[image_id - 1], holds)
            assert_equal(opened.search(image_id, k=k, where=text).hits, ranked, slice(k))
            n_matching.append(sum(map(holds, synthetic.rows)))
    assert min(n_matching) == 0
    assert any(0 < 2 * n <= exact._COPY_LIMIT for n in n_matching)  # both ways of searching a part are taken
    assert max(n_matching) > exact._COPY_LIMIT


def test_one_in_a_thousand_is_found_exactly(synthetic: Rows):
    def holds(row: Row) -> bool:
        return row.price == 2.5 and row.colour == "red" and row.camera == "NIKON D90" and "lamp" in row.path

    n = sum(map(holds, synthetic.rows))
    assert 1 <= n <= N_IMAGES // 500
    where = "price = 2.5 and colour = red and camera = 'NIKON D90' and class = lamp"
    with Collection.open(synthetic.collection) as opened:
        for image_id in (1, 2500, N_IMAGES):
            hits = opened.search(image_id, k=10, where=where).hits
            assert_equal(hits, synthetic.brute_force(synthetic.vectors[image_id - 1], holds), slice(10))
            assert len(hits) == min(n, 10)


@pytest.mark.parametrize("where", [None, "width >= 640", "class = lamp"])
def test_all_above_a_threshold_are_found(synthetic: Rows, where: str | None):
    def holds(row: Row) -> bool:
        return where is None or (row.width >= 640 if "width" in where else "/lamp/" in row.path)

    query = synthetic.vectors[99]
    everything = synthetic.brute_force(query, holds)
    with Collection.open(synthetic.collection) as opened:
        for threshold in (0.25, 0.6, 0.9999):
            n_above = sum(round(value, 6) >= threshold for _, value in everything)
            hits = opened.search(100, k=None, min_similarity=threshold, where=where).hits
            assert_equal(hits, everything, slice(n_above))
        assert_equal(opened.search(100, k=None, where=where).hits, everything, slice(None))
        assert_equal(opened.search(100, k=None, where=where, offset=37).hits, everything, slice(37, None))
        assert_equal(opened.search(100, k=5, where=where, offset=37).hits, everything, slice(37, 42))


def test_a_filter_that_nothing_matches_is_told_and_no_error(synthetic: Rows):
    with Collection.open(synthetic.collection) as opened:
        answer = opened.search(1, where="width > 99999")
    assert answer.hits == ()
    assert "no image with a vector of histogram matches" in answer.notes[0]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("width >=", r"`where`: expected a number after '>=' at column 9"),
        ("widht > 3", r"unknown field 'widht' at column 1; did you mean 'width'\?"),
        ("price <", "expected a value"),
        ("", "expected a field"),
    ],
)
def test_a_wrong_filter_is_a_usage_error_with_its_place(synthetic: Rows, where: str, message: str):
    with Collection.open(synthetic.collection) as opened, pytest.raises(UsageError, match=message):
        opened.search(1, where=where)


# Real pictures


def test_dates_and_cameras_of_pictures_can_be_asked_about(tmp_path: Path, collection: Path):
    for number, (taken, model) in enumerate(
        [("2023:05:01 10:00:00", "X100V"), ("2024:05:01 10:00:00", None), (None, None)]
    ):
        file = draw_picture(tmp_path / "photos" / f"{number}.png", number)
        exif = Image.Exif()
        if taken:
            exif[0x0132] = taken
        if model:
            exif[0x010F], exif[0x0110] = "FUJIFILM", model
        with Image.open(file) as picture:
            picture.convert("RGB").save(file.with_suffix(".jpg"), exif=exif)
        file.unlink()
    oneshot.ingest(collection, [tmp_path / "photos"], HISTOGRAM)

    def names(where: str) -> set[str]:
        with Collection.open(collection) as opened:
            return {Path(hit.path).name for hit in opened.search(1, where=where).hits}

    assert names("taken = 2024") == {"1.jpg"}
    assert names("taken is missing") == {"2.jpg"}
    assert names("camera = 'FUJIFILM X100V'") == {"0.jpg"}
    with Collection.open(collection) as opened:
        assert opened.info().to_dict()["metadata"] == {"taken": 2, "camera": 1}


def test_dates_of_an_older_catalog_are_filled_in_when_its_pictures_are_decoded_anew(tmp_path: Path, collection: Path):
    import sqlite3

    from simsearch import ModelChoice

    exif = Image.Exif()
    exif[0x0132] = "2024:05:01 10:00:00"
    with Image.open(draw_picture(tmp_path / "0.png", 0)) as picture:
        (tmp_path / "photos").mkdir()
        picture.convert("RGB").save(tmp_path / "photos" / "0.jpg", exif=exif)
    oneshot.ingest(collection, [tmp_path / "photos"], HISTOGRAM)
    with sqlite3.connect(collection / "catalog.db") as connection:
        connection.execute("UPDATE images SET taken_at = NULL")
    connection.close()
    oneshot.ingest(collection, [tmp_path / "photos"], HISTOGRAM)
    with Collection.open(collection) as opened:
        assert opened.info().to_dict()["metadata"]["taken"] == 0
        oneshot.ingest(collection, [tmp_path / "photos"], ModelChoice(backbone="histogram", resize="pad"))
        assert opened.info().to_dict()["metadata"]["taken"] == 1


def test_an_image_with_several_files_matches_by_any_of_them(photos: Path, collection: Path):
    (photos / "b" / "copy.png").write_bytes((photos / "a" / "picture_00.png").read_bytes())
    oneshot.ingest(collection, [photos], HISTOGRAM, augment=ViewChoice(2))
    with Collection.open(collection) as opened:
        hits = opened.search(1, k=20, where="class = b").hits
    assert len(hits) == 7
    assert len(hits[0].paths) == 2


def test_files_that_are_gone_do_not_match(photos: Path, collection: Path):
    oneshot.ingest(collection, [photos], HISTOGRAM)
    oneshot.remove(collection, [str(photos / "a")])
    with Collection.open(collection) as opened:
        assert opened.search(7, where="class = a").hits == ()
        assert len(opened.search(7, k=20, where="width > 0").hits) == 6


@pytest.mark.long
def test_real_photographs_under_a_filter(shared: Path, tmp_path: Path):
    def paths(where: str | None) -> list[Any]:
        with Collection.open(tmp_path / "ix") as opened:
            return [(hit.path, hit.similarity) for hit in opened.search(1, k=None, where=where).hits]

    photos = (shared / "photos" / "caltech101_small").resolve()
    oneshot.ingest(tmp_path / "ix", [photos], HISTOGRAM)
    everything = paths(None)
    assert len(everything) == 1200
    assert paths("class = anchor") == [pair for pair in everything if Path(pair[0]).parent.name == "anchor"]
    wide = set()
    for path, _ in everything:
        with Image.open(path) as picture:
            if picture.width >= 300 and picture.width > picture.height:
                wide.add(path)
    assert paths("width >= 300 and aspect > 1") == [pair for pair in everything if pair[0] in wide]
