"""The re-ranking method: its steps, and their text form `pca256+dba5+aqe5`. Imports nothing heavy."""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass
from typing import NoReturn

from simsearch.errors import UsageError

ALPHA = 3.0
"""A neighbor of similarity s has the weight s^ALPHA in database augmentation and query expansion (Radenović et al.
2018)."""

MAX_NEIGHBORS = 100
"""The most neighbors of a step: more make a row less distinct, and cost memory."""

_DEFAULTS = {"pca": 256, "whiten": 256, "dba": 5, "aqe": 5, "k-reciprocal": 20, "feedback": 200, "geometric": 100}
"""The default number of each step, in the order in which the steps are applied."""

_MAX_FEEDBACK = 1000
"""The most results that `feedback` reorders: its time grows with the third power."""

_WORD = re.compile(r"(?P<name>.*?)(?P<number>[0-9]{0,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankMethod:
    """The steps of a re-ranking method with their numbers; None for a step that is not used. The order is fixed.

    `pca` and `whiten` are the width of the projection, and exclude each other: centered PCA, or PCA with full
    whitening. `dba` is the number of neighbors that every row of the database is blended with, `aqe` the number of
    results that the query is expanded with, `k_reciprocal` the number of neighbors (k1) among which the mutual ones
    count. `feedback` is the number of first results that examples for and against reorder; it takes the place of `aqe`
    and `k_reciprocal`. `geometric` is the number of first results that are compared with the pixels of the query.

    Raises `UsageError` on a number out of range, on two projections, and on feedback beside what it replaces.
    """

    pca: int | None = None
    whiten: int | None = None
    dba: int | None = None
    aqe: int | None = None
    k_reciprocal: int | None = None
    feedback: int | None = None
    geometric: int | None = None

    def __post_init__(self) -> None:
        for name, number in self._list_numbers().items():
            if number is not None and number < 1:
                raise UsageError(
                    f"the number of {name}{number} is too small", f"give 1 or more, such as {name}{_DEFAULTS[name]}"
                )
            most = _MAX_FEEDBACK if name == "feedback" else MAX_NEIGHBORS
            if number is not None and number > most and name not in ("pca", "whiten"):
                what = "results" if name == "feedback" else "neighbors"
                raise UsageError(f"{name}{number} has too many {what}", f"give {most} or fewer")
        if self.pca is not None and self.whiten is not None:
            raise UsageError("pca and whiten are both projections", "use one of them")
        if self.feedback is not None and not self.aqe == self.k_reciprocal == self.geometric is None:
            raise UsageError("feedback takes the place of aqe, k-reciprocal and geometric", "leave them out")

    def with_feedback(self) -> RerankMethod:
        """The method with the step `feedback`, in place of the steps that it replaces."""
        return RerankMethod(pca=self.pca, whiten=self.whiten, dba=self.dba, feedback=_DEFAULTS["feedback"])

    def __str__(self) -> str:
        """The canonical text form, with all numbers; `parse` reads it."""
        return _format_method(self)

    @classmethod
    def parse(cls, text: str) -> RerankMethod:
        """Parse `none`, or step names with or without a number, joined by `+`, in any order.

        Raises `UsageError` on an unknown or repeated step.
        """
        return _parse_method(text)

    @property
    def has_plain_similarities(self) -> bool:
        """Whether the similarities of results are the cosines of the model."""
        return str(self).split("+")[0].rstrip("0123456789") in ("none", "geometric")

    @property
    def width(self) -> int | None:
        """The width of the projection; None without one."""
        return self.pca if self.whiten is None else self.whiten

    @property
    def whitening(self) -> float:
        """The exponent of the whitening: 0 is none, 1 is full."""
        return 0.0 if self.whiten is None else 1.0

    def _list_numbers(self) -> dict[str, int | None]:
        return {name: getattr(self, name.replace("-", "_")) for name in _DEFAULTS}


@functools.lru_cache(256)
def _format_method(method: RerankMethod) -> str:
    numbers = method._list_numbers()
    return "+".join(f"{name}{number}" for name, number in numbers.items() if number is not None) or "none"


@functools.lru_cache(256)
def _parse_method(text: str) -> RerankMethod:
    words = [word.strip().lower() for word in text.split("+")]
    numbers: dict[str, int] = {}
    for word in words if words != ["none"] else []:
        name, number = _parse_word(word, text)
        if name in numbers:
            raise UsageError(f"{text!r} has the step {name} twice", "use each step once")
        numbers[name] = number
    return RerankMethod(**{name.replace("-", "_"): number for name, number in numbers.items()})


def _parse_word(word: str, text: str) -> tuple[str, int]:
    """Parse one word of `text` to the name and the number of a step."""
    match = _WORD.fullmatch(word)
    if match is None or match["name"] not in _DEFAULTS:
        _refuse_word(word, text)
    return match["name"], int(match["number"] or _DEFAULTS[match["name"]])


def _refuse_word(word: str, text: str) -> NoReturn:
    if word == "none":
        raise UsageError(f"{text!r} joins none to another step", "remove one of them")
    near = difflib.get_close_matches(word.rstrip("0123456789"), _DEFAULTS, n=2)
    offer = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    known = ", ".join(_DEFAULTS)
    raise UsageError(f"unknown re-ranking step {word!r}", f"{offer}the steps are {known}, joined by +, or none")
