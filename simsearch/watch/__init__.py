"""Keeping a collection current: seeing that sources change, waiting until they rest, and indexing them again."""

from simsearch.watch.filesystems import check_sources
from simsearch.watch.watch import WatchListener, WatchSettings, WatchUpdate, watch

__all__ = ["WatchListener", "WatchSettings", "WatchUpdate", "check_sources", "watch"]
