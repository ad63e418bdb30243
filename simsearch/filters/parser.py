"""The parser of `--where`. Web visitors can send conditions, so their length and depth are limited.

    width >= 800 and class = 'lamp'         not (camera = 'X100V') or taken is missing
    path like 'holiday/%'                   taken between 2024-05 and 2024-06-15
    format in (png, jpeg)                   size > 2MB        name ~ 'img_'        "odd column" = 3

`not` binds tighter than `and`, `and` tighter than `or`. A text needs quotes unless it is a single word. A name in
double quotes in the position of a field is always a user column. `filters.conditions` defines the meaning of fields
and comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, cast

from simsearch.errors import UsageError
from simsearch.filters.conditions import (
    FIELD_KINDS,
    FORMATS,
    ORDERED_KINDS,
    PATTERN_KINDS,
    AllOf,
    AnyOf,
    Condition,
    Field,
    Inequality,
    MissingValue,
    Not,
    OneOf,
    PatternMatch,
    Value,
)
from simsearch.filters.lexer import Token, build_syntax_error, tokenize
from simsearch.filters.timespan import Timespan

_MAX_LENGTH = 4096
_MAX_DEPTH = 16
_MAX_VALUES = 500

_BOOLEANS = {"true": 1.0, "false": 0.0}
"""Values of columns of the user's own, as `simsearch annotate` stores them; between quotes they are texts."""

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
_VALUE_EXAMPLES = {
    "number": "a number such as 800",
    "date": "a date such as 2024, 2024-05, 2024-05-01 or 2024-05-01T10:30",
    "format": f"a format: {', '.join(FORMATS)}",
    "text": "a text such as 'lamp'",
    "path": "a path such as 'holiday/2024'",
    "column": "a value such as 20 or 'blue'",
}


def parse(text: str) -> Condition:
    """Parse a condition. Its `str()` is the canonical text of the same condition.

    Raises `UsageError`, with the position, on a syntax error. Unknown columns are detected later, by `compile_sql`.
    """
    if len(text) > _MAX_LENGTH:
        raise UsageError(
            f"--where: the condition has {len(text)} characters", f"shorten it to {_MAX_LENGTH} characters or fewer"
        )
    try:
        text.replace("\0", "\udfff").encode(
            "utf-8", "surrogateescape"
        )  # lone surrogates of command lines are allowed, NUL is not
    except UnicodeEncodeError as error:
        raise build_syntax_error(text, error.start, "invalid character", "remove it") from error
    return _Parser(text).parse()


