"""A condition of `--where` as SQL over `files` and `images`. Every value is bound, none is pasted.

Only what is true matters: an SQL comparison with something missing is neither true nor false, and neither does `AND`
and `OR` make it true. `NOT`, which would, is spelled `IS NOT TRUE`.
"""

from __future__ import annotations

import datetime
import difflib
import itertools
import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from simsearch.errors import UsageError
from simsearch.filters.conditions import (
    FORMATS,
    KINDS,
    AllOf,
    Among,
    AnyOf,
    Condition,
    Field,
    Match,
    Missing,
    Not,
    Order,
    Test,
    Value,
    tests,
)
from simsearch.filters.timespan import Moment
from simsearch.sources.addresses import is_remote
from simsearch.store.connection import stored_path


class Sql(NamedTuple):
    """An SQL expression and what is bound to its `?`, in order."""

    text: str
    parameters: tuple[Any, ...] = ()


_SEP = os.sep
_AFTER_SEP = chr(ord(_SEP) + 1)
_INT64_MAX = 2**63 - 1
_COLUMNS_SHOWN = 20

# A path that is no UTF-8 is a BLOB; SQLite's text functions work on its bytes as well as they can.
_PATH = "CAST(files.path AS TEXT)"


def _up_to_last_separator(path: str) -> str:
    # What may be trimmed from the end is every character of the path but the separator.
    return f"rtrim({path}, replace({path}, '{_SEP}', '.'))"


_FOLDER = _up_to_last_separator(_PATH)
"""With the separator at its end."""
_FOLDER_PATH = f"rtrim({_FOLDER}, '{_SEP}')"

_EXPRESSIONS = {
    "path": _PATH,
    "folder": _FOLDER,
    "name": f"substr({_PATH}, length({_FOLDER}) + 1)",
    "class": f"nullif(substr({_FOLDER_PATH}, length({_up_to_last_separator(_FOLDER_PATH)}) + 1), '')",
    "size": "files.size_bytes",
    "modified": "files.mtime_ns",
    "taken": "images.taken_at",
    "width": "images.width",
    "height": "images.height",
    "megapixels": "(images.width * images.height / 1e6)",
    "aspect": "(images.width * 1.0 / images.height)",
    "format": "images.format",
    "camera": "images.camera",
    "id": "images.id",
}

_OWN_VALUE = "annotations.value"
_IS_NUMBER = f"typeof({_OWN_VALUE}) IN ('integer', 'real')"
_IS_TEXT = f"typeof({_OWN_VALUE}) = 'text'"
_IS_DATE = f"{_IS_TEXT} AND {_OWN_VALUE} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]*'"


def compile(condition: Condition, columns: Collection[str]) -> Sql:
    """The condition as what may follow the WHERE of

        SELECT DISTINCT files.image_id FROM files JOIN images ON images.id = files.image_id

    `columns` are the names of the user's own columns. Raises `UsageError` on one that is not among them.
    """
    for test in tests(condition):
        if test.field.is_own and test.field.name not in columns:
            raise _unknown(test.field, columns)
    return _compiled(condition)


def _unknown(field: Field, columns: Collection[str]) -> UsageError:
    own = sorted(columns)
    shown = field.name if len(field.name) <= 40 else f"{field.name[:40]}…"
    near = difflib.get_close_matches(field.name[:40], [*KINDS, *own], 3)
    offer = f"did you mean {' or '.join(near)}? " if near else ""
    listed = ", ".join(own[:_COLUMNS_SHOWN]) + (f" and {len(own) - _COLUMNS_SHOWN} more" * (len(own) > _COLUMNS_SHOWN))
    of_own = f"columns of your own: {listed}" if own else "there are no columns of your own: see `simsearch annotate`"
    problem = f"--where: no field is called {shown!r}, at column {field.at + 1}"
    return UsageError(problem, f"{offer}fields: {', '.join(KINDS)}; {of_own}")


def _compiled(condition: Condition) -> Sql:
    match condition:
        case AllOf(parts):
            return _joined("AND", [_compiled(part) for part in _deepest_first(parts)])
        case AnyOf(parts):
            return _joined("OR", [_compiled(part) for part in _deepest_first(parts)])
        case Not(part):
            inner = _compiled(part)
            return Sql(f"(({inner.text}) IS NOT TRUE)", inner.parameters)
        case _:
            return _own(condition) if condition.field.is_own else _test(condition)


def _deepest_first(parts: Iterable[Condition]) -> list[Condition]:
    """In an order that SQLite's parser, whose stack ends at 100 entries, needs the least of it for."""
    return sorted(parts, key=_depth, reverse=True)


