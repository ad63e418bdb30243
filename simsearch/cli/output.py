"""What commands print: JSON, messages, paths and sizes, tables, progress."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from simsearch.text import replace_invalid_unicode

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from simsearch.ingest.pipeline import Progress
    from simsearch.sources.scan import Skip
    from simsearch.study.compare import ImageComparison
    from simsearch.study.predict import PredictionResult


_MAX_SKIPS_SHOWN = 20
_BAR_DELAY_S = 1.0
"""A bar appears when something has taken this long."""


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout, in ASCII, so that any terminal and any name survive it."""
    typer.echo(json.dumps(document, indent=2, default=_to_json_value))


def _to_json_value(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


def print_message(message: str) -> None:
    """A message for the person at the terminal, on stderr."""
    typer.echo(replace_invalid_unicode(message), err=True)


def print_notes(notes: Iterable[str]) -> None:
    """What a person should know, each once."""
    for note in dict.fromkeys(notes):
        print_message(f"simsearch: {note}")


def print_skipped_images(found: PredictionResult | ImageComparison) -> None:
    """What could not be read, and why."""
    for skip in found.skips:
        print_message(f"  skipped {format_path(skip.path)}: {skip.reason}")


def format_path(path: str) -> str:
    """A path as a person reads it: relative to the current folder where it lies below, always printable."""
    below = os.path.join(os.getcwd(), "")
    shown = path.removeprefix(below)
    return replace_invalid_unicode(shown)


class ProgressBar:
    """Rate and time left on stderr, from the first second on; nothing where stderr is no terminal."""

    def __init__(self, doing: str = "indexing", unit: str = "files") -> None:
        self._activity = doing
        self._unit = unit
        self._started = time.monotonic()
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        self.show(progress.n_done, progress.n_files)

    def show(self, n_done: int, n_all: int) -> None:
        """Show that so many of all are done."""
        if self._bar is None:
            if not sys.stderr.isatty() or time.monotonic() - self._started < _BAR_DELAY_S:
                return
            self._bar = _create_bar(self._activity)
            self._task = self._bar.add_task(self._activity, total=n_all, rate="")
            self._bar.start()
        if self._task is not None:
            rate = n_done / max(1e-9, time.monotonic() - self._started)
            self._bar.update(self._task, completed=n_done, total=n_all, rate=f"{rate:.0f} {self._unit}/s")


def _create_bar(doing: str) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    return Progress(TextColumn(doing), *columns, console=Console(stderr=True))


def print_skips(skips: Sequence[Skip], collection: str) -> None:
    """The first files that could not be read, each in a line."""
    for skip in skips[:_MAX_SKIPS_SHOWN]:
        print_message(f"  skipped {format_path(skip.path)}: {skip.reason}")
    if len(skips) > _MAX_SKIPS_SHOWN:
        rest = len(skips) - _MAX_SKIPS_SHOWN
        print_message(f"  and {rest:,} more: `simsearch info --in {collection} --json` lists them all")