class _Parser:
    """A recursive-descent parser without backtracking: one method for each level of precedence."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text)
        self._next = 0
        self._depth = 0
        self._n_values = 0

    def parse(self) -> Condition:
        condition = self._parse_or()
        if self._token.kind != "end":
            raise self._build_expected_error("'and', 'or' or the end of the condition", self._advise_after_test())
        return condition

    def _parse_or(self) -> Condition:
        parts = self._parse_operands("or", self._parse_and)
        flat = [inner for part in parts for inner in (part.parts if isinstance(part, AnyOf) else (part,))]
        return AnyOf(tuple(flat)) if len(flat) > 1 else flat[0]

    def _parse_and(self) -> Condition:
        parts = self._parse_operands("and", self._parse_unary)
        flat = [inner for part in parts for inner in (part.parts if isinstance(part, AllOf) else (part,))]
        return AllOf(tuple(flat)) if len(flat) > 1 else flat[0]

    def _parse_operands(self, keyword: str, part: Callable[[], Condition]) -> list[Condition]:
        parts = [part()]
        while self._accept(keyword):
            parts.append(part())
        return parts

    def _parse_unary(self) -> Condition:
        opening = self._token
        if opening.keyword not in ("not", "("):
            return self._parse_test()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._build_error(f"more than {_MAX_DEPTH} nested brackets and 'not'", "simplify the condition")
        self._next += 1
        condition: Condition
        if opening.keyword == "not":
            condition = Not(self._parse_unary())
        else:
            condition = self._parse_or()
            self._require(")", f"close the '(' at column {opening.position + 1}")
        self._depth -= 1
        return condition

    def _parse_test(self) -> Condition:
        field = self._parse_field()
        if self._accept("is"):
            return self._parse_missing(field)
        if self._accept("!="):
            return Not(self._parse_equality(field))
        if self._accept("!~"):
            return Not(self._parse_pattern(field, "~"))
        if self._accept("not"):
            return Not(self._parse_word_operator(field, "'in', 'like', 'glob' or 'between'"))
        if self._accept("="):
            return self._parse_equality(field)
        for operator in ("<=", ">=", "<", ">"):
            if self._accept(operator):
                return self._parse_inequality(field, operator)
        if self._accept("~"):
            return self._parse_pattern(field, "~")
        return self._parse_word_operator(field, "a comparison")

    def _parse_word_operator(self, field: Field, wanted: str) -> Condition:
        """Parse an operator that is a word and may follow `not`."""
        if self._accept("in"):
            return self._parse_value_list(field)
        if self._accept("between"):
            low = self._parse_inequality(field, ">=")
            self._require("and", f"write {field} between LOW and HIGH (both included)")
            return AllOf((low, self._parse_inequality(field, "<=")))
        for operator in ("like", "glob"):
            if self._accept(operator):
                return self._parse_pattern(field, operator)
        raise self._build_expected_error(
            wanted, "use one of = != < <= > >= ~ !~ in, between, like, glob, is missing, is present"
        )

    def _parse_field(self) -> Field:
        token = self._token
        if token.kind == "name" and token.text:
            self._next += 1
            return Field(token.text, is_user_column=True, position=token.position)
        if token.kind != "word" or token.keyword:
            raise self._build_expected_error("a field", "write a condition such as width >= 800 or class = 'lamp'")
        self._next += 1
        name = token.raw.lower()
        if name in FIELD_KINDS:
            return Field(name, position=token.position)
        return Field(token.raw, is_user_column=True, position=token.position)

    def _count_value(self) -> None:
        """Count a value to compare, and check the limit: SQLite compares each value for each file."""
        self._n_values += 1
        if self._n_values > _MAX_VALUES:
            raise self._build_error(f"more than {_MAX_VALUES} values", "split the condition")

    def _parse_missing(self, field: Field) -> Condition:
        self._count_value()
        is_negated = self._accept("not")
        if self._accept("present"):
            is_negated = not is_negated
        else:
            self._require("missing", f"write {field} is missing, or {field} is present")
        return Not(MissingValue(field)) if is_negated else MissingValue(field)

    def _parse_equality(self, field: Field) -> OneOf:
        return OneOf(field, (self._parse_value(field),))

    def _parse_value_list(self, field: Field) -> OneOf:
        self._require("(", "write the values in brackets: format in (png, jpeg)")
        values = [self._parse_value(field)]
        while self._accept(","):
            values.append(self._parse_value(field))
        advice = "write commas between values, and quotes around a text of several words: in (lamp, 'old vase')"
        self._require(")", advice)
        return OneOf(field, tuple(values))

    def _parse_inequality(self, field: Field, operator: str) -> Inequality:
        if field.kind not in ORDERED_KINDS:
            raise self._build_operator_error(
                field, "has no order", "= != in" + " like glob ~" * (field.kind in PATTERN_KINDS)
            )
        return Inequality(field, cast(Literal["<", "<=", ">", ">="], operator), self._parse_value(field))

    def _parse_pattern(self, field: Field, operator: str) -> PatternMatch:
        if field.kind not in PATTERN_KINDS:
            raise self._build_operator_error(
                field, "is not a text field", "= != in" + " < <= > >=" * (field.kind in ORDERED_KINDS)
            )
        self._count_value()
        token = self._token
        pattern = self._parse_text(_VALUE_EXAMPLES["text"])
        if operator == "glob" and not _has_closed_brackets(pattern):
            raise build_syntax_error(
                self._text, token.position, "missing ']' in the pattern", "close the '['; write [[] for a literal '['"
            )
        return PatternMatch(field, cast(Literal["like", "glob", "~"], operator), pattern)

    def _parse_value(self, field: Field) -> Value:
        self._count_value()
        token, kind, example = self._token, field.kind, _VALUE_EXAMPLES[field.kind]
        if kind == "date" or (kind == "column" and token.kind == "date"):
            return self._parse_timespan(
                example if kind == "date" else f"{_VALUE_EXAMPLES['date']}, or put the text between quotes"
            )
        if kind == "column" and token.kind == "word" and token.raw.lower() in _BOOLEANS:
            self._next += 1
            return _BOOLEANS[token.raw.lower()]
        if kind == "number" or (kind == "column" and token.kind == "number"):
            return self._parse_number(field, example)
        if kind == "format":
            name = _FORMAT_NAMES.get(token.text.lower())
            if name is None:
                raise self._build_expected_error("a format", f"use one of {', '.join(FORMATS)}")
            self._next += 1
            return name
        return self._parse_text(example)

    def _parse_timespan(self, example: str) -> Timespan:
        if self._token.kind not in ("date", "number", "text", "name"):
            raise self._build_expected_error("a date", f"write {example}")
        try:
            timespan = Timespan.parse(self._token.text)
        except ValueError as error:
            raise self._build_error(f"invalid date ({error})", f"write {example}") from error
        self._next += 1
        return timespan

    def _parse_number(self, field: Field, example: str) -> float:
        if self._token.kind != "number":
            raise self._build_expected_error("a number", f"write {example}")
        raw = self._token.raw
        number = int(raw) if len(raw) < 18 and raw.lstrip("-").isdecimal() else float(raw)
        if abs(number) > 1e300:
            raise self._build_error("number out of range", f"write {example}")
        self._next += 1
        if field.name == "size" and not field.is_user_column and self._token.raw.lower() in _UNITS:
            number *= _UNITS[self._token.raw.lower()]
            self._next += 1
        return int(number) if number == int(number) and abs(number) < 10**17 else number

    def _parse_text(self, example: str) -> str:
        """Parse a quoted text, or a single word that is not a keyword."""
        token = self._token
        if token.kind not in ("text", "name", "word", "number", "date") or token.keyword:
            raise self._build_expected_error("a value", f"write {example}")
        self._next += 1
        return token.text

    # Tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    @property
    def _previous(self) -> Token:
        return self._tokens[self._next - 1]

    def _accept(self, keyword: str) -> bool:
        """Consume the next token if it is this keyword. `==` counts as `=`, and `<>` as `!=`."""
        found = {"==": "=", "<>": "!="}.get(self._token.keyword, self._token.keyword)
        self._next += found == keyword
        return found == keyword

    def _require(self, keyword: str, advice: str) -> None:
        if not self._accept(keyword):
            raise self._build_expected_error(f"'{keyword}'", advice)

    # Errors

    def _build_expected_error(self, what: str, advice: str) -> UsageError:
        after = f" after {self._previous}" if self._next else ""
        return self._build_error(f"expected {what}{after}", advice)

    def _advise_after_test(self) -> str:
        if self._token.keyword == ")":
            return "remove this ')' or add the '('"
        if self._previous.kind == "number":
            return "use B, kB, MB or GB as the unit of a size; put a text that begins with a number between quotes"
        return "put a text of several words between quotes"

    def _build_operator_error(self, field: Field, why: str, operators: str) -> UsageError:
        return build_syntax_error(
            self._text, self._previous.position, f"{field} {why}", f"use one of {', '.join(operators.split())}"
        )

    def _build_error(self, problem: str, advice: str) -> UsageError:
        return build_syntax_error(self._text, self._token.position, problem, advice)


def _has_closed_brackets(pattern: str) -> bool:
    """Whether each `[` of a glob has its `]`. A `]` in first place, or first after `^`, is a member of the set."""
    return "[" not in re.sub(r"\[\^?+\]?+[^\]]*\]", "", pattern)