def _depth(condition: Condition) -> int:
    match condition:
        case AllOf(parts) | AnyOf(parts):
            return 1 + max(map(_depth, parts))
        case Not(part):
            return 1 + _depth(part)
        case _:
            return 0


def _joined(word: str, parts: Sequence[Sql]) -> Sql:
    if len(parts) == 1:
        return parts[0]
    texts, parameters = zip(*parts, strict=True)
    return Sql(f"({f' {word} '.join(texts)})", tuple(itertools.chain(*parameters)))


def _test(test: Test) -> Sql:
    """A test of a field that every collection has."""
    kind, expression = test.field.kind, _EXPRESSIONS[test.field.name]
    match test:
        case Missing():
            return Sql(f"{expression} IS NULL")
        case Match():
            return _match(test, expression)
        case Order(_, operator, Moment() as moment):
            return _in_time(test.field, expression, operator, moment)
        case Order(_, operator, value):
            return _compared(expression, operator, value)
        case Among(_, values) if kind == "date":
            moments = [moment for moment in values if isinstance(moment, Moment)]
            return _joined("OR", [_in_time(test.field, expression, "=", moment) for moment in moments])
        case Among(_, values) if kind == "format":
            return _among(expression, [stored for name in values for stored in FORMATS[str(name)]])
        case Among(_, values) if test.field.name in ("path", "folder", "name", "class"):
            return _joined("OR", [_part_of_path(test.field.name, str(value)) for value in values])
        case Among(_, values):
            return _among(expression, values)


def _compared(expression: str, operator: str, value: Any) -> Sql:
    placeholder, parameter = _bound(value)
    return Sql(f"{expression} {operator} {placeholder}", (parameter,))


def _among(expression: str, values: Sequence[Any]) -> Sql:
    placeholders, parameters = zip(*map(_bound, values), strict=True)
    return Sql(f"{expression} IN ({', '.join(placeholders)})", parameters)


def _bound(value: Any) -> tuple[str, Any]:
    """A placeholder and its value; a text that is no UTF-8 (a path given on the command line) goes as its bytes."""
    if not isinstance(value, str):
        return "?", value
    stored = stored_path(value)
    return ("?" if isinstance(stored, str) else "CAST(? AS TEXT)"), stored


# Time


def _in_time(field: Field, expression: str, operator: str, moment: Moment) -> Sql:
    """A time is compared as far as the other is given: a second with a month by its month."""
    if field.is_own or field.name == "taken":
        return _compared(f"substr({expression}, 1, {len(str(moment))})", operator, str(moment))
    low, high = mtime_ns(moment.start), mtime_ns(moment.end)
    match operator:
        case "<":
            return Sql(f"{expression} < ?", (low,))
        case "<=":
            return Sql(f"{expression} < ?", (high,))
        case ">":
            return Sql(f"{expression} >= ?", (high,))
        case ">=":
            return Sql(f"{expression} >= ?", (low,))
        case _:
            return Sql(f"({expression} >= ? AND {expression} < ?)", (low, high))


def mtime_ns(moment: datetime.datetime) -> int:
    """Of a local time, within what SQLite can hold."""
    return max(-_INT64_MAX, min(int(moment.timestamp()) * 10**9, _INT64_MAX))


# Paths


def _part_of_path(field: str, value: str) -> Sql:
    """The field is exactly `value`, said such that most files are dismissed without taking their paths apart."""
    value = value.replace("/", _SEP)
    if field == "name":
        return _ends_with(_PATH, _SEP + value) if value and _SEP not in value else Sql("FALSE")
    if field == "class":
        if not value or _SEP in value:
            return Sql("FALSE")
        return _joined("AND", [_fits(f"*{_SEP}{_literal(value)}{_SEP}*"), _ends_with(_FOLDER, _SEP + value + _SEP)])
    if field == "path":
        if _is_whole(value):
            return Sql("files.path = ?", (stored_path(value),))
        return _ends_with(_PATH, _SEP + value)
    value = value.rstrip(_SEP) + _SEP
    if _is_whole(value):
        return _joined("AND", [_below(value), _compared(_FOLDER, "=", value)])
    return _joined("AND", [_fits(f"*{_SEP}{_literal(value)}*"), _ends_with(_FOLDER, _SEP + value)])


def _is_whole(path: str) -> bool:
    """Whether a path, or a pattern of one, says where it begins."""
    return os.path.isabs(path) or is_remote(path)


