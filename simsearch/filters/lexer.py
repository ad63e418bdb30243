"""The lexer of `--where`, and syntax errors that show the position."""

from __future__ import annotations

import re
from dataclasses import dataclass

from simsearch.errors import UsageError
from simsearch.filters.conditions import KEYWORDS, WORD_PATTERN
from simsearch.text import clean_text

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
    """A token: its kind, its text as written, and its offset in the text, from 0. The last token is an empty `end`."""

    kind: str
    raw: str
    position: int

    @property
    def text(self) -> str:
        """The value of the token, without quotes."""
        if self.kind in ("text", "name"):
            return self.raw[1:-1].replace(self.raw[0] * 2, self.raw[0])
        return self.raw

    def __str__(self) -> str:
        shown = clean_text(self.raw if len(self.raw) <= _CONTEXT_AFTER else f"{self.raw[:_CONTEXT_AFTER]}…")
        return shown if self.kind in ("text", "name") else f"'{shown}'"

    @property
    def keyword(self) -> str:
        """The operator sign, or the keyword in lower case; empty for any other token."""
        if self.kind == "word" and self.raw.lower() in KEYWORDS:
            return self.raw.lower()
        return self.raw if self.kind == "sign" else ""


def tokenize(text: str) -> list[Token]:
    """Split the text into tokens, without blanks.

    Raises `UsageError` on a character that the language does not use and on a quote that is not closed.
    """
    tokens, position = [], 0
    while position < len(text):
        found = _TOKEN_PATTERN.match(text, position)
        if found is None:
            raise _build_token_error(text, position)
        if found.lastgroup != "blank":
            tokens.append(Token(found.lastgroup or "", found[0], position))
        position = found.end()
    return [*tokens, Token("end", "", position)]


def _build_token_error(text: str, position: int) -> UsageError:
    if text[position] in "'\"":
        advice = "close it; write a quote inside a text twice: 'it''s'"
        return build_syntax_error(text, position, "missing closing quote for the quote", advice)
    advice = "put texts with special characters between quotes: path glob '*/2024/*.jpg'"
    return build_syntax_error(text, position, "unexpected character", advice)


def build_syntax_error(text: str, position: int, problem: str, advice: str) -> UsageError:
    """Build an error that shows the position and the text around it. `advice` is how to write it instead."""
    before = ("…" if position > _CONTEXT_BEFORE else "") + text[max(0, position - _CONTEXT_BEFORE) : position]
    after = text[position : position + _CONTEXT_AFTER] + ("…" if len(text) > position + _CONTEXT_AFTER else "")
    return UsageError(f"--where: {problem} at column {position + 1}: {clean_text(before)}▮{clean_text(after)}", advice)
