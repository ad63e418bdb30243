"""Compile a `--where` condition to SQL over `files` and `images`. Every value is a bound parameter.

An SQL comparison with NULL is neither true nor false, and `AND` and `OR` keep that from becoming true. `NOT` would
also keep it NULL, but the language wants true, so `NOT x` is written `x IS NOT TRUE`.
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
    """An SQL expression and the values of its `?` parameters, in order."""

    text: str
    parameters: tuple[Any, ...] = ()


_SEP = os.sep
_AFTER_SEP = chr(ord(_SEP) + 1)
_INT64_MAX = 2**63 - 1
_MAX_LISTED_COLUMNS = 20

# A path that is not UTF-8 is stored as a BLOB; the cast lets SQLite's text functions work on its bytes.
_PATH = "CAST(files.path AS TEXT)"


def _build_folder_sql(path: str) -> str:
    # rtrim() removes every character from the end that occurs in the path, except the separator.
    return f"rtrim({path}, replace({path}, '{_SEP}', '.'))"


_FOLDER = _build_folder_sql(_PATH)
"""The folder of the file, with a separator at its end."""
_FOLDER_PATH = f"rtrim({_FOLDER}, '{_SEP}')"

_FIELD_SQL = {
    "path": _PATH,
    "folder": _FOLDER,
    "name": f"substr({_PATH}, length({_FOLDER}) + 1)",
    "class": f"nullif(substr({_FOLDER_PATH}, length({_build_folder_sql(_FOLDER_PATH)}) + 1), '')",
    "size": "files.size_bytes",
    "modified": "files.mtime_ns",
    "taken": "images.taken_at",
    "width": "nullif(images.width, 0)",
    "height": "nullif(images.height, 0)",
    "megapixels": "(nullif(images.width, 0) * images.height / 1e6)",
    "aspect": "(nullif(images.width, 0) * 1.0 / images.height)",
    "format": "nullif(images.format, '')",
    "camera": "images.camera",
    "id": "images.id",
}

_COLUMN_VALUE = "annotations.value"
_IS_NUMBER = f"typeof({_COLUMN_VALUE}) IN ('integer', 'real')"
_IS_TEXT = f"typeof({_COLUMN_VALUE}) = 'text'"
_IS_DATE = f"{_IS_TEXT} AND {_COLUMN_VALUE} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]*'"


def compile_sql(condition: Condition, columns: Collection[str]) -> Sql:
    """Compile a condition to an expression for the WHERE clause of

        SELECT DISTINCT files.image_id FROM files JOIN images ON images.id = files.image_id

    `columns` are the names of the user columns. Raises `UsageError` on a field that is neither built in nor a column.
    """
    for test in iter_tests(condition):
        if test.field.is_user_column and test.field.name not in columns:
            raise _build_unknown_field_error(test.field, columns)
    return _compile_condition(condition)


def _build_unknown_field_error(field: Field, columns: Collection[str]) -> UsageError:
    names = sorted(columns)
    name = field.name if len(field.name) <= 40 else f"{field.name[:40]}…"
    near = difflib.get_close_matches(field.name[:40], [*FIELD_KINDS, *names], 3)
    suggestion = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    listed = ", ".join(names[:_MAX_LISTED_COLUMNS])
    if len(names) > _MAX_LISTED_COLUMNS:
        listed += f" and {len(names) - _MAX_LISTED_COLUMNS} more"
    user_columns = f"user columns: {listed}" if names else "no user columns; add some with `simsearch annotate`"
    problem = f"--where: unknown field {name!r} at column {field.position + 1}"
    return UsageError(problem, f"{suggestion}fields: {', '.join(FIELD_KINDS)}; {user_columns}")


def restrict_to_images(sql: Sql, image_ids: Collection[int]) -> Sql:
    """Restrict a condition to images that have several files, and to these images."""
    ids = ", ".join(map(str, image_ids))
    selected = f"SELECT image_id FROM files GROUP BY image_id HAVING count(*) > 1 OR image_id IN ({ids})"
    return Sql(f"({sql.text}) AND images.id IN ({selected})", sql.parameters)


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
    """Sort parts so that SQLite's parser needs the least of its stack, which is limited to 100 entries."""
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
    """Compile a test of a built-in field."""
    kind, expression = test.field.kind, _FIELD_SQL[test.field.name]
    match test:
        case MissingValue():
            return Sql(f"{expression} IS NULL")
        case PatternMatch():
            return _compile_pattern(test, expression)
        case Inequality(_, operator, Timespan() as timespan):
            return _compile_time_comparison(test.field, expression, operator, timespan)
        case Inequality(_, operator, value):
            return _compile_comparison(expression, operator, value)
        case OneOf(_, values) if kind == "date":
            timespans = [value for value in values if isinstance(value, Timespan)]
            return _join(
                "OR", [_compile_time_comparison(test.field, expression, "=", timespan) for timespan in timespans]
            )
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
    """Return a placeholder and its value. A text that is not UTF-8 (a path of the command line) is bound as bytes."""
    if not isinstance(value, str):
        return "?", value
    stored = encode_path(value)
    return ("?" if isinstance(stored, str) else "CAST(? AS TEXT)"), stored


