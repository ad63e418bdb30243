"""Output of the commands: JSON and tables on stdout; messages, skips and progress on stderr."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from simsearch.errors import SimsearchError
from simsearch.text import clean_text, count, format_document, shorten_text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as RichProgress
    from rich.table import Table

    from simsearch.ingest.pipeline import Progress
    from simsearch.sources.scan import Skip
    from simsearch.visualization.overview import Clustering

_MAX_SKIPS_SHOWN = 20
_MIN_PATH_WIDTH = 16
"""Paths in a table are not shortened to less than this, however narrow the terminal is."""

_BAR_DELAY_S = 1.0
"""A progress bar appears after this time."""


class _Quiet:
    """Whether notes, skips, progress and summaries are left out, for the command that runs."""

    is_on = False


def set_quiet(is_on: bool) -> None:
    """Leave out notes, skips, progress and summaries from now on, or show them again."""
    _Quiet.is_on = is_on


def print_json(document: dict[str, Any], *, indent: int | None = 2) -> None:
    """Print one JSON document on stdout.

    Without `indent` it is one line, for commands that print several documents.
    """
    with _translate_stdout_errors():
        typer.echo(format_document(document, indent=indent))


def print_line(text: str) -> None:
    """Print one line of a result on stdout; control characters of names, which a terminal obeys, are replaced."""
    with _translate_stdout_errors():
        typer.echo(clean_text(text))


def print_summary(text: str) -> None:
    """Print in one line on stdout what a command has done or written; nothing with `--quiet`."""
    if not _Quiet.is_on:
        print_line(text)


def print_paths0(paths: Iterable[str]) -> None:
    """Print paths on stdout byte by byte, each ended by a NUL character, for `xargs -0`."""
    _print_raw_paths(paths, b"\0")


def print_paths(paths: Iterable[str], *, ends_in_nul: bool) -> None:
    """Print paths and nothing else: byte by byte to a program, on a terminal without control characters.

    Each ends in a line break or, for names that contain one, in a NUL character.
    """
    if ends_in_nul or not sys.stdout.isatty():
        _print_raw_paths(paths, b"\0" if ends_in_nul else b"\n")
    else:
        for path in paths:
            print_line(path)


def _print_raw_paths(paths: Iterable[str], end: bytes) -> None:
    with _translate_stdout_errors():
        for path in paths:
            typer.echo(path.encode("utf-8", "surrogateescape") + end, nl=False)


def print_message(message: str) -> None:
    """Print a message for the user in one line on stderr, cleaned as `print_line` does; nothing with `--quiet`.

    A progress bar that is shown stays below it.
    """
    if _Quiet.is_on:
        return
    if _Shown.bar is None:
        typer.echo(clean_text(message), err=True)
        return
    from rich.text import Text

    _Shown.bar.console.print(Text(clean_text(message)), soft_wrap=True)


@contextlib.contextmanager
def show_activity(activity: str) -> Iterator[Callable[[float], None]]:
    """Say at once what begins and takes seconds, and show a bar until it ends; on a terminal only.

    Gives a function to call with the finished share, from 0 to 1. The bar moves without it, too, and shows the time.
    """
    if _Quiet.is_on or not sys.stderr.isatty():
        yield lambda _: None
        return
    print_message(f"simsearch: {activity} ...")
    if _Shown.bar is not None:
        yield lambda _: None
        return
    bar = _create_activity_bar()
    task = bar.add_task(activity, total=None)
    _start_bar(bar)
    try:
        yield lambda share: bar.update(task, total=1.0, completed=share)
    finally:
        _stop_bar(bar)


def print_notes(notes: Iterable[str]) -> None:
    """Print each different note once, on stderr."""
    for note in dict.fromkeys(notes):
        print_message(f"simsearch: {note}")


def print_skips(skips: Sequence[Skip], *, full_list: str = "--json", max_shown: int = _MAX_SKIPS_SHOWN) -> None:
    """Print the first skipped files and their reasons on stderr; `full_list` names the command that prints all."""
    for skip in skips[:max_shown]:
        print_message(f"  skipped {format_path(skip.path)}: {skip.reason}")
    if len(skips) > max_shown:
        print_message(f"  and {len(skips) - max_shown:,} more; all of them: {full_list}")


def print_missing_pictures(drawing: str, missing: Sequence[SimsearchError]) -> None:
    """Print on stderr how many pictures of a drawing could not be read, if any, with the error of the first."""
    if missing:
        print_message(
            f"simsearch: {count(len(missing), 'picture')} of the {drawing} cannot be read; the first: {missing[0]}"
        )


def print_sample_note(clustering: Clustering) -> None:
    """Print on stderr that only a sample of the images was used, if so."""
    if clustering.n_images > len(clustering.images):
        print_message(f"simsearch: a sample of {len(clustering.images):,} of {clustering.n_images:,} images")


def format_path(path: str) -> str:
    """Return a path on one line without control characters, relative to the current folder if it is below it."""
    with contextlib.suppress(FileNotFoundError):  # the current folder was deleted
        path = path.removeprefix(os.path.join(os.getcwd(), ""))
    return clean_text(path)


def format_command_line() -> str:
    """Return the command line of this process, as a report states it."""
    return shlex.join(["simsearch", *sys.argv[1:]])


def make_table(title: str | None = None) -> Table:
    """Return a table without borders, with a title on the left. A column with overflow "fold" holds paths."""
    from rich.table import Table
    from rich.text import Text

    return Table(title=None if title is None else Text(clean_text(title)), box=None, pad_edge=False)


def print_table(table: Table) -> None:
    """Print a table on stdout: the title on a line of its own, then aligned columns on a terminal.

    There the paths are shortened in the middle where the line is too narrow. Off a terminal columns are separated by
    tabs, and nothing is folded, padded or shortened, so that `cut` and other programs can read them.
    """
    from rich.console import Console

    with _translate_stdout_errors():
        if table.title is not None:
            typer.echo(str(table.title))
        table.title = None
        if not sys.stdout.isatty():
            for cells in _list_lines(table):
                typer.echo("\t".join(cells))
            return
        console = Console(highlight=False)
        _shorten_paths(table, console.width)
        console.print(table)


def _list_lines(table: Table) -> Iterator[tuple[str, ...]]:
    """The headings, if any, and the rows of a table as text."""
    headings = tuple(" ".join(str(column.header).split()) for column in table.columns)
    if table.show_header and any(headings):
        yield headings
    yield from zip(*([_to_plain(cell) for cell in column.cells] for column in table.columns), strict=True)


def _to_plain(cell: RenderableType) -> str:
    from rich.text import Text

    return clean_text(cell.plain if isinstance(cell, Text) else str(cell))


def _fit_text(text: str, width: int) -> str:
    """Shorten a text in its middle to a width in columns of the terminal, of which some characters take two."""
    from rich.cells import cell_len

    n = len(text)
    while cell_len(text) > width:
        n -= 1
        text = shorten_text(text, min(n, width))
    return text


def _shorten_paths(table: Table, width: int) -> None:
    """Shorten the paths of a table in their middle, so that each row fits into a line of `width` columns."""
    from rich.cells import cell_len
    from rich.text import Text

    lines = list(_list_lines(table))
    widths = [max((cell_len(cell) for cell in cells), default=0) for cells in zip(*lines, strict=True)]
    paths = [number for number, column in enumerate(table.columns) if column.overflow == "fold"]
    others = sum(w for number, w in enumerate(widths) if number not in paths) + 2 * (len(widths) - 1)
    for left, number in enumerate(sorted(paths, key=lambda n: widths[n])):
        share = max(_MIN_PATH_WIDTH, (width - others) // (len(paths) - left))
        others += min(share, widths[number])
        column = table.columns[number]
        cells = [_fit_text(_to_plain(cell), share) for cell in column.cells]
        column._cells[:] = [Text(cell) for cell in cells]
        column.no_wrap = True


@contextlib.contextmanager
def _translate_stdout_errors() -> Iterator[None]:
    """Raise `SimsearchError` if stdout cannot be written to, such as a file on a full disk."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has seen enough; Typer ends the process
    except OSError as error:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - else the rest is written at the end
        problem = f"stdout cannot be written to ({error.strerror})"
        raise SimsearchError(problem, "redirect it to another file or device") from error


