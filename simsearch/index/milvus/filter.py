"""Compile a `--where` condition to a filter expression of Milvus, if one has exactly the same meaning.

A filter applies to rows that are `complete`. Patterns other than `/folder/*` are not supported: SQLite and Milvus
differ in what a pattern matches. Filters do not use `not`: the negation of each test is written out.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from typing import Any

from simsearch.filters.conditions import (
    FORMATS,
    AllOf,
    AnyOf,
    Condition,
    FieldKind,
    FieldTest,
    Inequality,
    MissingValue,
    Not,
    OneOf,
    PatternMatch,
    Value,
)
from simsearch.filters.sql import to_mtime_ns
from simsearch.filters.timespan import Timespan
from simsearch.index.milvus.schema import (
    COMPLETE,
    MAX_EXACT_INT,
    NO_TEXT,
    NO_TIME,
    USER_NUMBERS,
    USER_TEXTS,
    is_storable_text,
)

TRUE, FALSE = f"{COMPLETE} == true", f"{COMPLETE} == false"

_INT64_MAX = 2**63 - 1
_MISSING_VALUES = {"taken": NO_TIME, "camera": NO_TEXT, "class_name": NO_TEXT}
_FIELD_NAMES = {"class": "class_name", "id": "image_id"}
_OPPOSITES = {"==": "!=", "<": ">=", "<=": ">", ">": "<=", ">=": "<", "in": "not in"}
_COLUMN_NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .\-]*")
_SEP = os.sep


class _UnsupportedCondition(Exception):
    """Milvus has no filter with exactly this meaning."""


def compile_filter(condition: Condition) -> str | None:
    """Compile a condition to a Milvus filter; None if only the catalog can evaluate it."""
    try:
        return f"{TRUE} and {_compile_condition(condition, False)}"
    except _UnsupportedCondition:
        return None


def _compile_condition(condition: Condition, is_negated: bool) -> str:
    match condition:
        case AllOf(parts) | AnyOf(parts):
            word = "and" if isinstance(condition, AllOf) != is_negated else "or"
            return _join(word, [_compile_condition(part, is_negated) for part in parts])
        case Not(part):
            return _compile_condition(part, not is_negated)
        case _:
            compile_test = _compile_column_test if condition.field.is_user_column else _compile_test
            return compile_test(condition, is_negated)


def _compile_test(test: FieldTest, is_negated: bool) -> str:
    column, kind = _FIELD_NAMES.get(test.field.name, test.field.name), test.field.kind
    match test:
        case MissingValue():
            if column not in _MISSING_VALUES:
                return TRUE if is_negated else FALSE
            return _format_comparison(column, "!=" if is_negated else "==", _MISSING_VALUES[column])
        case PatternMatch():
            return _compile_prefix(test, is_negated)
        case OneOf(_, values) if kind == "format":
            return _compile_in(column, [stored for name in values for stored in FORMATS[str(name)]], is_negated)
        case OneOf(_, values):
            return _join_alternatives(
                [_compile_comparison(column, kind, "=", value, is_negated) for value in values], is_negated
            )
        case Inequality(_, operator, value):
            return _compile_comparison(column, kind, operator, value, is_negated)


def _compile_comparison(column: str, kind: FieldKind, operator: str, value: Value, is_negated: bool) -> str:
    """Compile the comparison with one value. A missing value fails it, and so satisfies its negation."""
    bounds: list[tuple[str, Any]] | None
    if isinstance(value, Timespan):
        bounds = (
            _build_modified_bounds(operator, value) if column == "modified" else _build_taken_bounds(operator, value)
        )
    elif not isinstance(value, str):
        bounds = _build_number_bounds(column, operator, value)
    elif kind == "path":
        bounds = [("==", _check_path(column, str(value)))]
    else:
        bounds = [("==" if operator == "=" else operator, _check_text(column, operator, str(value)))]
    if column in _MISSING_VALUES and bounds is not None:
        bounds = [("!=", _MISSING_VALUES[column]), *bounds]
    return _combine_bounds(column, bounds, is_negated)


def _combine_bounds(column: str, bounds: list[tuple[str, Any]] | None, is_negated: bool) -> str:
    """Join comparisons by `and`, or negate them. None is never true, an empty list always."""
    if not bounds:
        return TRUE if (bounds is None) == is_negated else FALSE
    opposites = {**_OPPOSITES, "!=": "=="}
    comparisons = [_format_comparison(column, opposites[sign] if is_negated else sign, value) for sign, value in bounds]
    return _join("or" if is_negated else "and", comparisons)


def _join_alternatives(parts: list[str], is_negated: bool) -> str:
    return _join("and" if is_negated else "or", parts)


def _join(word: str, parts: list[str]) -> str:
    """Join conditions as a balanced tree: a server refuses a condition that is a hundred levels deep."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return f"({_join(word, parts[:middle])} {word} {_join(word, parts[middle:])})"


def _compile_in(column: str, values: list[str], is_negated: bool) -> str:
    return f"{column} {'not in' if is_negated else 'in'} [{', '.join(map(_format_literal, values))}]"


