"""Questions to real photographs, with the network that ships with the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simsearch import Collection
from simsearch.evaluation.embedding import list_images, load_vectors
from simsearch.evaluation.ranking import Ranker
from simsearch.rerank.method import RerankMethod
from simsearch.search.examples import Crop, Example
from simsearch.store.catalog import Catalog
from tests.conftest import SHARED
from tests.support.servers import serving

pytestmark = pytest.mark.long

PHOTOS = SHARED / "photos" / "caltech101_small"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, copy_photographs: Callable[[str, Path], Path]) -> Path:
    return copy_photographs("builtin", tmp_path_factory.mktemp("photographs") / "indexed")


def kind(path: str) -> str:
    return Path(path).parent.name


def precision_at_10(collection: Path, method: str) -> float:
    """Of every fifth photograph, itself left out: the share of its ten nearest that are of its kind."""
    with Collection.open(collection) as opened:
        ids = range(1, 1201, 5)
        kinds = [kind(path) for path in opened.files_of(ids, ".")]
        answers = [opened.search(image_id, rerank=method, exclude_self=True).hits for image_id in ids]
    return float(np.mean([kind(hit.path) == own for hits, own in zip(answers, kinds, strict=True) for hit in hits]))


def test_methods_find_more_of_the_same_kind(indexed: Path):
    plain, projected, blended, all_ = (
        precision_at_10(indexed, method)
        for method in ("none", "pca128", "pca128+dba5", "pca128+dba5+aqe5+k-reciprocal20")
    )
    assert plain > 0.55
    assert projected > plain
    assert blended > projected + 0.02
    assert all_ > blended + 0.02


def test_an_unknown_photograph_gets_the_answers_that_the_benchmark_measures(indexed: Path, tmp_path: Path):
    """Three photographs, cut smaller so that their contents are new, under all improvements at once."""
    method = "pca128+dba5+aqe5+k-reciprocal20"
    with Catalog.open(indexed) as catalog:
        stored = catalog.list_models()[0]
        items = list_images(catalog, list(catalog.iterate_paths()))
        ranker = Ranker(load_vectors(catalog, stored, [item.digest for item in items]), RerankMethod.parse(method))
    with Collection.open(indexed) as opened:
        for image_id in (40, 500, 1100):
            with Image.open(opened.files_of([image_id], tmp_path)[0]) as picture:
                picture.crop((5, 5, picture.width - 9, picture.height - 9)).save(tmp_path / "part.png")
            hits = opened.search(tmp_path / "part.png", k=None, rerank=method).hits
            embedder = opened._embedders[stored.fingerprint]
            from simsearch.images.decode import decode_square, read_raw_file

            raw = read_raw_file(str(tmp_path / "part.png"), has_picture_extension=True, max_pixels=10**9)
            _, square = decode_square(raw, stored.model.resize_rule, max_pixels=10**9)
            (block,) = ranker.rank(embedder.embed(square[None]), np.array([-1]), [np.empty(0, np.int64)])
            paths = [items[at].paths[0] for at in block.order[0]]
            agreeing = np.mean([hit.path == path for hit, path in zip(hits[:100], paths[:100], strict=True)])
            assert agreeing > 0.95  # the network rounds anew in each run
            similarities = {hit.path: hit.similarity for hit in hits}
            np.testing.assert_allclose(
                [similarities[path] for path in paths], block.similarities[0, block.order[0]], atol=1e-3
            )


def test_a_part_of_a_photograph_finds_what_it_shows(indexed: Path, tmp_path: Path):
    """Two photographs side by side: a crop asks for the one or the other."""
    with Collection.open(indexed) as opened:
        first, second = (
            Image.open(file).convert("RGB").resize((300, 200)) for file in opened.files_of([1, 700], tmp_path)
        )
        both = Image.new("RGB", (600, 200))
        both.paste(first, (0, 0))
        both.paste(second, (300, 0))
        both.save(tmp_path / "both.png")
        for crop, image_id in ((Crop(0, 0, 300, 200), 1), (Crop(0.5, 0, 0.5, 1), 700)):
            assert opened.search(Example(tmp_path / "both.png", crop=crop)).hits[0].image_id == image_id
        assert opened.search([1, Example(700, -0.5)], k=1).hits[0].image_id == 1


def test_a_photograph_from_an_address_and_under_a_filter(indexed: Path, tmp_path: Path):
    with Collection.open(indexed) as opened:
        file = Path(opened.files_of([33], tmp_path)[0])
        with serving({"/photo.jpg": file.read_bytes()}) as address:
            hits = opened.search(f"{address}/photo.jpg", k=None, where="class = anchor and aspect > 1").hits
    everything = sorted((PHOTOS / "anchor").iterdir())
    wide = []
    for path in everything:
        with Image.open(path) as picture:
            wide += [str(path.resolve())] if picture.width > picture.height else []
    assert {hit.path for hit in hits} == set(wide)
    assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)
