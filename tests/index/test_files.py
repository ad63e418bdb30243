"""Which index files count as current: their stamps, and those of the delta files beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simsearch.index.exact import ExactIndex
from simsearch.index.files import IndexStamp, is_current, locate_delta, read_footer
from tests.support.synthetic import WIDTH, clustered

STAMP = IndexStamp(collection="mine", fingerprint="net-1", change_token=5, n_vectors=20)


def save_index(file: Path, stamp: IndexStamp, n: int = 20) -> None:
    index = ExactIndex.create_empty(WIDTH)
    index.add(np.arange(n), clustered(n, seed=1))
    index.save(file, stamp)


@pytest.mark.parametrize(
    "change",
    [{"collection": "other"}, {"fingerprint": "net-2"}, {"derivation": "pca4"}, {"change_token": 6}, {"n_vectors": 21}],
    ids=str,
)
def test_an_index_of_other_vectors_or_of_another_state_is_not_current(change: dict[str, object], tmp_path: Path):
    save_index(tmp_path / "a.faiss", STAMP)
    footer = read_footer(tmp_path / "a.faiss")
    assert footer is not None
    assert is_current(tmp_path / "a.faiss", footer, STAMP)
    assert is_current(tmp_path / "a.faiss", footer, replace(STAMP, kind="hnsw"))  # the same vectors, in another index
    assert not is_current(tmp_path / "a.faiss", footer, replace(STAMP, **change))


def test_a_delta_file_counts_with_the_base_that_it_was_made_for_only(tmp_path: Path):
    base, now = tmp_path / "a.faiss", replace(STAMP, change_token=6, n_vectors=23)
    save_index(base, STAMP)
    footer = read_footer(base)
    assert footer is not None
    assert not is_current(base, footer, now)
    save_index(locate_delta(base), replace(now, base=footer.digest), n=3)
    assert is_current(base, footer, now)
    save_index(locate_delta(base), replace(now, base="0" * 32), n=3)
    assert not is_current(base, footer, now)
    save_index(locate_delta(base), replace(now, base=footer.digest, collection="other"), n=3)
    assert not is_current(base, footer, now)
