"""The syntax tree of a `--where` condition: fields, values and tests. `str()` of a condition is its canonical text.

A condition is either true or false for one file; there is no third value. A test of a missing value (the picture has
no date, the column has no value for this image) is false, and `not` makes it true: `camera != 'X'` means
`not (camera = 'X')`, so it also matches pictures without a camera. An image matches if at least one of its files does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from simsearch.filters.timespan import Timespan

FieldKind = Literal["text", "path", "number", "date", "format", "column"]
"""The type of a field's values. `column` is a user column: its values are numbers, texts, or both."""

FIELD_KINDS: dict[str, FieldKind] = {
    "path": "path",
    "folder": "path",
    "name": "text",
    "class": "text",
    "size": "number",
    "modified": "date",
    "taken": "date",
    "width": "number",
    "height": "number",
    "megapixels": "number",
    "aspect": "number",
    "format": "format",
    "camera": "text",
    "id": "number",
}
"""The fields that every collection has, each with its kind.

A `path` or `folder` may begin at any folder: `folder = 'a/b'` matches every folder b in a folder a, and `path glob
'a/*'` matches every file below a folder a, at any depth. A value that begins with a separator is absolute; a pattern
that begins with `*` or `%` is used as it is. `name` is the file name, `class` the name of the file's folder.

`size` is the file size in bytes. `modified` is the modification time of the file in the local time of this machine,
`taken` the EXIF date in the local time of the camera. `width` and `height` are in px after EXIF rotation, `aspect` is
width / height, `id` is the image id.
"""

ORDERED_KINDS: frozenset[FieldKind] = frozenset({"text", "number", "date", "column"})
"""Kinds with an order: `<`, `<=`, `>`, `>=` and `between`."""

PATTERN_KINDS: frozenset[FieldKind] = frozenset({"text", "path", "column"})
"""Kinds that patterns apply to: `like`, `glob` and `~`."""

FORMATS = {
    "avif": ("AVIF",),
    "bmp": ("BMP", "DIB"),
    "gif": ("GIF",),
    "heif": ("HEIF",),
    "jpeg": ("JPEG", "MPO"),  # MPO: a JPEG with further pictures in one file, as phones write it
    "jpeg2000": ("JPEG2000",),
    "png": ("PNG",),
    "ppm": ("PPM",),
    "tiff": ("TIFF",),
    "webp": ("WEBP",),
}
"""Format names of the filter language, each with the names that the catalog stores."""

KEYWORDS = frozenset({"and", "or", "not", "in", "between", "like", "glob", "is", "missing", "present"})

WORD_PATTERN = r"[^\W\d][\w.\-]*"
"""The regular expression of a name or a value that needs no quotes."""

Value = float | str | Timespan
"""A value that a field is compared with: a number, a text or a time span."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of every collection, or a user column. `position` is its offset in the text, from 0."""

    name: str
    is_user_column: bool = False
    position: int = field(default=0, compare=False)

    @property
    def kind(self) -> FieldKind:
        """The type of its values."""
        return "column" if self.is_user_column else FIELD_KINDS[self.name]

    def __str__(self) -> str:
        is_reserved = self.name.lower() in KEYWORDS or self.name.lower() in FIELD_KINDS
        if self.is_user_column and (is_reserved or not re.fullmatch(WORD_PATTERN, self.name)):
            return _quote(self.name, '"')
        return self.name


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field equals one of the values: `=` and `in`."""

    field: Field
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.field} {self._format_values('=', 'in')}"

    def format_negation(self) -> str:
        """Return the text of the negated test."""
        return f"{self.field} {self._format_values('!=', 'not in')}"

    def _format_values(self, one: str, many: str) -> str:
        if len(self.values) == 1:
            return f"{one} {_format_value(self.values[0])}"
        return f"{many} ({', '.join(map(_format_value, self.values))})"


@dataclass(frozen=True, slots=True)
class Inequality:
    """The field is less or greater than a value. Texts are ordered by code point."""

    field: Field
    operator: Literal["<", "<=", ">", ">="]
    value: Value

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {_format_value(self.value)}"


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """The text of the field matches a pattern.

    `like`: `%` is any text and `_` any character, case-insensitive. `glob`: `*`, `?`, `[a-z]` and `[^a-z]`,
    case-sensitive; `*` also matches separators of folders. `~`: the field contains the text, case-insensitive.
    """

    field: Field
    operator: Literal["like", "glob", "~"]
    pattern: str

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {_format_value(self.pattern)}"

    def format_negation(self) -> str:
        """Return the text of the negated test."""
        operator = "!~" if self.operator == "~" else f"not {self.operator}"
        return f"{self.field} {operator} {_format_value(self.pattern)}"


@dataclass(frozen=True, slots=True)
class MissingValue:
    """The field has no value."""

    field: Field

    def __str__(self) -> str:
        return f"{self.field} is missing"

    def format_negation(self) -> str:
        """Return the text of the negated test."""
        return f"{self.field} is present"


@dataclass(frozen=True, slots=True)
class Not:
    """The negation of a condition."""

    part: Condition

    def __str__(self) -> str:
        match self.part:
            case AllOf() | AnyOf():
                return f"not ({self.part})"
            case Inequality() | Not():
                return f"not {self.part}"
            case _:
                return self.part.format_negation()


@dataclass(frozen=True, slots=True)
class AllOf:
    """The conjunction of two or more conditions."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, AnyOf | AllOf) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The disjunction of two or more conditions."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " or ".join(f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts)


FieldTest = OneOf | Inequality | PatternMatch | MissingValue
Condition = FieldTest | Not | AllOf | AnyOf


def iter_tests(condition: Condition) -> Iterator[FieldTest]:
    """Iterate over the tests in a condition, from left to right."""
    match condition:
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from iter_tests(part)
        case Not(part):
            yield from iter_tests(part)
        case _:
            yield condition


def _format_value(value: Value) -> str:
    if isinstance(value, str):
        return _quote(value, "'")
    return repr(value) if isinstance(value, float | int) else str(value)


def _quote(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark + mark) + mark
