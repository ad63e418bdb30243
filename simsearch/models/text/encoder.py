"""The interface of a loaded text encoder: from texts to directions in the space of a model's image vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import UsageError


@dataclass(frozen=True, slots=True, eq=False)
class TextDirections:
    """The directions of one text: unit rows (m, d) float32, and messages for the user.

    An image is as similar to the text as to the nearest of its directions. A text tower gives one direction, a word
    such as `dog` one for each kind of dog.
    """

    rows: NDArray[np.float32]
    notes: tuple[str, ...] = ()


class TextEncoder(Protocol):
    """A loaded text encoder of a model. Thread-safe."""

    def encode(self, texts: Sequence[str]) -> list[TextDirections]:
        """Encode texts, each to its directions. Raises `UsageError` for a text that it cannot encode."""
        ...


def check_prompts(prompts: Sequence[str]) -> None:
    """Raise `UsageError` for a template without a place for the text."""
    for prompt in prompts:
        if "{}" not in prompt:
            raise UsageError(f"the prompt {prompt!r} has no place for the text", "write {} where the text goes")


def encode_in_prompts(encoder: TextEncoder, text: str, prompts: Sequence[str] = ()) -> TextDirections:
    """Encode a text in each prompt, or as it is. Single directions are averaged; several are alternatives."""
    found = encoder.encode([prompt.replace("{}", text) for prompt in prompts] or [text])
    rows = np.concatenate([one.rows for one in found])
    notes = tuple(dict.fromkeys(note for one in found for note in one.notes))
    return TextDirections(merge_directions(rows, 1) if len(rows) == len(found) else rows, notes)


def normalize_directions(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Normalize rows (m, d) to unit length; a row of zeros stays."""
    wide = np.asarray(rows, np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))  # `np.linalg.norm` takes several times as long for one row
    units: NDArray[np.float32] = (wide / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)
    return units


def merge_directions(rows: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Merge unit rows (m, d) to at most n, each the direction of the mean of neighbouring rows."""
    if len(rows) <= n:
        return rows
    return normalize_directions(np.stack([part.mean(axis=0) for part in np.array_split(rows, n)]))
