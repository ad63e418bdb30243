"""Tell the user of downloads that happen deep inside a call. Light to import, because the command line sets it up."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DownloadListener:
    """What is called while files are downloaded.

    `on_progress` gets a name, the bytes that are here, and the bytes of the whole file, 0 where the server does not
    say; `on_note` gets messages for the user, `on_activity` what begins now and takes seconds.
    """

    on_progress: Callable[[str, int, int], None] = lambda *_: None
    on_note: Callable[[str], None] = lambda _: None
    on_activity: Callable[[str], None] = lambda _: None


LISTENER: ContextVar[DownloadListener] = ContextVar("LISTENER")
"""The listener of the downloads in this context. Without one, nothing is told."""


def find_listener() -> DownloadListener:
    """The listener of this context, or one that does nothing."""
    return LISTENER.get(DownloadListener())