def _format_comparison(column: str, sign: str, value: Any) -> str:
    return f"{column} {sign} {_format_literal(value)}"


def _format_literal(value: Any) -> str:
    """Format a value. Texts that need escaping are left to the catalog, because servers escape differently."""
    if not isinstance(value, str):
        return repr(value)
    if not is_storable_text(value) or not (value.isprintable() and '"' not in value and "\\" not in value):
        raise _UnsupportedCondition
    return f'"{value}"'


# Numbers and times


def _build_number_bounds(column: str, operator: str, value: float) -> list[tuple[str, Any]] | None:
    if column in ("megapixels", "aspect"):
        return [("==" if operator == "=" else operator, _to_exact_float(value))]
    if operator == "=":
        return [("==", int(value))] if value == int(value) and abs(value) <= _INT64_MAX else None
    rounded: Callable[[float], int] = math.ceil if operator in ("<", ">=") else math.floor
    bound = rounded(value)
    if abs(bound) >= _INT64_MAX:
        is_below = bound < 0
        return None if (operator in ("<", "<=")) == is_below else []
    return [(operator, bound)]


def _to_exact_float(value: float) -> float:
    if abs(value) > MAX_EXACT_INT and isinstance(value, int):
        raise _UnsupportedCondition
    return float(value)


def _build_modified_bounds(operator: str, timespan: Timespan) -> list[tuple[str, Any]]:
    return _build_time_bounds(operator, to_mtime_ns(timespan.start), to_mtime_ns(timespan.end))


def _build_taken_bounds(operator: str, timespan: Timespan) -> list[tuple[str, Any]]:
    low, high = (int(time.strftime("%Y%m%d%H%M%S")) for time in (timespan.start, timespan.end))
    return _build_time_bounds(operator, low, high)


def _build_time_bounds(operator: str, low: int, high: int) -> list[tuple[str, Any]]:
    """Compare a time with the half-open interval [`low`, `high`)."""
    match operator:
        case "<":
            return [("<", low)]
        case "<=":
            return [("<", high)]
        case ">":
            return [(">=", high)]
        case ">=":
            return [(">=", low)]
        case _:
            return [(">=", low), ("<", high)]


# Texts and paths


def _check_text(column: str, operator: str, value: str) -> str:
    if column in ("name", "class_name") and operator == "=":
        value = value.replace("/", _SEP)
        if not value or _SEP in value:
            raise _UnsupportedCondition  # never true, and cheap in the catalog
    return value


def _check_path(column: str, value: str) -> str:
    value = value.replace("/", _SEP)
    if not os.path.isabs(value):
        raise _UnsupportedCondition  # a relative path may begin at any folder
    return value.rstrip(_SEP) + _SEP if column == "folder" else value


def _compile_prefix(test: PatternMatch, is_negated: bool) -> str:
    """Compile a pattern `/folder/*` to a range of texts."""
    glob = test.pattern.replace("/", _SEP)
    beginning = glob[:-1]
    is_plain = glob.endswith("*") and os.path.isabs(glob) and not any(sign in beginning for sign in "*?[")
    if test.operator != "glob" or test.field.name != "path" or not is_plain:
        raise _UnsupportedCondition
    return _combine_bounds("path", [(">=", beginning), ("<", beginning[:-1] + chr(ord(beginning[-1]) + 1))], is_negated)


# User columns: numbers and texts are separate JSON fields


def _compile_column_test(test: FieldTest, is_negated: bool) -> str:
    if _COLUMN_NAME_PATTERN.fullmatch(test.field.name) is None:
        raise _UnsupportedCondition
    numbers, texts = (f'{field}["{test.field.name}"]' for field in (USER_NUMBERS, USER_TEXTS))
    match test:
        case MissingValue() if is_negated:
            return f"({_format_existence(numbers)} or {_format_existence(texts)})"
        case MissingValue():
            return f"((not {_format_existence(numbers)}) and (not {_format_existence(texts)}))"
        case OneOf(_, values):
            return _join_alternatives(
                [_compile_column_comparison(test, "=", value, is_negated) for value in values], is_negated
            )
        case Inequality(_, operator, value):
            return _compile_column_comparison(test, operator, value, is_negated)
        case _:
            raise _UnsupportedCondition


def _compile_column_comparison(test: FieldTest, operator: str, value: Value, is_negated: bool) -> str:
    if isinstance(value, Timespan):
        raise _UnsupportedCondition
    field = f'{USER_TEXTS if isinstance(value, str) else USER_NUMBERS}["{test.field.name}"]'
    sign = "==" if operator == "=" else operator
    literal = _format_literal(value if isinstance(value, str) else _to_exact_float(value))
    if is_negated:
        return f"((not {_format_existence(field)}) or {field} {_OPPOSITES[sign]} {literal})"
    return f"({_format_existence(field)} and {field} {sign} {literal})"


def _format_existence(field: str) -> str:
    """Test whether a field has a value. A server takes all that follows `exists` for its operand, without brackets."""
    return f"(exists {field})"
