"""The language of `--where`: `parse` reads a text into a condition, `compile` makes SQL of it."""

from simsearch.filters.conditions import FIELD_KINDS, Condition
from simsearch.filters.parser import parse
from simsearch.filters.sql import Sql, compile_sql

__all__ = ["FIELD_KINDS", "Condition", "Sql", "compile_sql", "parse"]
