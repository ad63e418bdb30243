"""Dates and times in `--where`, with a precision from a year to a second, without a time zone."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Self

_TIMESPAN_PATTERN = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[T ]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2}))?)?)?)?)?"
)
_ISO_LENGTHS = (4, 7, 10, 13, 16, 19)
_UNIT_LENGTHS = (
    datetime.timedelta(days=1),
    datetime.timedelta(hours=1),
    datetime.timedelta(minutes=1),
    datetime.timedelta(seconds=1),
)
_FIRST_YEAR, _LAST_YEAR = 1000, 2999


@dataclass(frozen=True, slots=True)
class Timespan:
    """A year, month, day, hour, minute or second: the half-open interval [`start`, `end`), without a time zone.

    `n_parts` is the precision: 1 for a year, 2 for a month, up to 6 for a second.
    """

    start: datetime.datetime
    n_parts: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `2024`, `2024-05`, `2024-05-01`, `2024-05-01T10`, `…:30` or `…:30:59`; a blank may replace the T.

        Raises `ValueError` on any other form and on dates that do not exist.
        """
        if (found := _TIMESPAN_PATTERN.fullmatch(text)) is None:
            raise ValueError("not in the form of a date")
        parts = [int(part) for part in found.groups() if part is not None]
        if not _FIRST_YEAR <= parts[0] <= _LAST_YEAR:
            raise ValueError(f"the year must be in {_FIRST_YEAR}..{_LAST_YEAR}")
        year, month, day, hour, minute, second = (*parts, *(1, 1, 1, 0, 0, 0)[len(parts) :])
        return cls(datetime.datetime(year, month, day, hour, minute, second), len(parts))

    @property
    def end(self) -> datetime.datetime:
        """The first second after the interval."""
        if self.n_parts == 1:
            return self.start.replace(year=self.start.year + 1)
        if self.n_parts == 2:
            december = self.start.month == 12
            return self.start.replace(year=self.start.year + december, month=self.start.month % 12 + 1)
        return self.start + _UNIT_LENGTHS[self.n_parts - 3]

    def __str__(self) -> str:
        return self.start.isoformat()[: _ISO_LENGTHS[self.n_parts - 1]]
