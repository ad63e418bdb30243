"""A condition of `--where` as an expression of Milvus, where one says exactly the same.

An expression is of rows that are `complete`. Patterns other than `/folder/*` have none: what matches, and in which
case, differs between SQLite and Milvus. Milvus is spared `not`: each test has an opposite of its own.
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
    Among,
    AnyOf,
    Condition,
    Match,
    Missing,
    Not,
    Order,
    Test,
    Value,
)
from simsearch.filters.sql import mtime_ns
from simsearch.filters.timespan import Moment
from simsearch.index.milvus.schema import COMPLETE, LARGEST_EXACT, NO_TEXT, NO_TIME, OWN_NUMBERS, OWN_TEXTS, is_text

TRUE, FALSE = f"{COMPLETE} == true", f"{COMPLETE} == false"

_INT64_MAX = 2**63 - 1
_MISSING = {"taken": NO_TIME, "camera": NO_TEXT, "class_name": NO_TEXT}
_COLUMNS = {"class": "class_name", "id": "image_id"}
_OPPOSITES = {"==": "!=", "<": ">=", "<=": ">", ">": "<=", ">=": "<", "in": "not in"}
_COLUMN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .\-]*")
_SEP = os.sep


class _Unsaid(Exception):
    """There is no expression that says exactly this."""


def expression(condition: Condition) -> str | None:
    """What Milvus is asked for those rows of which the condition holds; None where only the catalog can tell."""
    try:
        return f"{TRUE} and {_said(condition, False)}"
    except _Unsaid:
        return None


def _said(condition: Condition, is_negated: bool) -> str:
    match condition:
        case AllOf(parts) | AnyOf(parts):
            word = " and " if isinstance(condition, AllOf) != is_negated else " or "
            return f"({word.join(_said(part, is_negated) for part in parts)})"
        case Not(part):
            return _said(part, not is_negated)
        case _:
            return _own(condition, is_negated) if condition.field.is_own else _test(condition, is_negated)


def _test(test: Test, is_negated: bool) -> str:
    column, kind = _COLUMNS.get(test.field.name, test.field.name), test.field.kind
    match test:
        case Missing():
            if column not in _MISSING:
                return TRUE if is_negated else FALSE
            return _compared(column, "!=" if is_negated else "==", _MISSING[column])
        case Match():
            return _beginning(test, is_negated)
        case Among(_, values) if kind == "format":
            return _among(column, [stored for name in values for stored in FORMATS[str(name)]], is_negated)
        case Among(_, values):
            return _any([_one(column, kind, "=", value, is_negated) for value in values], is_negated)
        case Order(_, operator, value):
            return _one(column, kind, operator, value, is_negated)


def _one(column: str, kind: str, operator: str, value: Value, is_negated: bool) -> str:
    """One comparison with one value; what is missing fails it, and so passes its opposite."""
    bounds: list[tuple[str, Any]] | None
    if isinstance(value, Moment):
        bounds = _modified(operator, value) if column == "modified" else _taken(operator, value)
    elif not isinstance(value, str):
        bounds = _number(column, operator, value)
    elif kind == "place":
        bounds = [("==", _place(column, str(value)))]
    else:
        bounds = [("==" if operator == "=" else operator, _text(column, operator, str(value)))]
    if column in _MISSING and bounds is not None:
        bounds = [("!=", _MISSING[column]), *bounds]
    return _between(column, bounds, is_negated)


def _between(column: str, bounds: list[tuple[str, Any]] | None, is_negated: bool) -> str:
    """All of some comparisons, or their opposite; None: never true."""
    if not bounds:
        return TRUE if (bounds is None) == is_negated else FALSE
    opposites = {**_OPPOSITES, "!=": "=="}
    said = [_compared(column, opposites[sign] if is_negated else sign, value) for sign, value in bounds]
    return f"({(' or ' if is_negated else ' and ').join(said)})"


def _any(parts: list[str], is_negated: bool) -> str:
    return parts[0] if len(parts) == 1 else f"({(' and ' if is_negated else ' or ').join(parts)})"


def _among(column: str, values: list[str], is_negated: bool) -> str:
    return f"{column} {'not in' if is_negated else 'in'} [{', '.join(map(_literal, values))}]"


def _compared(column: str, sign: str, value: Any) -> str:
    return f"{column} {sign} {_literal(value)}"


def _literal(value: Any) -> str:
    """A value as Milvus reads it. Texts that need escaping are left to the catalog: servers differ in it."""
    if not isinstance(value, str):
        return repr(value)
    if not is_text(value) or not (value.isprintable() and '"' not in value and "\\" not in value):
        raise _Unsaid
    return f'"{value}"'


# Numbers and times


def _number(column: str, operator: str, value: float) -> list[tuple[str, Any]] | None:
    if column in ("megapixels", "aspect"):
        return [("==" if operator == "=" else operator, _exact(value))]
    if operator == "=":
        return [("==", int(value))] if value == int(value) and abs(value) <= _INT64_MAX else None
    rounded: Callable[[float], int] = math.ceil if operator in ("<", ">=") else math.floor
    bound = rounded(value)
    if abs(bound) >= _INT64_MAX:
        is_below = bound < 0
        return None if (operator in ("<", "<=")) == is_below else []
    return [(operator, bound)]


def _exact(value: float) -> float:
    if abs(value) > LARGEST_EXACT and isinstance(value, int):
        raise _Unsaid
    return float(value)


def _modified(operator: str, moment: Moment) -> list[tuple[str, Any]]:
    return _in_time(operator, mtime_ns(moment.start), mtime_ns(moment.end))


def _taken(operator: str, moment: Moment) -> list[tuple[str, Any]]:
    low, high = (int(time.strftime("%Y%m%d%H%M%S")) for time in (moment.start, moment.end))
    return _in_time(operator, low, high)


def _in_time(operator: str, low: int, high: int) -> list[tuple[str, Any]]:
    """A time is compared as far as the other is given: it lies from `low` on and before `high`."""
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


def _text(column: str, operator: str, value: str) -> str:
    if column in ("name", "class_name") and operator == "=":
        value = value.replace("/", _SEP)
        if not value or _SEP in value:
            raise _Unsaid  # never true; the catalog says so at no cost
    return value


def _place(column: str, value: str) -> str:
    value = value.replace("/", _SEP)
    if not os.path.isabs(value):
        raise _Unsaid  # from any folder on
    return value.rstrip(_SEP) + _SEP if column == "folder" else value


def _beginning(test: Match, is_negated: bool) -> str:
    """All that lies below a folder, said from the root: a range of texts."""
    glob = test.pattern.replace("/", _SEP)
    beginning = glob[:-1]
    is_plain = glob.endswith("*") and os.path.isabs(glob) and not any(sign in beginning for sign in "*?[")
    if test.operator != "glob" or test.field.name != "path" or not is_plain:
        raise _Unsaid
    return _between("path", [(">=", beginning), ("<", beginning[:-1] + chr(ord(beginning[-1]) + 1))], is_negated)


# Columns of the user's own: numbers and texts lie apart


def _own(test: Test, is_negated: bool) -> str:
    if _COLUMN_NAME.fullmatch(test.field.name) is None:
        raise _Unsaid
    numbers, texts = (f'{field}["{test.field.name}"]' for field in (OWN_NUMBERS, OWN_TEXTS))
    match test:
        case Missing() if is_negated:
            return f"(exists {numbers} or exists {texts})"
        case Missing():
            return f"(not exists {numbers} and not exists {texts})"
        case Among(_, values):
            return _any([_own_value(test, "=", value, is_negated) for value in values], is_negated)
        case Order(_, operator, value):
            return _own_value(test, operator, value, is_negated)
        case _:
            raise _Unsaid


def _own_value(test: Test, operator: str, value: Value, is_negated: bool) -> str:
    if isinstance(value, Moment):
        raise _Unsaid
    field = f'{OWN_TEXTS if isinstance(value, str) else OWN_NUMBERS}["{test.field.name}"]'
    sign = "==" if operator == "=" else operator
    literal = _literal(value if isinstance(value, str) else _exact(value))
    if is_negated:
        return f"(not exists {field} or {field} {_OPPOSITES[sign]} {literal})"
    return f"(exists {field} and {field} {sign} {literal})"
