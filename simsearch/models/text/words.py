"""Encode words by a classification head: without a text tower and without a download.

The weights of a class in the head are the direction in which its score grows. The mean of all classes is subtracted,
which no softmax sees, and what a class has in common with others is reduced by ridge regression: the direction of class
c is `(W'W + r I)^-1 w_c` for the centered weights W, with r three times the mean eigenvalue of W'W.

The directions of a word are those of its classes. For `dog` an image is compared with each breed, not with their mean:
it need not resemble all dogs.

Measured with mobilenet_v2 on `imagenet_sample`, with 246 WordNet parents of 3 or more classes as queries: mAP 0.739
with the mean of the classes, 0.887 with up to 16 directions, 0.894 with up to 32, 0.898 with all of them. With the
built-in network and up to 32: 0.817 without the regression; 0.816, 0.819 and 0.818 with 1, 3 and 10 mean eigenvalues.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError
from simsearch.models.imagenet import load_classes
from simsearch.models.text.encoder import TextDirections, merge_directions, normalize_directions
from simsearch.models.text.heads import Head
from simsearch.models.text.vocabulary import ParsedText, find_nearest_words, list_words, parse_text
from simsearch.text import join_names

_RIDGE = 3.0
_LEAST_SIMILARITY = 0.3
MAX_DIRECTIONS = 32
"""A word of more classes has the directions of groups of classes; neighbouring classes are related."""


class WordEncoder:
    """The words of the vocabulary as directions (m, d), m <= 32, from a head (1000, d)."""

    def __init__(self, backbone: str, head: Head) -> None:
        self._backbone = backbone
        self._classes = _decorrelate_classes(head - head.mean(axis=0))

    def encode(self, texts: Sequence[str]) -> list[TextDirections]:
        """Encode texts by the words in them; unknown words beside known ones are left out, and a note says so.

        Raises `UsageError` for a text without a known word, with the nearest known ones.
        """
        return [self._encode_one(text) for text in texts]

    def name_directions(self, rows: NDArray[np.floating]) -> list[str]:
        """Name each direction (n, d) by the ImageNet class that is most similar to it; empty where none is similar.

        The limit of 0.3 was chosen by eye on 22 clusters of `data/objects`: of the names above it, all 10 but one fit
        (a candlestick is a goblet), below it 2 of 12 do.
        """
        similarities = normalize_directions(rows) @ normalize_directions(self._classes).T
        classes = load_classes()
        return [
            classes[number].name.replace("_", " ") if row[number] >= _LEAST_SIMILARITY else ""
            for row, number in zip(similarities, similarities.argmax(axis=1).tolist(), strict=True)
        ]

    def _encode_one(self, text: str) -> TextDirections:
        parsed = parse_text(text)
        if not parsed.known:
            raise _make_unknown_error(text, self._backbone)
        rows = np.zeros((1, self._classes.shape[1]), np.float32)
        n_each = int(MAX_DIRECTIONS ** (1 / len(parsed.known)))
        for word in parsed.known:
            directions = merge_directions(self._classes[list(word.classes)], n_each)
            rows = (rows[:, None] + normalize_directions(directions)).reshape(-1, rows.shape[1])
        return TextDirections(normalize_directions(rows), _list_notes(parsed, self._backbone))


def _decorrelate_classes(centered: Head) -> Head:
    """Compute `W (W'W + r I)^-1` for W (1000, d), or `(WW' + r I)^-1 W`, which is the same, where d is larger."""
    is_wide = centered.shape[1] > len(centered)
    products = centered @ centered.T if is_wide else centered.T @ centered
    ridge = np.float32(_RIDGE * np.trace(products) / len(products))
    regularized = products + ridge * np.eye(len(products), dtype=np.float32)
    directions: Head = np.linalg.solve(regularized, centered) if is_wide else np.linalg.solve(regularized, centered.T).T
    return directions


def _list_notes(parsed: ParsedText, backbone: str) -> tuple[str, ...]:
    if not parsed.unknown:
        return ()
    used = join_names([word.word for word in parsed.known])
    unknown = ", ".join(parsed.unknown)
    return (f"{backbone} searched for {used}; it does not know: {unknown}",)


def _make_unknown_error(text: str, backbone: str) -> UsageError:
    near = find_nearest_words(text)
    offer = f"the nearest words are {', '.join(near)}; " if near else ""
    return UsageError(
        f"{backbone} knows {len(list_words()):,} words, but not {text!r}",
        f"{offer}for any text, index with a model that has a text tower, such as siglip2_base",
    )