# Times


def _compile_time_comparison(field: Field, expression: str, operator: str, timespan: Timespan) -> Sql:
    """Compare a time with the precision of `timespan`: a time and a month are compared by their months."""
    if field.is_user_column or field.name == "taken":
        return _compile_comparison(f"substr({expression}, 1, {len(str(timespan))})", operator, str(timespan))
    low, high = to_mtime_ns(timespan.start), to_mtime_ns(timespan.end)
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


def to_mtime_ns(local_time: datetime.datetime) -> int:
    """Convert a local time to nanoseconds since 1970, clipped to a signed 64-bit integer."""
    return max(-_INT64_MAX, min(int(local_time.timestamp()) * 10**9, _INT64_MAX))


# Paths


def _compile_path_equality(field: str, value: str) -> Sql:
    """Compile equality of a part of the path, with a cheap test first that rejects most files."""
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
    """Whether a path or a path pattern is absolute or an address."""
    return os.path.isabs(path) or is_remote(path)


def _compile_suffix(expression: str, end: str) -> Sql:
    placeholder, parameter = _bind(end)
    return Sql(f"substr({expression}, -length({placeholder})) = {placeholder}", (parameter, parameter))


def _compile_path_glob(glob: str) -> Sql:
    return _compile_comparison(_PATH, "GLOB", glob)


def _compile_prefix(folder: str) -> Sql:
    """Compile "the path begins with `folder`", which ends in a separator, as a range of the index on paths.

    SQLite orders texts before BLOBs, so each type needs its own range.
    """
    end = folder[:-1] + _AFTER_SEP
    ranges = {encode_path(folder): encode_path(end), os.fsencode(folder): os.fsencode(end)}
    return _join("OR", [Sql("(files.path >= ? AND files.path < ?)", bounds) for bounds in ranges.items()])


# Patterns


def _compile_pattern(test: PatternMatch, expression: str) -> Sql:
    """Compile a pattern on a text, with a cheaper pattern on the whole path first that every match satisfies."""
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
    if test.field.name == "folder":  # folders end in a separator
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
    is_anchored = _is_absolute(glob) or glob.startswith("*") or "://" in glob  # an address, in any case of letters
    return glob if is_anchored else f"*{_SEP}{glob}"


def _compile_literal_prefix(glob: str) -> Iterable[Sql]:
    """Compile the literal folder at the beginning of an absolute pattern, if there is one."""
    literal = glob[: min((glob.index(sign) for sign in "*?[" if sign in glob), default=len(glob))]
    folder = literal[: literal.rfind(_SEP) + 1]
    return [_compile_prefix(folder)] if _is_absolute(glob) and folder.strip(_SEP) else []


def _to_glob(test: PatternMatch) -> str:
    """Convert any pattern to a GLOB, because SQLite's LIKE ignores case for A to Z only."""
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


# User columns


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
    """Compare numbers with numbers, texts with texts, and a time span with texts that begin with a date."""
    if isinstance(value, Timespan):
        # pandas and SQL write times with a blank between date and clock.
        expression = f"replace({_COLUMN_VALUE}, ' ', 'T')"
        return _join("AND", [Sql(_IS_DATE), _compile_time_comparison(field, expression, operator, value)])
    is_comparable = Sql(_IS_TEXT if isinstance(value, str) else _IS_NUMBER)
    return _join("AND", [is_comparable, _compile_comparison(_COLUMN_VALUE, operator, value)])


def _compile_column_lookup(field: Field, test: Sql) -> Sql:
    placeholder, name = _bind(field.name)
    found = f"annotations.image_id = images.id AND annotations.name = {placeholder} AND {test.text}"
    return Sql(f"EXISTS (SELECT 1 FROM annotations WHERE {found})", (name, *test.parameters))
