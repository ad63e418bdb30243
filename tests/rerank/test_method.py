"""How improvements are named, and what a wrong name is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simsearch.errors import UsageError
from simsearch.rerank.method import RerankMethod


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("none", "none"),
        ("pca", "pca256"),
        ("pca128", "pca128"),
        ("whiten", "whiten256"),
        ("whiten064", "whiten64"),
        ("dba", "dba5"),
        ("dba10", "dba10"),
        ("aqe", "aqe5"),
        ("k-reciprocal", "k-reciprocal20"),
        ("k-reciprocal10", "k-reciprocal10"),
        ("pca+k-reciprocal", "pca256+k-reciprocal20"),
        (" AQE5 + dba5+PCA256 ", "pca256+dba5+aqe5"),
        ("k-reciprocal+aqe+dba+whiten", "whiten256+dba5+aqe5+k-reciprocal20"),
    ],
)
def test_text_is_read_into_one_canonical_form(text: str, canonical: str):
    assert str(RerankMethod.parse(text)) == canonical


_neighbors = st.none() | st.integers(1, 100)
_projections = st.sampled_from(["pca", "whiten"])


@given(st.none() | st.integers(1, 4096), _projections, _neighbors, _neighbors, _neighbors)
def test_every_method_is_read_back_from_its_text(width, projection, dba, aqe, k_reciprocal):
    method = RerankMethod(**{projection: width}, dba=dba, aqe=aqe, k_reciprocal=k_reciprocal)
    assert RerankMethod.parse(str(method)) == method


@given(st.permutations(["pca64", "dba", "aqe7", "k-reciprocal"]))
def test_the_order_of_the_words_does_not_matter(words: list[str]):
    assert str(RerankMethod.parse("+".join(words))) == "pca64+dba5+aqe7+k-reciprocal20"


@given(st.text(max_size=20))
def test_any_text_is_a_method_or_a_usage_error_of_one_line(text: str):
    try:
        outcome = str(RerankMethod.parse(text))
    except UsageError as error:
        outcome = str(error)
    assert len(outcome.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pcaa", "did you mean 'pca'"),
        ("k-recipocal10", "did you mean 'k-reciprocal'"),
        ("reciprocal", "did you mean 'k-reciprocal'"),
        ("zebra", "the steps are pca, whiten, dba, aqe, k-reciprocal"),
        ("", "unknown re-ranking step ''"),
        ("pca++dba", "unknown re-ranking step ''"),
        ("256pca", "unknown re-ranking step '256pca'"),
        ("dba-5", "unknown re-ranking step 'dba-5'"),
        ("dba0", "the number of dba0 is too small; give 1 or more, such as dba5"),
        ("aqe101", "aqe101 has too many neighbors; give 100 or fewer"),
        ("pca1234567890", "unknown re-ranking step"),
        ("dba5+dba6", "'dba5+dba6' has the step dba twice"),
        ("pca+whiten64", "pca and whiten are both projections; use one of them"),
        ("none+pca", "joins none to another step"),
    ],
)
def test_invalid_text_is_refused_with_advice(text: str, message: str):
    with pytest.raises(UsageError) as raised:
        RerankMethod.parse(text)
    assert message in str(raised.value)


def test_a_projection_says_its_width_and_its_whitening():
    assert [(m.width, m.whitening) for m in map(RerankMethod.parse, ["none", "pca64", "whiten32"])] == [
        (None, 0.0),
        (64, 0.0),
        (32, 1.0),
    ]
