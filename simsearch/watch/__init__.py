"""Keep a collection current: detect changes at sources, wait until they settle, and index again."""

from simsearch.watch.filesystems import check_sources
from simsearch.watch.watch import WatchListener, WatchSettings, WatchUpdate, watch

__all__ = ["WatchListener", "WatchSettings", "WatchUpdate", "check_sources", "watch"]
