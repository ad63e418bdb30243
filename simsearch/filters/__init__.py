"""The language of `--where`: `parse` reads a text into a condition, `compile` makes SQL of it."""

from simsearch.filters.conditions import KINDS, Condition
from simsearch.filters.parser import parse
from simsearch.filters.sql import Sql, compile

__all__ = ["KINDS", "Condition", "Sql", "compile", "parse"]