class _Shown:
    """The bar that is on the terminal now; there is one at a time."""

    bar: RichProgress | None = None


def _start_bar(bar: RichProgress) -> None:
    bar.start()
    _Shown.bar = bar


def _stop_bar(bar: RichProgress) -> None:
    _Shown.bar = None
    bar.stop()


class ProgressBar:
    """A progress bar on stderr. Nothing is shown in the first second, or when stderr is not a terminal.

    A bar that is full is left as it is; what is shown after that begins a new one.
    """

    def __init__(self, activity: str = "indexing", unit: str = "files") -> None:
        self._activity = activity
        self._unit = unit
        self._started = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._bar: RichProgress | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __call__(self, progress: Progress) -> None:
        """Show the progress of an ingest."""
        self.show(progress.n_done, progress.n_files)

    def show(self, n_done: int, n_total: int) -> None:
        """Show `n_done` of `n_total` units, with the rate since the first of these calls and the remaining time."""
        now = time.monotonic()
        self._first = self._first or (now, n_done)
        since, n_before = self._first
        rate = (n_done - n_before) / (now - since) if now > since else 0.0
        speed = f"  {rate:.0f} {self._unit}/s" if rate else ""
        self._update(self._activity, n_done, n_total, f"{n_done:,}/{n_total:,}{speed}")
        if n_done >= n_total:
            self._end()

    def show_stage(self, stage: str, fraction: float) -> None:
        """Show a stage of the work, and the fraction of it that is done, from 0 to 1."""
        self._update(stage, fraction, 1.0, f"{fraction:.0%}")

    def _update(self, description: str, done: float, total: float, amount: str) -> None:
        if self._bar is None:
            if done >= total:  # nothing is left to wait for
                return
            if _Quiet.is_on or not sys.stderr.isatty() or time.monotonic() - self._started < _BAR_DELAY_S:
                return
            if _Shown.bar is not None:
                return
            self._bar = _create_bar()
            self._bar.add_task(description, total=total, amount=amount)
            _start_bar(self._bar)
        task = self._bar.tasks[0]
        if task.description != description:
            self._bar.reset(task.id)
        self._bar.update(task.id, description=description, completed=done, total=total, amount=amount)

    def _end(self) -> None:
        if self._bar is not None:
            _stop_bar(self._bar)
        self._bar, self._first, self._started = None, None, time.monotonic()


class PreparationMessages:
    """Progress of downloads and other preparations, and notes about them, on stderr."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None

    def listen(self) -> None:
        """Show the preparations of this context from now on."""
        from simsearch.sources.progress import LISTENER, PreparationListener

        LISTENER.set(PreparationListener(self._show, lambda note: print_message(f"simsearch: {note}"), show_activity))

    def _show(self, name: str, n_done: int, n_total: int) -> None:
        self._bar = self._bar or ProgressBar()
        self._bar.show_stage(f"downloading {name}", n_done / n_total if n_total else 0.0)
        if n_done == n_total:
            self._bar.__exit__()
            self._bar = None


def _create_activity_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    return Progress(BarColumn(), TimeElapsedColumn(), console=Console(stderr=True), transient=True)


def _create_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.fields[amount]}"), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True))
