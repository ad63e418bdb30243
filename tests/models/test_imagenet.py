"""The ImageNet classes of the package."""

from __future__ import annotations

import re

from simsearch.models.imagenet import load_classes
from tests.conftest import SHARED


def test_there_are_a_thousand_classes_in_the_order_of_their_identifiers():
    ids = [each.id for each in load_classes()]
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert all(re.fullmatch("n[0-9]{8}", id_) for id_ in ids)


def test_known_outputs_have_their_known_names():
    """As published with every ImageNet network."""
    known = {
        0: "tench",
        134: "crane",
        207: "golden retriever",
        281: "tabby",
        517: "crane",
        883: "vase",
        999: "toilet tissue",
    }
    assert {number: load_classes()[number].name for number in known} == known


def test_only_names_that_two_classes_share_carry_an_identifier():
    shared_names = {each.label for each in load_classes() if each.label != each.name}
    assert shared_names == {"crane (n02012849)", "crane (n03126707)", "maillot (n03710637)", "maillot (n03710721)"}


def test_the_classes_are_those_of_the_sample(shared):
    named = sorted(path.stem for path in (SHARED / "photos" / "imagenet_sample").iterdir())
    assert [f"{each.id}_{each.name.replace(' ', '_')}" for each in load_classes()] == named
