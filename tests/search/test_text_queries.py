"""Texts as examples: the nearest of their directions counts, alone and together with pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from simsearch import Collection, Example, TextExample
from simsearch.errors import UsageError
from simsearch.models.text.encoder import TextDirections
from simsearch.search.examples import combine_vectors, make_text_examples
from tests.conftest import HISTOGRAM, draw_picture

N = 40


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class RandomEncoder:
    """Directions from a seed per text: `many` has five of them."""

    def __init__(self, width: int) -> None:
        self.width = width

    def encode(self, texts: Sequence[str]) -> list[TextDirections]:
        return [TextDirections(self.draw(text), (f"a note on {text}",)) for text in texts]

    def draw(self, text: str) -> np.ndarray:
        random = np.random.default_rng(sum(text.encode()))
        return unit(random.standard_normal((5 if text == "many" else 1, self.width))).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("texts")
    for seed in range(N):
        draw_picture(home / "pictures" / f"{seed}.png", seed)
    with Collection.open(home / "collection", create=True) as collection:
        collection.ingest([home / "pictures"], HISTOGRAM)
    return home


@pytest.fixture
def collection(folder: Path) -> Iterator[Collection]:
    with Collection.open(folder / "collection") as plain:
        stored = plain.model()
    with Collection.open(
        folder / "collection", text_encoders={stored.fingerprint: RandomEncoder(stored.width)}
    ) as opened:
        yield opened


def read_vectors(collection: Collection) -> tuple[np.ndarray, np.ndarray]:
    """The image ids (n,) and vectors (n, d) of the collection."""
    stored = collection.model()
    ids = collection.catalog.list_original_ids(stored.id)
    views = collection.catalog.find_live_views(ids.tolist())
    vectors = np.concatenate([rows for _, rows in collection.catalog.iterate_vectors(stored, ids)])
    return np.array([views[one].image_id for one in ids.tolist()]), vectors


def rank(ids: np.ndarray, scores: np.ndarray) -> list[int]:
    return ids[np.lexsort((ids, -scores.round(6)))].tolist()


@pytest.mark.parametrize("k", [3, N, None])
@pytest.mark.parametrize("text", ["one", "many"])
def test_images_are_ranked_by_the_nearest_direction(collection: Collection, text: str, k: int | None):
    ids, vectors = read_vectors(collection)
    scores = (vectors @ RandomEncoder(vectors.shape[1]).draw(text).T).max(axis=1)
    answer = collection.search(text=text, k=k)
    assert [hit.image_id for hit in answer.hits] == rank(ids, scores)[:k]
    assert answer.hits[0].similarity == pytest.approx(scores.max(), abs=1e-5)
    assert answer.queries == (text,)
    assert answer.notes == (f"a note on {text}",)


def test_texts_and_pictures_are_summed_with_their_weights(collection: Collection):
    ids, vectors = read_vectors(collection)
    encoder = RandomEncoder(vectors.shape[1])
    queries = unit(vectors[3] + 2 * encoder.draw("many") - encoder.draw("one"))
    examples = [TextExample("many", 2.0), Example(int(ids[3])), TextExample("one", -1.0)]
    answer = collection.search(examples, k=10)
    assert [hit.image_id for hit in answer.hits] == rank(ids, (vectors @ queries.T).max(axis=1))[:10]
    assert answer.queries == ("2:many", str(ids[3]), "-1:one")


def test_a_filter_limits_the_answer_to_a_text(collection: Collection):
    hits = collection.search(text="many", where="name in ('3.png', '5.png')", k=10).hits
    assert {Path(hit.path).name for hit in hits} == {"3.png", "5.png"}


@pytest.mark.parametrize("rerank", ["pca8", "whiten4+dba3", "aqe3", "k-reciprocal5", "pca8+dba3+aqe3+k-reciprocal5"])
def test_a_text_is_answered_under_every_re_ranking_method(collection: Collection, rerank: str):
    assert len(collection.search(text="many", rerank=rerank, k=N).hits) == N


def test_a_projection_does_not_center_a_text(collection: Collection):
    """On all axes the order of a text is that of the cosine to centered vectors."""
    ids, vectors = read_vectors(collection)
    scores = unit(vectors - vectors.mean(axis=0)) @ RandomEncoder(vectors.shape[1]).draw("one")[0]
    found = [hit.image_id for hit in collection.search(text="one", rerank=f"pca{N}", k=10).hits]
    assert found == rank(ids, scores)[:10]


def test_a_backbone_without_texts_says_so(folder: Path):
    with Collection.open(folder / "collection") as plain:
        assert not plain.answers_text()
        with pytest.raises(UsageError, match="histogram cannot answer text queries"):
            plain.search(text="lamp")


# Examples


def test_a_text_may_have_a_weight():
    assert TextExample.parse("2:lamp") == TextExample("lamp", 2.0)
    assert TextExample.parse("lamp: red") == TextExample("lamp: red")
    assert make_text_examples("a", ["b", "c"]) == (TextExample("a"), TextExample("b", -1), TextExample("c", -1))


@pytest.mark.parametrize(("text", "weight", "problem"), [(" ", 1, "text is empty"), ("a", 0, "weight 0")])
def test_an_empty_text_and_a_weight_of_0_are_refused(text: str, weight: float, problem: str):
    with pytest.raises(UsageError, match=problem):
        TextExample(text, weight)


def test_the_number_of_sums_is_limited():
    random = np.random.default_rng(0)
    rows = [unit(random.standard_normal((32, 8))).astype(np.float32) for _ in range(3)]
    examples = [TextExample("a"), TextExample("b"), TextExample("c", -1)]
    assert len(combine_vectors(rows[:1], examples[:1])) == 32
    assert len(combine_vectors(rows[:2], examples[:2])) == 25
    combined = combine_vectors(rows, examples)
    assert len(combined) == 25
    np.testing.assert_allclose(np.linalg.norm(combined, axis=1), 1, atol=1e-6)


def test_texts_that_cancel_out_are_refused():
    row = unit(np.ones((1, 4))).astype(np.float32)
    with pytest.raises(UsageError, match="the examples a, b cancel each other out"):
        combine_vectors([row, row], [TextExample("a"), TextExample("b", -1.0)])
