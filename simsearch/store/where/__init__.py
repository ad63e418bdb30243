"""The language of `--where`: `parse` reads a text into a condition, `compile` makes SQL of it."""

from simsearch.store.where.condition import KINDS, Condition
from simsearch.store.where.parser import parse
from simsearch.store.where.sql import Sql, compile

__all__ = ["KINDS", "Condition", "Sql", "compile", "parse"]