def _ends_with(expression: str, end: str) -> Sql:
    placeholder, parameter = _bound(end)
    return Sql(f"substr({expression}, -length({placeholder})) = {placeholder}", (parameter, parameter))


def _fits(glob: str) -> Sql:
    return _compared(_PATH, "GLOB", glob)


def _below(folder: str) -> Sql:
    """The path begins with `folder`, which ends in a separator: a range that the index on paths gives at once.

    Text comes before BLOBs in SQLite's order, so each has a range of its own.
    """
    end = folder[:-1] + _AFTER_SEP
    ranges = {stored_path(folder): stored_path(end), os.fsencode(folder): os.fsencode(end)}
    return _joined("OR", [Sql("(files.path >= ? AND files.path < ?)", bounds) for bounds in ranges.items()])


# Patterns


def _match(test: Match, expression: str) -> Sql:
    """A pattern on a text, and first a cheaper one on the whole path that every match must fit, too."""
    glob = _glob(test)
    if test.field.name == "camera":
        return _compared(expression, "GLOB", glob)
    glob = glob.replace("/", _SEP)
    if test.field.name == "name":
        return _joined("AND", [_fits(_from_any_folder(glob)), _compared(expression, "GLOB", glob)])
    if test.field.name == "class":
        return _joined("AND", [_fits(f"{_from_any_folder(glob)}{_SEP}*"), _compared(expression, "GLOB", glob)])
    if test.field.name == "folder":  # compared with the separator at its end
        glob = _from_any_folder(glob if test.operator == "~" else glob.rstrip(_SEP) + _SEP)
        return _joined("AND", [*_known_beginning(glob), _fits(f"{glob}*"), _compared(expression, "GLOB", glob)])
    glob = _from_any_folder(glob)
    return _joined("AND", [*_known_beginning(glob), _fits(glob)])


def _from_any_folder(glob: str) -> str:
    says_where = _is_whole(glob) or glob.startswith("*") or "://" in glob  # an address, perhaps in any case
    return glob if says_where else f"*{_SEP}{glob}"


def _known_beginning(glob: str) -> Iterable[Sql]:
    """The folder that all paths which fit begin with, where there is one."""
    literal = glob[: min((glob.index(sign) for sign in "*?[" if sign in glob), default=len(glob))]
    folder = literal[: literal.rfind(_SEP) + 1]
    return [_below(folder)] if _is_whole(glob) and folder.strip(_SEP) else []


def _glob(test: Match) -> str:
    """Any pattern as a GLOB: SQLite's LIKE knows upper and lower case of A to Z alone."""
    if test.operator == "glob":
        return test.pattern
    if test.operator == "~":
        return f"*{''.join(map(_in_any_case, test.pattern))}*"
    return "".join({"%": "*", "_": "?"}.get(char) or _in_any_case(char) for char in test.pattern)


def _in_any_case(char: str) -> str:
    cases = sorted({case for case in (char, char.lower(), char.upper()) if len(case) == 1})
    return f"[{''.join(cases)}]" if len(cases) > 1 else _literal(char)


def _literal(text: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


# Columns of the user's own


def _own(test: Test) -> Sql:
    match test:
        case Missing():
            present = _annotated(test.field, Sql(f"{_OWN_VALUE} IS NOT NULL"))
            return Sql(f"NOT {present.text}", present.parameters)
        case Match():
            return _annotated(test.field, _joined("AND", [Sql(_IS_TEXT), _compared(_OWN_VALUE, "GLOB", _glob(test))]))
        case Order(_, operator, value):
            return _annotated(test.field, _own_value(test.field, operator, value))
        case Among(_, values):
            return _annotated(test.field, _joined("OR", [_own_value(test.field, "=", value) for value in values]))


def _own_value(field: Field, operator: str, value: Value) -> Sql:
    """Numbers with numbers, texts with texts, and a date with texts that begin like one."""
    if isinstance(value, Moment):
        # As pandas and SQL write a time, with a blank before the clock.
        expression = f"replace({_OWN_VALUE}, ' ', 'T')"
        return _joined("AND", [Sql(_IS_DATE), _in_time(field, expression, operator, value)])
    is_comparable = Sql(_IS_TEXT if isinstance(value, str) else _IS_NUMBER)
    return _joined("AND", [is_comparable, _compared(_OWN_VALUE, operator, value)])


def _annotated(field: Field, test: Sql) -> Sql:
    placeholder, name = _bound(field.name)
    found = f"annotations.image_id = images.id AND annotations.name = {placeholder} AND {test.text}"
    return Sql(f"EXISTS (SELECT 1 FROM annotations WHERE {found})", (name, *test.parameters))
