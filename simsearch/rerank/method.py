"""The names of the improvements, and how a user joins them: `pca256+dba5+aqe5`. Imports nothing heavy."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import NoReturn

from simsearch.errors import UsageError

ALPHA = 3.0
"""A neighbour of similarity s weighs s^ALPHA in database augmentation and query expansion (Radenović et al. 2018)."""

MAX_NEIGHBORS = 100
"""More than this many neighbours blur a row rather than sharpen it, and cost memory."""

_DEFAULTS = {"pca": 256, "whiten": 256, "dba": 5, "aqe": 5, "k-reciprocal": 20}
"""The main number of each improvement where none is given, in the order in which they are applied."""

_WORD = re.compile(r"(?P<name>.*?)(?P<number>[0-9]{0,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankMethod:
    """Which improvements are applied, each with its main number, or None where it is not; always in this order.

    `pca` and `whiten` are the width of a projection, of which there can be one: centred PCA, or PCA with full
    whitening. `dba` is the number of neighbours that every row of the database is blended with, `aqe` the number of
    answers that the query is expanded with, `k_reciprocal` the number of neighbours (k1) that must be mutual.

    Raises `UsageError`.
    """

    pca: int | None = None
    whiten: int | None = None
    dba: int | None = None
    aqe: int | None = None
    k_reciprocal: int | None = None

    def __post_init__(self) -> None:
        for name, number in self._list_numbers().items():
            if number is not None and number < 1:
                raise UsageError(
                    f"{name}{number} asks for too little", f"give 1 or more, such as {name}{_DEFAULTS[name]}"
                )
            if number is not None and number > MAX_NEIGHBORS and name not in ("pca", "whiten"):
                raise UsageError(f"{name}{number} asks for too many neighbours", f"give {MAX_NEIGHBORS} or fewer")
        if self.pca is not None and self.whiten is not None:
            raise UsageError("pca and whiten are both projections", "name one of them")

    def __str__(self) -> str:
        """The canonical text form, with every number: `parse` reads it back."""
        return (
            "+".join(f"{name}{number}" for name, number in self._list_numbers().items() if number is not None) or "none"
        )

    @classmethod
    def parse(cls, text: str) -> RerankMethod:
        """From `none`, or names with or without a number, joined by `+`, in any order.

        Raises `UsageError`.
        """
        words = [word.strip().lower() for word in text.split("+")]
        numbers: dict[str, int] = {}
        for word in words if words != ["none"] else []:
            name, number = _parse_word(word, text)
            if name in numbers:
                raise UsageError(f"{text!r} names {name} twice", "name each improvement once")
            numbers[name] = number
        return cls(**{name.replace("-", "_"): number for name, number in numbers.items()})

    @property
    def width(self) -> int | None:
        """The width of the projection, or None where there is none."""
        return self.pca if self.whiten is None else self.whiten

    @property
    def whitening(self) -> float:
        """The exponent of the projection's whitening: 0 is none, 1 is full."""
        return 0.0 if self.whiten is None else 1.0

    def _list_numbers(self) -> dict[str, int | None]:
        return {name: getattr(self, name.replace("-", "_")) for name in _DEFAULTS}


def _parse_word(word: str, text: str) -> tuple[str, int]:
    """The name and the number of one word of `text`."""
    match = _WORD.fullmatch(word)
    if match is None or match["name"] not in _DEFAULTS:
        _refuse_word(word, text)
    return match["name"], int(match["number"] or _DEFAULTS[match["name"]])


def _refuse_word(word: str, text: str) -> NoReturn:
    if word == "none":
        raise UsageError(f"{text!r} joins none to something", "leave out the one or the other")
    near = difflib.get_close_matches(word.rstrip("0123456789"), _DEFAULTS, n=2)
    offer = f"did you mean {' or '.join(near)}? " if near else ""
    known = ", ".join(_DEFAULTS)
    raise UsageError(f"no improvement is called {word!r}", f"{offer}there are {known}, joined by +, or none")
