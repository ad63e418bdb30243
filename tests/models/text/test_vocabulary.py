"""The vocabulary knows the classes, their synonyms and their parents, and finds words in a text."""

from __future__ import annotations

import re

import pytest

from simsearch.models.imagenet import load_classes
from simsearch.models.text.vocabulary import find_nearest_words, find_word, list_words, parse_text

CLASSES = {one.label: position for position, one in enumerate(load_classes())}


def test_it_has_more_than_4000_words():
    assert len(list_words()) >= 4000


def test_it_knows_every_class_by_its_name():
    unknown = []
    for position, one in enumerate(load_classes()):
        word = find_word(one.name)
        if word is None or position not in word.classes:
            unknown.append(one.name)
    assert len(unknown) <= 10, unknown  # names in which WordNet has a more frequent meaning with 5 or more classes


@pytest.mark.parametrize(
    ("word", "inside", "outside"),
    [
        ("dog", "dalmatian", "timber wolf"),
        ("bird", "goldfinch", "airliner"),
        ("vehicle", "minivan", "table lamp"),
        ("furniture", "rocking chair", "minivan"),
        ("fruit", "strawberry", "broccoli"),
        ("lamp", "table lamp", "vase"),
        ("cat", "tabby", "lion"),
        ("taxi", "cab", "minivan"),
        ("greenbottle", "fly", "bee"),
    ],
)
def test_a_word_stands_for_its_classes(word: str, inside: str, outside: str):
    found = find_word(word)
    assert found is not None
    assert CLASSES[inside] in found.classes
    assert CLASSES[outside] not in found.classes


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ("Dogs", "dog"),
        ("butterflies", "butterfly"),
        ("boxes", "box"),
        ("mice", "mice"),
        ("binocular", "binoculars"),
        ("  table   LAMPS ", "table lamp"),
    ],
)
def test_plural_and_singular_are_the_same_word(form: str, word: str):
    found = find_word(form)
    assert found is not None
    assert found.word == word


def test_the_longest_words_of_a_text_are_found_and_fillers_left_out():
    parsed = parse_text("A photo of the Red Pandas, with an acoustic_guitar: on a blorp!")
    assert [word.word for word in parsed.known] == ["red panda", "acoustic guitar"]
    assert parsed.unknown == ("blorp",)


@pytest.mark.parametrize("text", ["", "  ", "!?", "the of a"])
def test_a_text_without_words_has_none(text: str):
    assert parse_text(text).known == parse_text(text).unknown == ()


def test_the_nearest_words_are_those_spelled_alike():
    assert find_nearest_words("vaze")[0] == "vase"
    assert {"bottle", "chair"} <= set(find_nearest_words("bottl chiar"))
    assert find_nearest_words("qqqqqqqq") == []


def test_words_are_in_lower_case_and_classes_in_range():
    for word in list_words():
        assert re.fullmatch(r"[a-z0-9'./ -]+", word)
        found = find_word(word)
        assert found is not None
        assert found.word == word
        assert list(found.classes) == sorted(set(found.classes))
        assert 0 <= found.classes[0] <= found.classes[-1] < 1000
