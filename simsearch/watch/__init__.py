"""Keeping a collection current: seeing that sources change, waiting until they rest, and indexing them again."""

from simsearch.watch.filesystems import check_sources
from simsearch.watch.watch import Ears, Pace, Turn, watch

__all__ = ["Ears", "Pace", "Turn", "check_sources", "watch"]
