"""Tell the user of downloads and preparations deep inside a call. Light to import: the command line sets it up."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass


def _ignore_activity(_: str) -> AbstractContextManager[Callable[[float], None]]:
    return contextlib.nullcontext(lambda _: None)


@dataclass(frozen=True, slots=True)
class PreparationListener:
    """What is called while files are downloaded, and while a model or an index is prepared.

    `on_progress` gets a name, the bytes that are here, and the bytes of the whole file, 0 where the server does not
    say; `on_note` gets messages for the user. `on_activity` gets what begins now and takes seconds, and returns a
    context for its duration, which gives a function to call with the finished share, from 0 to 1.
    """

    on_progress: Callable[[str, int, int], None] = lambda *_: None
    on_note: Callable[[str], None] = lambda _: None
    on_activity: Callable[[str], AbstractContextManager[Callable[[float], None]]] = _ignore_activity


LISTENER: ContextVar[PreparationListener] = ContextVar("LISTENER")
"""The listener of this context. Without one, nothing is told."""


def find_listener() -> PreparationListener:
    """The listener of this context, or one that does nothing."""
    return LISTENER.get(PreparationListener())
