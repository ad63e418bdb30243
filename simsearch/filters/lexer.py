"""The text of `--where` in tokens, and errors that show the place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from simsearch.errors import UsageError
from simsearch.filters.conditions import KEYWORDS, WORD_PATTERN

_TOKEN_PATTERN = re.compile(
    rf"""(?P<blank>\s+)
    | (?P<date>[0-9]+-[0-9][0-9T:-]*)
    | (?P<number>-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<word>{WORD_PATTERN})
    | (?P<text>'(?:[^']|'')*+')
    | (?P<name>"(?:[^"]|"")*+")
    | (?P<sign><=|>=|!=|<>|==|!~|[=<>~(),])""",
    re.VERBOSE,
)

_CONTEXT_BEFORE, _CONTEXT_AFTER = 40, 20


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text: what kind, as it is written, and where, from 0. The last is an `end` that is empty."""

    kind: str
    raw: str
    position: int

    @property
    def text(self) -> str:
        """What it stands for: without the quotes."""
        if self.kind in ("text", "name"):
            return self.raw[1:-1].replace(self.raw[0] * 2, self.raw[0])
        return self.raw

    def __str__(self) -> str:
        shown = make_printable(self.raw if len(self.raw) <= _CONTEXT_AFTER else f"{self.raw[:_CONTEXT_AFTER]}…")
        return shown if self.kind in ("text", "name") else f"'{shown}'"

    @property
    def keyword(self) -> str:
        """The sign, or the word in lower case where it is one of the language."""
        if self.kind == "word" and self.raw.lower() in KEYWORDS:
            return self.raw.lower()
        return self.raw if self.kind == "sign" else ""


def tokenize(text: str) -> list[Token]:
    """The text cut up, without its blanks.

    Raises `UsageError` on a sign of no use and on a quote that is never closed.
    """
    found_so_far, at = [], 0
    while at < len(text):
        found = _TOKEN_PATTERN.match(text, at)
        if found is None:
            raise _build_token_error(text, at)
        if found.lastgroup != "blank":
            found_so_far.append(Token(found.lastgroup or "", found[0], at))
        at = found.end()
    return [*found_so_far, Token("end", "", at)]


def _build_token_error(text: str, at: int) -> UsageError:
    if text[at] in "'\"":
        return build_syntax_error(text, at, "this quote is never closed", "write a quote within a text twice: 'it''s'")
    what = "a sign that means nothing here"
    return build_syntax_error(text, at, what, "put a text with such signs between quotes: path glob '*/2024/*.jpg'")


def build_syntax_error(text: str, at: int, problem: str, advice: str) -> UsageError:
    """An error that shows the place and what is around it. `advice` says how to write it instead."""
    before = ("…" if at > _CONTEXT_BEFORE else "") + text[max(0, at - _CONTEXT_BEFORE) : at]
    after = text[at : at + _CONTEXT_AFTER] + ("…" if len(text) > at + _CONTEXT_AFTER else "")
    return UsageError(
        f"--where: {problem} at column {at + 1}: {make_printable(before)}▮{make_printable(after)}", advice
    )


def make_printable(text: str) -> str:
    """Without what would break a line or a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)
