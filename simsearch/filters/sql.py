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
    FIELD_KINDS,
    FORMATS,
    AllOf,
    AnyOf,
    Condition,
    Field,
    FieldTest,
    Inequality,
    MissingValue,
    Not,
    OneOf,
    PatternMatch,
    Value,
    iter_tests,
)
from simsearch.filters.timespan import Timespan
from simsearch.sources.addresses import is_remote
from simsearch.sources.path_codec import encode_path


class Sql(NamedTuple):
    """An SQL expression and what is bound to its `?`, in order."""

    text: str
    parameters: tuple[Any, ...] = ()


_SEP = os.sep
_AFTER_SEP = chr(ord(_SEP) + 1)
_INT64_MAX = 2**63 - 1
_MAX_LISTED_COLUMNS = 20

# A path that is no UTF-8 is a BLOB; SQLite's text functions work on its bytes as well as they can.
_PATH = "CAST(files.path AS TEXT)"


def _build_folder_sql(path: str) -> str:
    # What may be trimmed from the end is every character of the path but the separator.
    return f"rtrim({path}, replace({path}, '{_SEP}', '.'))"


_FOLDER = _build_folder_sql(_PATH)
"""With the separator at its end."""
_FOLDER_PATH = f"rtrim({_FOLDER}, '{_SEP}')"

