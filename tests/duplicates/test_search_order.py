"""The order in which images are searched: alike images follow each other."""

from __future__ import annotations

import numpy as np

from simsearch.duplicates.search_order import order_by_likeness
from simsearch.duplicates.similarity_graph import OriginalVectors


def make_originals(n_kinds: int, n_each: int) -> tuple[OriginalVectors, np.ndarray]:
    """Unit vectors in tight groups, shuffled, and the group of each."""
    random = np.random.default_rng(0)
    kinds = random.permutation(np.repeat(np.arange(n_kinds), n_each))
    rows = random.standard_normal((n_kinds, 32))[kinds] + 0.1 * random.standard_normal((len(kinds), 32))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = np.arange(len(kinds))
    return OriginalVectors(ids, rows.astype(np.float32), ids), kinds


def test_every_image_occurs_once_in_the_same_order_each_time():
    originals, _ = make_originals(5, 300)
    rows = np.arange(0, 1500, 2)
    ordered = order_by_likeness(originals, rows)
    assert sorted(ordered) == rows.tolist()
    assert ordered.tolist() == order_by_likeness(originals, rows).tolist()


def test_alike_images_follow_each_other():
    originals, kinds = make_originals(6, 1000)
    ordered = order_by_likeness(originals, np.arange(len(kinds)))
    n_changes = int((np.diff(kinds[ordered]) != 0).sum())
    assert n_changes < 60  # at random: about 5,000


def test_few_images_stay_as_they_are():
    originals, _ = make_originals(3, 20)
    assert order_by_likeness(originals, np.arange(60)).tolist() == list(range(60))
