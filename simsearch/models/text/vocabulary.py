"""The words that stand for ImageNet classes: names, synonyms, parents and kinds, from WordNet 3.0.

`vocabulary.tsv.gz` is made by `training/words.py`; its license is in `WORDNET_LICENSE.txt`. Each line is a word, a tab,
and the positions of its classes as ascending ranges.
"""

from __future__ import annotations

import difflib
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("vocabulary.tsv.gz")
_WORD = re.compile(r"[^\W_]+(?:['.-][^\W_]+)*\.?")
_PLURALS = (
    ("s", ""),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)
"""Endings of regular plurals, and what replaces them (WordNet's `morphy`, noun rules)."""

_MAX_PARTS = 5
_N_NEAREST = 4
_FILLERS = frozenset(
    [
        *("a", "an", "and", "at", "by", "for", "from", "in", "is", "it", "its", "of", "on", "or", "that", "the"),
        *("this", "to", "with", "photo", "photograph", "picture", "image"),
    ]
)
"""Words without a meaning for a picture; they are left out of a text unless they are part of a word."""


@dataclass(frozen=True, slots=True)
class KnownWord:
    """A word of the vocabulary, and the ascending positions of its classes."""

    word: str
    classes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParsedText:
    """The words found in a text, in its order, and the parts of it that are not in the vocabulary."""

    known: tuple[KnownWord, ...]
    unknown: tuple[str, ...]


def list_words() -> list[str]:
    """All words of the vocabulary, in alphabetical order."""
    return list(_load())


def find_word(text: str) -> KnownWord | None:
    """Find a word, also in the plural or the singular; None if the vocabulary does not have it."""
    words = _load()
    for form in _list_forms(" ".join(text.lower().split())):
        if form in words:
            return KnownWord(form, _parse_ranges(words[form]))
    return None


def parse_text(text: str) -> ParsedText:
    """Find the words of a text: from the left, the longest first. Fillers such as `a` and `of` are left out."""
    parts = _WORD.findall(text.lower().replace("_", " "))
    known: list[KnownWord] = []
    unknown: list[str] = []
    start = 0
    while start < len(parts):
        for end in range(min(len(parts), start + _MAX_PARTS), start, -1):
            word = find_word(" ".join(parts[start:end]))
            if word is not None and (end > start + 1 or parts[start] not in _FILLERS):
                known.append(word)
                start = end
                break
        else:
            if parts[start] not in _FILLERS:
                unknown.append(parts[start])
            start += 1
    return ParsedText(tuple(known), tuple(unknown))


def find_nearest_words(text: str) -> list[str]:
    """Find the words spelled most similarly to the parts of a text, the nearest first."""
    parts = [text.lower()] if len(parsed := parse_text(text).unknown) < 2 else parsed[:_N_NEAREST]
    n_each = _N_NEAREST // len(parts)
    near = [word for part in parts for word in difflib.get_close_matches(part, _load(), n=n_each, cutoff=0.5)]
    return list(dict.fromkeys(near))


def _list_forms(word: str) -> Iterator[str]:
    yield word
    for ending, replacement in _PLURALS:
        if word.endswith(ending):
            yield word.removesuffix(ending) + replacement
    yield word + "s"  # binocular: WordNet has the plural only


@cache
def _load() -> dict[str, str]:
    lines = gzip.decompress(_FILE.read_bytes()).decode("utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


def _parse_ranges(text: str) -> tuple[int, ...]:
    ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    return tuple(position for one in ends for position in range(one[0], one[-1] + 1))
