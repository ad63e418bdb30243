"""Similarities of augmented views, and how clearly they tell images apart; with a network: `test_compare.py`."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from simsearch.images.augmentation import Transformation
from simsearch.images.views import Augmentation
from simsearch.study.augmented import AugmentedSimilarities, Separation, measure_separations
from simsearch.study.study import run_study
from tests.conftest import HISTOGRAM, draw_picture


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("augmented")
    return [str(draw_picture(folder / f"{seed}.png", seed)) for seed in range(3)]


def test_the_views_of_a_picture_do_not_depend_on_what_is_named_beside_it(pictures):
    augmentation = Augmentation(4, seed=1)
    some, reversed_ = (
        run_study(paths, [HISTOGRAM], augmentation).augmented
        for paths in (pictures[:2], [*pictures[2:], *pictures[1::-1]])
    )
    np.testing.assert_array_equal(some.select_own("histogram"), reversed_.select_own("histogram")[:0:-1])
    other_seed = run_study(pictures[:2], [HISTOGRAM], Augmentation(4, seed=2)).augmented
    assert (some.select_own("histogram") != other_seed.select_own("histogram")).all()


def by_hand(**similarities: list[list[list[float]]]) -> AugmentedSimilarities:
    """Two images and a copy of the first one, with two views each."""
    views = (Transformation(), Transformation())
    arrays = {name: np.array(values) for name, values in similarities.items()}
    return AugmentedSimilarities(("a", "b", "a"), Augmentation(2), (views,) * 3, arrays)


HARD = [[[0.8, 0.1, 0.8], [0.6, 0.7, 0.6]], [[0.2, 0.9, 0.2], [0.3, 0.9, 0.3]], [[0.8, 0.1, 0.8], [0.6, 0.7, 0.6]]]
CLEAR = [[[0.9, 0.1, 0.9], [0.8, 0.2, 0.8]], [[0.2, 0.9, 0.2], [0.1, 0.8, 0.1]], [[0.9, 0.1, 0.9], [0.8, 0.2, 0.8]]]


def test_own_and_others_are_told_apart_and_a_copy_is_no_other():
    found = measure_separations(by_hand(hard=HARD))["hard"]
    assert sorted(found.own.ravel().tolist()) == [0.6, 0.6, 0.8, 0.8, 0.9, 0.9]
    # The views of either copy to the other image, and those of the other image to both copies.
    assert sorted(found.others.tolist()) == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.7, 0.7]
    assert found.n_nearest == 4  # 0.6 < 0.7, of both copies
    np.testing.assert_array_equal(by_hand(hard=HARD).find_highest_other("hard"), [[0.1, 0.7], [0.2, 0.3], [0.1, 0.7]])


def test_sensitivity_is_the_gap_in_units_of_the_scatter():
    found = Separation(np.array([[0.9, 0.7]]), np.array([0.1, 0.3, 0.1, 0.3]), 2)
    assert found.gap == pytest.approx(0.6)
    assert found.sensitivity == pytest.approx(6)  # both kinds scatter by 0.1
    assert Separation(np.array([[0.5]]), np.array([0.2]), 1).sensitivity == math.inf
    assert Separation(np.array([[0.5]]), np.array([0.5]), 0).sensitivity == 0


def test_separation_is_complete_where_the_least_own_is_above_the_greatest_other():
    found = measure_separations(by_hand(hard=HARD, clear=CLEAR))
    assert (found["clear"].is_complete, found["hard"].is_complete) == (True, False)
    assert not Separation(np.array([[0.9, 0.5]]), np.array([0.5]), 1).is_complete


def test_the_clearest_backbone_comes_first():
    assert list(measure_separations(by_hand(hard=HARD, clear=CLEAR))) == ["clear", "hard"]


def test_scale_alone_makes_no_backbone_clearer():
    """A network whose similarities lie close together separates as clearly as one that spreads them."""
    squeezed = (np.array(CLEAR) * 0.1 + 0.9).tolist()
    found = measure_separations(by_hand(clear=CLEAR, squeezed=squeezed))
    assert found["squeezed"].sensitivity == pytest.approx(found["clear"].sensitivity)
    assert found["squeezed"].gap == pytest.approx(found["clear"].gap / 10)


def test_copies_alone_have_no_others(pictures):
    twice = run_study([pictures[0], Path(pictures[0])], [HISTOGRAM], Augmentation(2))
    assert twice.separations == {}
    assert twice.augmented.similarities["histogram"].shape == (2, 2, 2)
