"""The filter language of `--where`: `parse` turns text into a condition, `compile_sql` turns a condition into SQL."""

from simsearch.filters.conditions import FIELD_KINDS, Condition
from simsearch.filters.parser import parse
from simsearch.filters.sql import Sql, compile_sql

__all__ = ["FIELD_KINDS", "Condition", "Sql", "compile_sql", "parse"]