_FIELD_SQL = {
    "path": _PATH,
    "folder": _FOLDER,
    "name": f"substr({_PATH}, length({_FOLDER}) + 1)",
    "class": f"nullif(substr({_FOLDER_PATH}, length({_build_folder_sql(_FOLDER_PATH)}) + 1), '')",
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

_COLUMN_VALUE = "annotations.value"
_IS_NUMBER = f"typeof({_COLUMN_VALUE}) IN ('integer', 'real')"
_IS_TEXT = f"typeof({_COLUMN_VALUE}) = 'text'"
_IS_DATE = f"{_IS_TEXT} AND {_COLUMN_VALUE} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]*'"


def compile_sql(condition: Condition, columns: Collection[str]) -> Sql:
    """The condition as what may follow the WHERE of

        SELECT DISTINCT files.image_id FROM files JOIN images ON images.id = files.image_id

    `columns` are the names of the user's own columns. Raises `UsageError` on one that is not among them.
    """
    for test in iter_tests(condition):
        if test.field.is_user_column and test.field.name not in columns:
            raise _build_unknown_field_error(test.field, columns)
    return _compile_condition(condition)


def _build_unknown_field_error(field: Field, columns: Collection[str]) -> UsageError:
    own = sorted(columns)
    shown = field.name if len(field.name) <= 40 else f"{field.name[:40]}…"
    near = difflib.get_close_matches(field.name[:40], [*FIELD_KINDS, *own], 3)
    offer = f"did you mean {' or '.join(near)}? " if near else ""
    listed = ", ".join(own[:_MAX_LISTED_COLUMNS]) + (
        f" and {len(own) - _MAX_LISTED_COLUMNS} more" * (len(own) > _MAX_LISTED_COLUMNS)
    )
    of_own = f"columns of your own: {listed}" if own else "there are no columns of your own: see `simsearch annotate`"
    problem = f"--where: no field is called {shown!r}, at column {field.position + 1}"
    return UsageError(problem, f"{offer}fields: {', '.join(FIELD_KINDS)}; {of_own}")


def _compile_condition(condition: Condition) -> Sql:
    match condition:
        case AllOf(parts):
            return _join("AND", [_compile_condition(part) for part in _sort_deepest_first(parts)])
        case AnyOf(parts):
            return _join("OR", [_compile_condition(part) for part in _sort_deepest_first(parts)])
        case Not(part):
            inner = _compile_condition(part)
            return Sql(f"(({inner.text}) IS NOT TRUE)", inner.parameters)
        case _:
            return _compile_column_test(condition) if condition.field.is_user_column else _compile_test(condition)


def _sort_deepest_first(parts: Iterable[Condition]) -> list[Condition]:
    """In an order that SQLite's parser, whose stack ends at 100 entries, needs the least of it for."""
    return sorted(parts, key=_measure_depth, reverse=True)


def _measure_depth(condition: Condition) -> int:
    match condition:
        case AllOf(parts) | AnyOf(parts):
            return 1 + max(map(_measure_depth, parts))
        case Not(part):
            return 1 + _measure_depth(part)
        case _:
            return 0


def _join(word: str, parts: Sequence[Sql]) -> Sql:
    if len(parts) == 1:
        return parts[0]
    texts, parameters = zip(*parts, strict=True)
    return Sql(f"({f' {word} '.join(texts)})", tuple(itertools.chain(*parameters)))


def _compile_test(test: FieldTest) -> Sql:
    """A test of a field that every collection has."""
    kind, expression = test.field.kind, _FIELD_SQL[test.field.name]
    match test:
        case MissingValue():
            return Sql(f"{expression} IS NULL")
        case PatternMatch():
            return _compile_pattern(test, expression)
        case Inequality(_, operator, Timespan() as moment):
            return _compile_time_comparison(test.field, expression, operator, moment)
        case Inequality(_, operator, value):
            return _compile_comparison(expression, operator, value)
        case OneOf(_, values) if kind == "date":
            moments = [moment for moment in values if isinstance(moment, Timespan)]
            return _join("OR", [_compile_time_comparison(test.field, expression, "=", moment) for moment in moments])
        case OneOf(_, values) if kind == "format":
            return _compile_in(expression, [stored for name in values for stored in FORMATS[str(name)]])
        case OneOf(_, values) if test.field.name in ("path", "folder", "name", "class"):
            return _join("OR", [_compile_path_equality(test.field.name, str(value)) for value in values])
        case OneOf(_, values):
            return _compile_in(expression, values)


def _compile_comparison(expression: str, operator: str, value: Any) -> Sql:
    placeholder, parameter = _bind(value)
    return Sql(f"{expression} {operator} {placeholder}", (parameter,))


def _compile_in(expression: str, values: Sequence[Any]) -> Sql:
    placeholders, parameters = zip(*map(_bind, values), strict=True)
    return Sql(f"{expression} IN ({', '.join(placeholders)})", parameters)


def _bind(value: Any) -> tuple[str, Any]:
    """A placeholder and its value; a text that is no UTF-8 (a path given on the command line) goes as its bytes."""
    if not isinstance(value, str):
        return "?", value
    stored = encode_path(value)
    return ("?" if isinstance(stored, str) else "CAST(? AS TEXT)"), stored


# Time


def _compile_time_comparison(field: Field, expression: str, operator: str, moment: Timespan) -> Sql:
    """A time is compared as far as the other is given: a second with a month by its month."""
    if field.is_user_column or field.name == "taken":
        return _compile_comparison(f"substr({expression}, 1, {len(str(moment))})", operator, str(moment))
    low, high = to_mtime_ns(moment.start), to_mtime_ns(moment.end)
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


def to_mtime_ns(moment: datetime.datetime) -> int:
    """Of a local time, within what SQLite can hold."""
    return max(-_INT64_MAX, min(int(moment.timestamp()) * 10**9, _INT64_MAX))


# Paths


def _compile_path_equality(field: str, value: str) -> Sql:
    """The field is exactly `value`, said such that most files are dismissed without taking their paths apart."""
    value = value.replace("/", _SEP)
    if field == "name":
        return _compile_suffix(_PATH, _SEP + value) if value and _SEP not in value else Sql("FALSE")
    if field == "class":
        if not value or _SEP in value:
            return Sql("FALSE")
        return _join(
            "AND",
            [_compile_path_glob(f"*{_SEP}{_escape_glob(value)}{_SEP}*"), _compile_suffix(_FOLDER, _SEP + value + _SEP)],
        )
    if field == "path":
        if _is_absolute(value):
            return Sql("files.path = ?", (encode_path(value),))
        return _compile_suffix(_PATH, _SEP + value)
    value = value.rstrip(_SEP) + _SEP
    if _is_absolute(value):
        return _join("AND", [_compile_prefix(value), _compile_comparison(_FOLDER, "=", value)])
    return _join("AND", [_compile_path_glob(f"*{_SEP}{_escape_glob(value)}*"), _compile_suffix(_FOLDER, _SEP + value)])


def _is_absolute(path: str) -> bool:
    """Whether a path, or a pattern of one, says where it begins."""
    return os.path.isabs(path) or is_remote(path)


def _compile_suffix(expression: str, end: str) -> Sql:
    placeholder, parameter = _bind(end)
    return Sql(f"substr({expression}, -length({placeholder})) = {placeholder}", (parameter, parameter))


def _compile_path_glob(glob: str) -> Sql:
    return _compile_comparison(_PATH, "GLOB", glob)


def _compile_prefix(folder: str) -> Sql:
    """The path begins with `folder`, which ends in a separator: a range that the index on paths gives at once.

    Text comes before BLOBs in SQLite's order, so each has a range of its own.
    """
    end = folder[:-1] + _AFTER_SEP
    ranges = {encode_path(folder): encode_path(end), os.fsencode(folder): os.fsencode(end)}
    return _join("OR", [Sql("(files.path >= ? AND files.path < ?)", bounds) for bounds in ranges.items()])


# Patterns


def _compile_pattern(test: PatternMatch, expression: str) -> Sql:
    """A pattern on a text, and first a cheaper one on the whole path that every match must fit, too."""
    glob = _to_glob(test)
    if test.field.name == "camera":
        return _compile_comparison(expression, "GLOB", glob)
    glob = glob.replace("/", _SEP)
    if test.field.name == "name":
        return _join("AND", [_compile_path_glob(_unanchor_glob(glob)), _compile_comparison(expression, "GLOB", glob)])
    if test.field.name == "class":
        return _join(
            "AND", [_compile_path_glob(f"{_unanchor_glob(glob)}{_SEP}*"), _compile_comparison(expression, "GLOB", glob)]
        )
    if test.field.name == "folder":  # compared with the separator at its end
        glob = _unanchor_glob(glob if test.operator == "~" else glob.rstrip(_SEP) + _SEP)
        return _join(
            "AND",
            [
                *_compile_literal_prefix(glob),
                _compile_path_glob(f"{glob}*"),
                _compile_comparison(expression, "GLOB", glob),
            ],
        )
    glob = _unanchor_glob(glob)
    return _join("AND", [*_compile_literal_prefix(glob), _compile_path_glob(glob)])


def _unanchor_glob(glob: str) -> str:
    says_where = _is_absolute(glob) or glob.startswith("*") or "://" in glob  # an address, perhaps in any case
    return glob if says_where else f"*{_SEP}{glob}"


def _compile_literal_prefix(glob: str) -> Iterable[Sql]:
    """The folder that all paths which fit begin with, where there is one."""
    literal = glob[: min((glob.index(sign) for sign in "*?[" if sign in glob), default=len(glob))]
    folder = literal[: literal.rfind(_SEP) + 1]
    return [_compile_prefix(folder)] if _is_absolute(glob) and folder.strip(_SEP) else []


def _to_glob(test: PatternMatch) -> str:
    """Any pattern as a GLOB: SQLite's LIKE knows upper and lower case of A to Z alone."""
    if test.operator == "glob":
        return test.pattern
    if test.operator == "~":
        return f"*{''.join(map(_to_case_insensitive, test.pattern))}*"
    return "".join({"%": "*", "_": "?"}.get(char) or _to_case_insensitive(char) for char in test.pattern)


def _to_case_insensitive(char: str) -> str:
    cases = sorted({case for case in (char, char.lower(), char.upper()) if len(case) == 1})
    return f"[{''.join(cases)}]" if len(cases) > 1 else _escape_glob(char)


def _escape_glob(text: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


# Columns of the user's own


def _compile_column_test(test: FieldTest) -> Sql:
    match test:
        case MissingValue():
            present = _compile_column_lookup(test.field, Sql(f"{_COLUMN_VALUE} IS NOT NULL"))
            return Sql(f"NOT {present.text}", present.parameters)
        case PatternMatch():
            return _compile_column_lookup(
                test.field, _join("AND", [Sql(_IS_TEXT), _compile_comparison(_COLUMN_VALUE, "GLOB", _to_glob(test))])
            )
        case Inequality(_, operator, value):
            return _compile_column_lookup(test.field, _compile_column_comparison(test.field, operator, value))
        case OneOf(_, values):
            return _compile_column_lookup(
                test.field, _join("OR", [_compile_column_comparison(test.field, "=", value) for value in values])
            )


def _compile_column_comparison(field: Field, operator: str, value: Value) -> Sql:
    """Numbers with numbers, texts with texts, and a date with texts that begin like one."""
    if isinstance(value, Timespan):
        # As pandas and SQL write a time, with a blank before the clock.
        expression = f"replace({_COLUMN_VALUE}, ' ', 'T')"
        return _join("AND", [Sql(_IS_DATE), _compile_time_comparison(field, expression, operator, value)])
    is_comparable = Sql(_IS_TEXT if isinstance(value, str) else _IS_NUMBER)
    return _join("AND", [is_comparable, _compile_comparison(_COLUMN_VALUE, operator, value)])


def _compile_column_lookup(field: Field, test: Sql) -> Sql:
    placeholder, name = _bind(field.name)
    found = f"annotations.image_id = images.id AND annotations.name = {placeholder} AND {test.text}"
    return Sql(f"EXISTS (SELECT 1 FROM annotations WHERE {found})", (name, *test.parameters))
