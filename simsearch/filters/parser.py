"""The text of `--where`, read into a condition. Strangers may send such texts: their length and depth are limited.

    width >= 800 and class = 'lamp'         not (camera = 'X100V') or taken is missing
    path like 'holiday/%'                   taken between 2024-05 and 2024-06-15
    format in (png, jpeg)                   size > 2MB        name ~ 'img_'        "odd column" = 3

`not` binds tighter than `and`, `and` tighter than `or`. A text stands in quotes, or bare if it is one word; a name
in double quotes in the place of a field is always a column of the user's own. What fields and comparisons mean is
said in `condition`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, cast

from simsearch.errors import UsageError
from simsearch.filters.conditions import (
    FORMATS,
    KINDS,
    MATCHED,
    ORDERED,
    AllOf,
    Among,
    AnyOf,
    Condition,
    Field,
    Match,
    Missing,
    Not,
    Order,
    Value,
)
from simsearch.filters.lexer import Token, fault, tokens
from simsearch.filters.timespan import Moment

_MAX_LENGTH = 4096
_MAX_DEPTH = 16
_MAX_COMPARED = 500

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_FORMAT_NAMES = {name: name for name in FORMATS} | {
    "jpg": "jpeg",
    "jp2": "jpeg2000",
    "tif": "tiff",
    "heic": "heif",
    "dib": "bmp",
    "pgm": "ppm",
    "pbm": "ppm",
}
_EXAMPLES = {
    "number": "a number such as 800",
    "date": "a date such as 2024, 2024-05, 2024-05-01 or 2024-05-01T10:30",
    "format": f"a format: {', '.join(FORMATS)}",
    "text": "a text such as 'lamp'",
    "place": "a path such as 'holiday/2024'",
    "own": "a value such as 20 or 'blue'",
}


def parse(text: str) -> Condition:
    """Read a condition. Its `str()` is the same condition, spelled one way.

    Raises `UsageError`, with the place, on what cannot be read. Whether a column is there is asked when it is
    compiled.
    """
    if len(text) > _MAX_LENGTH:
        raise UsageError(
            f"--where: the condition is {len(text)} characters long", f"{_MAX_LENGTH} are allowed: ask for less at once"
        )
    try:
        text.replace("\0", "\udfff").encode("utf-8", "surrogateescape")  # such as command lines, but no NUL
    except UnicodeEncodeError as error:
        raise fault(text, error.start, "no character", "leave it out") from error
    return _Parser(text).parse()


class _Parser:
    """Reads from left to right, one function for each level of binding; never looks back."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._next = 0
        self._depth = 0
        self._n_compared = 0

    def parse(self) -> Condition:
        condition = self._any_of()
        if self._token.kind != "end":
            raise self._expected("'and', 'or' or the end", self._after_a_test())
        return condition

    def _any_of(self) -> Condition:
        parts = self._parts("or", self._all_of)
        flat = [inner for part in parts for inner in (part.parts if isinstance(part, AnyOf) else (part,))]
        return AnyOf(tuple(flat)) if len(flat) > 1 else flat[0]

    def _all_of(self) -> Condition:
        parts = self._parts("and", self._one)
        flat = [inner for part in parts for inner in (part.parts if isinstance(part, AllOf) else (part,))]
        return AllOf(tuple(flat)) if len(flat) > 1 else flat[0]

    def _parts(self, keyword: str, part: Callable[[], Condition]) -> list[Condition]:
        parts = [part()]
        while self._take(keyword):
            parts.append(part())
        return parts

    def _one(self) -> Condition:
        opening = self._token
        if opening.keyword not in ("not", "("):
            return self._test()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._fault(f"more than {_MAX_DEPTH} levels of brackets and 'not'", "ask for less at once")
        self._next += 1
        condition: Condition
        if opening.keyword == "not":
            condition = Not(self._one())
        else:
            condition = self._any_of()
            self._require(")", f"every '(' needs its ')': see column {opening.at + 1}")
        self._depth -= 1
        return condition

    def _test(self) -> Condition:
        field = self._field()
        if self._take("is"):
            return self._missing(field)
        if self._take("!="):
            return Not(self._among(field))
        if self._take("!~"):
            return Not(self._match(field, "~"))
        if self._take("not"):
            return Not(self._worded(field, "'in', 'like', 'glob' or 'between'"))
        if self._take("="):
            return self._among(field)
        for operator in ("<=", ">=", "<", ">"):
            if self._take(operator):
                return self._order(field, operator)
        if self._take("~"):
            return self._match(field, "~")
        return self._worded(field, "a comparison")

    def _worded(self, field: Field, wanted: str) -> Condition:
        """What may come after `not`, too."""
        if self._take("in"):
            return self._among_several(field)
        if self._take("between"):
            low = self._order(field, ">=")
            self._require("and", f"write {field} between … and …, both included")
            return AllOf((low, self._order(field, "<=")))
        for operator in ("like", "glob"):
            if self._take(operator):
                return self._match(field, operator)
        raise self._expected(wanted, "there are = != < <= > >= ~ !~ in, between, like, glob, is missing, is present")

    def _field(self) -> Field:
        token = self._token
        if token.kind == "name" and token.text:
            self._next += 1
            return Field(token.text, is_own=True, at=token.at)
        if token.kind != "word" or token.keyword:
            raise self._expected("a field", "write a condition such as width >= 800 or class = 'lamp'")
        self._next += 1
        name = token.raw.lower()
        return Field(name, at=token.at) if name in KINDS else Field(token.raw, is_own=True, at=token.at)

    def _count(self) -> None:
        """Count a comparison, or a value of `in`: all that SQLite compares for each file."""
        self._n_compared += 1
        if self._n_compared > _MAX_COMPARED:
            raise self._fault(f"more than {_MAX_COMPARED} values", "ask for less at once")

    def _missing(self, field: Field) -> Condition:
        self._count()
        is_negated = self._take("not")
        if self._take("present"):
            is_negated = not is_negated
        else:
            self._require("missing", f"write {field} is missing, or {field} is present")
        return Not(Missing(field)) if is_negated else Missing(field)

    def _among(self, field: Field) -> Among:
        return Among(field, (self._value(field),))

    def _among_several(self, field: Field) -> Among:
        self._require("(", "write the values in brackets: format in (png, jpeg)")
        values = [self._value(field)]
        while self._take(","):
            values.append(self._value(field))
        self._require(")", "write a comma between two values and ')' after the last")
        return Among(field, tuple(values))

    def _order(self, field: Field, operator: str) -> Order:
        if field.kind not in ORDERED:
            raise self._unfit(field, "cannot be put in order", "= != in" + " like glob ~" * (field.kind in MATCHED))
        return Order(field, cast(Literal["<", "<=", ">", ">="], operator), self._value(field))

    def _match(self, field: Field, operator: str) -> Match:
        if field.kind not in MATCHED:
            raise self._unfit(field, "is no text to search in", "= != in" + " < <= > >=" * (field.kind in ORDERED))
        self._count()
        token = self._token
        pattern = self._word(_EXAMPLES["text"])
        if operator == "glob" and not _closes_its_brackets(pattern):
            raise fault(self._text, token.at, "a '[' that is never closed", "write [[] for the sign itself")
        return Match(field, cast(Literal["like", "glob", "~"], operator), pattern)

    def _value(self, field: Field) -> Value:
        self._count()
        token, kind, example = self._token, field.kind, _EXAMPLES[field.kind]
        if kind == "date" or (kind == "own" and token.kind == "date"):
            return self._moment(example if kind == "date" else f"{_EXAMPLES['date']}, or put a text between quotes")
        if kind == "number" or (kind == "own" and token.kind == "number"):
            return self._number(field, example)
        if kind == "format":
            name = _FORMAT_NAMES.get(token.text.lower())
            if name is None:
                raise self._expected("a format", f"there are {', '.join(FORMATS)}")
            self._next += 1
            return name
        return self._word(example)

    def _moment(self, example: str) -> Moment:
        if self._token.kind not in ("date", "number", "text", "name"):
            raise self._expected("a date", f"write {example}")
        try:
            moment = Moment.parse(self._token.text)
        except ValueError as error:
            raise self._fault(f"no such date ({error})", f"write {example}") from error
        self._next += 1
        return moment

    def _number(self, field: Field, example: str) -> float:
        if self._token.kind != "number":
            raise self._expected("a number", f"write {example}")
        raw = self._token.raw
        number = int(raw) if len(raw) < 18 and raw.lstrip("-").isdecimal() else float(raw)
        if abs(number) > 1e300:
            raise self._fault("a number beyond all measure", f"write {example}")
        self._next += 1
        if field.name == "size" and not field.is_own and self._token.raw.lower() in _UNITS:
            number *= _UNITS[self._token.raw.lower()]
            self._next += 1
        return int(number) if number == int(number) and abs(number) < 10**17 else number

    def _word(self, example: str) -> str:
        """A text in quotes, or anything bare that is no word of the language."""
        token = self._token
        if token.kind not in ("text", "name", "word", "number", "date") or token.keyword:
            raise self._expected("a value", f"write {example}")
        self._next += 1
        return token.text

    # The tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    @property
    def _last(self) -> Token:
        return self._tokens[self._next - 1]

    def _take(self, keyword: str) -> bool:
        """Go on if the next token is this one; `==` is `=`, and `<>` is `!=`."""
        found = {"==": "=", "<>": "!="}.get(self._token.keyword, self._token.keyword)
        self._next += found == keyword
        return found == keyword

    def _require(self, keyword: str, advice: str) -> None:
        if not self._take(keyword):
            raise self._expected(f"'{keyword}'", advice)

    # What is wrong

    def _expected(self, what: str, advice: str) -> UsageError:
        after = f" after {self._last}" if self._next else ""
        return self._fault(f"expected {what}{after}", advice)

    def _after_a_test(self) -> str:
        if self._token.keyword == ")":
            return "this ')' has no '('"
        if self._last.kind == "number":
            return "sizes know B, kB, MB and GB, and a text that begins with a number needs quotes"
        return "put a text of several words between quotes"

    def _unfit(self, field: Field, why: str, operators: str) -> UsageError:
        return fault(self._text, self._last.at, f"{field} {why}", f"use {', '.join(operators.split())} with it")

    def _fault(self, problem: str, advice: str) -> UsageError:
        return fault(self._text, self._token.at, problem, advice)


def _closes_its_brackets(pattern: str) -> bool:
    """Whether every `[` of a glob has its `]`; one that comes first, or first after `^`, is a member of the set."""
    return "[" not in re.sub(r"\[\^?+\]?+[^\]]*\]", "", pattern)
