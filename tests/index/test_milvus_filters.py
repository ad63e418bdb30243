"""A condition matches the same rows in Milvus and in the catalog.

`SIMSEARCH_TEST_MILVUS=http://127.0.0.1:19530` tests with a server, whose parser is not that of Milvus Lite.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from simsearch.filters import compile_sql, parse
from simsearch.index.milvus.filter import compile_filter
from simsearch.models.choice import resolve_model
from simsearch.store.catalog import Catalog
from simsearch.store.writer import CatalogWriter
from tests.conftest import HISTOGRAM
from tests.filters.test_sql import COLUMNS, ROWS, drawn_condition
from tests.support.milvus_catalogs import FINGERPRINT, entry, milvus_uri, move_to_milvus, searched, unit_rows

pytestmark = pytest.mark.long

WIDTH = 8
BELOW_ALL = -1.1


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory):
    """The test rows, every second image with two views, in a catalog and in Milvus Lite."""
    folder = tmp_path_factory.mktemp("filters") / "collection"
    vectors = iter(unit_rows(2 * len(ROWS), WIDTH))
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        stored = writer.add_model(resolve_model(HISTOGRAM), WIDTH, FINGERPRINT)
        seen: set[int] = set()
        for row in ROWS:
            views = [] if row.id in seen else [next(vectors) for _ in range(1 + row.id % 2)]
            facts = {"width": row.width, "height": row.height, "format": row.format, "taken": row.taken}
            facts |= {"camera": row.camera, "size": row.size, "mtime_ns": row.mtime_ns}
            writer.record_files([entry(row.path, row.id, views, **facts)], stored.id)
            seen.add(row.id)
        ids = {int(digest, 16): image_id for _, image_id, digest in writer.iterate_contents()}
        own = {(ids[row.id], name): value for row in ROWS for name, value in row.own.items() if value is not None}
        writer.annotate([(*key, value) for key, value in own.items()])
    move_to_milvus(folder, milvus_uri(folder))
    with searched(folder) as (catalog, indexes):
        yield catalog, indexes.open_index(FINGERPRINT)


def wanted(catalog: Catalog, text: str) -> np.ndarray:
    stored = catalog.find_model(FINGERPRINT)
    return catalog.find_matching_ids(stored.id, compile_sql(parse(text), COLUMNS))


def found(milvus, text: str) -> np.ndarray:
    catalog, index = milvus
    part = index.select_matching(parse(text), lambda: wanted(catalog, text))
    _, ids = part.range_search(np.eye(WIDTH, dtype=np.float32)[0], BELOW_ALL)
    assert len(part) == len(ids)
    return np.sort(ids)


def test_hundreds_of_random_conditions_match_the_same_rows_in_milvus_and_the_catalog(milvus):
    catalog, index = milvus
    draw = random.Random(11)
    n_telling = n_said = 0
    for _ in range(400):
        text, _ = drawn_condition(draw, 2)
        ids = wanted(catalog, text)
        np.testing.assert_array_equal(found(milvus, text), ids, text)
        n_telling += 0 < len(ids) < len(index)
        n_said += compile_filter(parse(text)) is not None
    assert n_telling > 150
    assert n_said > 100, "too few of them were asked of Milvus itself"


SAID = [
    "width >= 800",
    "width > 799.5 and height < 1e3",
    "width = 800.5",
    "not width = 800.5",
    "megapixels <= 1.44",
    "aspect != 1",
    "size in (0, 999)",
    "size < 1e30",
    "size > -1e30",
    "id between 3 and 9",
    "format in (jpeg, png)",
    "format != gif",
    "modified = 2024-05",
    "modified <= 2023",
    "taken = 2024-05-31",
    "taken < 2024-05",
    "not taken < 2024-05",
    "taken is missing",
    "taken is present",
    "taken in (2023, 2024-06)",
    "camera = 'NIKON D90'",
    "camera != 'NIKON D90'",
    "camera >= 'G'",
    "not camera >= 'G'",
    "camera is missing",
    "camera = ''",
    "class = lamp",
    "class != lamp",
    "class is missing",
    "width is missing",
    "width is present",
    "name = 'Übung.png'",
    "name > 'a'",
    "folder = '/photos/lamp'",
    "path = '/photos/lamp/a.gif'",
    "path glob '/photos/holiday/*'",
    "not path glob '/photos/holiday/*'",
    "price < 20",
    "price = 2.5",
    "price != 20",
    "price >= -3",
    "price is missing",
    "price is present",
    "colour = 'größer'",
    "colour != blue",
    "colour in (blue, 3)",
    "colour < 'b'",
    '("odd column name" = a or price > 1e2) and not (width < 800 or format = png)',
]


@pytest.mark.parametrize("text", SAID)
def test_milvus_evaluates_conditions_with_an_exact_filter(milvus, text: str):
    assert compile_filter(parse(text)) is not None
    np.testing.assert_array_equal(found(milvus, text), wanted(milvus[0], text))


UNSAID = [
    "name ~ 'img'",
    "camera like 'canon%'",
    "path like '/photos/%'",
    "folder glob '/photos/*'",
    "folder = holiday",
    "path = 'lamp/a.gif'",
    "name = 'it''s \"x\"'",
    "shot = 2024-05-01",
    "shot ~ '2024'",
    "width > 100 and (name ~ 'img' or price > 3)",
]


@pytest.mark.parametrize("text", UNSAID)
def test_the_catalog_evaluates_conditions_without_an_exact_filter(milvus, text: str):
    assert compile_filter(parse(text)) is None
    np.testing.assert_array_equal(found(milvus, text), wanted(milvus[0], text))


def test_the_deepest_condition_allowed_runs_in_milvus(milvus):
    text = "width > 100"
    for level in range(8):
        text = f"not ({text} {'or' if level % 2 else 'and'} price > {level})"
    np.testing.assert_array_equal(found(milvus, text), wanted(milvus[0], text))


def test_five_hundred_values_run_in_milvus(milvus):
    text = f"id in ({', '.join(map(str, range(1, 500)))})"
    np.testing.assert_array_equal(found(milvus, text), wanted(milvus[0], text))


ODD = [
    ({"camera": ""}, "camera = ''", "camera is missing"),
    ({"taken": "some day"}, "taken > 2024", "taken is missing"),
    ({"taken": "2024-02-31T00:00:00"}, "taken = 2024-02", "taken > 2024-03"),
    ({"camera": "a\0b"}, "camera > 'a'", "camera is present"),
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory):
    """An image for each value that Milvus cannot store, and one without such a value."""
    folder = tmp_path_factory.mktemp("odd") / "collection"
    with CatalogWriter.open_or_create(folder) as writer, writer.transaction():
        stored = writer.add_model(resolve_model(HISTOGRAM), WIDTH, FINGERPRINT)
        for number, facts in enumerate([{}, *(facts for facts, *_ in ODD), {}, {}, {}]):
            writer.record_files([entry(f"/p/{number}.png", number, unit_rows(1, WIDTH, number), **facts)], stored.id)
        writer.annotate(
            [(6, "price", 2**53 + 1), (7, "price", float("inf")), (8, "colour", "a\0b"), (1, "price", 2**53)]
        )
    move_to_milvus(folder, milvus_uri(folder))
    with searched(folder) as (catalog, indexes):
        yield catalog, indexes.open_index(FINGERPRINT)


@pytest.mark.parametrize(
    "text",
    [text for _, *texts in ODD for text in texts]
    + [f"price > {2**53}", f"price = {2**53 + 1}", f"price >= {2**53}", "price > 1e299", "price is present"]
    + ["colour > 'a'", "colour = 'a'", "width > 0", "not price > 3", "not camera = 'X'", "not taken > 2024"],
)
def test_values_that_milvus_cannot_store_are_filtered_by_the_catalog(odd, text: str):
    catalog, index = odd
    stored = catalog.find_model(FINGERPRINT)
    ids = catalog.find_matching_ids(stored.id, compile_sql(parse(text), catalog.count_columns()))
    part = index.select_matching(parse(text), lambda: ids)
    np.testing.assert_array_equal(np.sort(part.range_search(np.eye(WIDTH, dtype=np.float32)[0], BELOW_ALL)[1]), ids)
