"""A filter that is put together from a field, a comparison and a value, for people who do not know the language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simsearch.errors import UsageError
from simsearch.filters import parse
from simsearch.filters.conditions import FIELD_KINDS, AllOf, Condition, Field

OPERATORS = {
    "is": "is",
    "not": "is not",
    "contains": "contains",
    "least": "is at least",
    "most": "is at most",
    "missing": "is missing",
    "present": "is present",
}
"""The comparisons of the form, with their titles."""

FIELDS = tuple(FIELD_KINDS)
_SIGNS = {"is": "=", "not": "!=", "contains": "~", "least": ">=", "most": "<="}


@dataclass(frozen=True, slots=True)
class BuiltTest:
    """The fields of the form: the name of a field, a comparison of `OPERATORS`, and a value as text."""

    field: str = "class"
    operator: str = "is"
    value: str = ""

    def build_condition(self) -> str:
        """Write the test in the language of filters. Raises `UsageError` if the value does not fit the field."""
        is_own = self.field not in FIELD_KINDS
        name = str(Field(self.field, is_user_column=is_own))
        if self.operator in ("missing", "present"):
            return f"{name} is {self.operator}"
        if self.operator not in _SIGNS:
            raise UsageError("unknown comparison", f"use one of {', '.join(OPERATORS)}")
        value = self.value.strip()
        if not value:
            raise UsageError("the value is missing", "write what to compare with")
        kind = FIELD_KINDS.get(self.field, "column")
        is_plain = kind in ("number", "date", "format") or (kind == "column" and _is_number(value))
        quoted = "'" + value.replace("'", "''") + "'"
        if self.operator == "contains" and kind in ("number", "date", "format"):
            raise UsageError(f"{self.field} is not a text", "choose another comparison")
        written = value if is_plain and self.operator != "contains" else quoted
        return str(parse(f"{name} {_SIGNS[self.operator]} {written}"))


def split_conditions(where: str) -> list[str]:
    """Split a filter into the parts that all have to hold. Raises `UsageError` on an invalid one."""
    if not where.strip():
        return []
    condition: Condition = parse(where)
    return [str(part) for part in condition.parts] if isinstance(condition, AllOf) else [str(condition)]


def join_conditions(parts: Sequence[str]) -> str:
    """Join filters so that all of them hold; empty and repeated ones are left out."""
    given = list(dict.fromkeys(one for part in parts for one in split_conditions(part)))
    return str(AllOf(tuple(parse(part) for part in given))) if len(given) > 1 else "".join(given)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii()
