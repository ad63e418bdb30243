"""What `--where` can say, once it is read: fields, values, and conditions that print as they are written.

A condition is true or false of one file; nothing is in between. A test of something that is missing (no date was in
the picture, no price was noted) is false, and `not` turns that into true: `camera != 'X'` is `not (camera = 'X')`
and matches pictures of unknown cameras, too. An image matches if any one of its files does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from simsearch.filters.timespan import Timespan

FieldKind = Literal["text", "place", "number", "date", "format", "own"]
"""What is compared with what. `own` is a column of the user's: numbers, texts, or both."""

FIELD_KINDS: dict[str, FieldKind] = {
    "path": "place",
    "folder": "place",
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
"""The fields that every collection has.

`path` and `folder` may be given from any folder on: `folder = 'a/b'` is every folder b within an a, and `path glob
'a/*'` is all that lies below a folder a, however deep. What begins with a separator is meant from the root; a pattern
that begins with `*` or `%` is taken as it is. `name` is the file's, `class` that of its folder.

`size` is that of the file in bytes; `modified` is the file's date on the clock of this machine (local time), `taken`
the picture's own on the clock of its camera. `width` and `height` are upright px, `aspect` is width / height, `id` the
image's.
"""

ORDERED_KINDS: frozenset[FieldKind] = frozenset({"text", "number", "date", "own"})
PATTERN_KINDS: frozenset[FieldKind] = frozenset({"text", "place", "own"})

FORMATS = {
    "avif": ("AVIF",),
    "bmp": ("BMP", "DIB"),
    "gif": ("GIF",),
    "heif": ("HEIF",),
    "jpeg": ("JPEG", "MPO"),  # MPO: a JPEG that brings others along, as telephones write it
    "jpeg2000": ("JPEG2000",),
    "png": ("PNG",),
    "ppm": ("PPM",),
    "tiff": ("TIFF",),
    "webp": ("WEBP",),
}
"""What a format is called here, and in the catalog."""

KEYWORDS = frozenset({"and", "or", "not", "in", "between", "like", "glob", "is", "missing", "present"})

WORD_PATTERN = r"[^\W\d][\w.\-]*"
"""A name or a value that needs no quotes."""

Value = float | str | Timespan
"""What a field is compared with: a number, a text, a time."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of every collection, or a column of the user's. `at` is where it stood in the text, from 0."""

    name: str
    is_user_column: bool = False
    position: int = field(default=0, compare=False)

    @property
    def kind(self) -> FieldKind:
        """What it can be compared with."""
        return "own" if self.is_user_column else FIELD_KINDS[self.name]

    def __str__(self) -> str:
        taken = self.name.lower() in KEYWORDS or self.name.lower() in FIELD_KINDS
        if self.is_user_column and (taken or not re.fullmatch(WORD_PATTERN, self.name)):
            return _quote(self.name, '"')
        return self.name


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field is one of some values: `=` and `in`."""

    field: Field
    values: tuple[Value, ...]

    def __str__(self) -> str:
        return f"{self.field} {self._format_values('=', 'in')}"

    def format_negation(self) -> str:
        """How its opposite is written."""
        return f"{self.field} {self._format_values('!=', 'not in')}"

    def _format_values(self, one: str, many: str) -> str:
        if len(self.values) == 1:
            return f"{one} {_format_value(self.values[0])}"
        return f"{many} ({', '.join(map(_format_value, self.values))})"


@dataclass(frozen=True, slots=True)
class Inequality:
    """The field comes before or after a value; texts in the order of their code points."""

    field: Field
    operator: Literal["<", "<=", ">", ">="]
    value: Value

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {_format_value(self.value)}"


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """The field, a text, fits a pattern.

    `like`: `%` is any text and `_` any character, in upper or lower case. `glob`: `*`, `?`, `[a-z]` and `[^a-z]`, in
    just this case; `*` runs over folders, too. `~`: the text is found in it, in upper or lower case.
    """

    field: Field
    operator: Literal["like", "glob", "~"]
    pattern: str

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {_format_value(self.pattern)}"

    def format_negation(self) -> str:
        """How its opposite is written."""
        operator = "!~" if self.operator == "~" else f"not {self.operator}"
        return f"{self.field} {operator} {_format_value(self.pattern)}"


@dataclass(frozen=True, slots=True)
class MissingValue:
    """Nothing is known of the field."""

    field: Field

    def __str__(self) -> str:
        return f"{self.field} is missing"

    def format_negation(self) -> str:
        """How its opposite is written."""
        return f"{self.field} is present"


@dataclass(frozen=True, slots=True)
class Not:
    """The part is false."""

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
    """All of the parts, two or more."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, AnyOf | AllOf) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of the parts, two or more."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " or ".join(f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts)


FieldTest = OneOf | Inequality | PatternMatch | MissingValue
Condition = FieldTest | Not | AllOf | AnyOf


def iter_tests(condition: Condition) -> Iterator[FieldTest]:
    """Every test in a condition, from left to right."""
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
