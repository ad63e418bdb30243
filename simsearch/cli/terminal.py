"""What the commands share: where collections lie, how things are printed, how progress is shown."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.errors import CollectionNotFound, UsageError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from simsearch.collection import Progress

COLLECTIONS_FOLDER = Path("indexes")
COLLECTION_VARIABLE = "SIMSEARCH_INDEX"
_BAR_DELAY_S = 1.0
"""A bar appears when something has taken this long."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
IndexKindOption = Annotated[
    str | None,
    typer.Option(
        "--index-kind",
        metavar="KIND",
        help="What is searched: auto (exact up to 256 MB of vectors, then ivf-sq8), flat (exact), flat-fp16, flat-sq8, "
        "ivf, ivf-sq8, ivf-pq, ivf-rabitq, hnsw or hnsw-sq8. It stays so until another is named.",
    ),
]
RecallOption = Annotated[
    float | None,
    typer.Option(
        "--recall",
        metavar="SHARE",
        help="The recall@10 that such an index is tuned to: how many of the ten nearest it finds; default 0.99.",
    ),
]
CollectionOption = Annotated[
    str | None,
    typer.Option(
        "--in",
        metavar="DIR",
        help="The collection; default: $SIMSEARCH_INDEX, else the only one under indexes/.",
    ),
]
BackboneOption = Annotated[
    str | None,
    typer.Option("--backbone", metavar="NAME|FILE", help="A row of `simsearch backbones`, or a model file."),
]
RangesOption = Annotated[
    str | None,
    typer.Option(
        "--ranges",
        metavar="RANGES",
        help="How far views go; default: rotation=30,shift=0.1,shear=0.15,zoom=0.1,channel-shift=10,flip=yes.",
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Another seed gives other views; default: 0.")]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help='Only images of which this holds: "class in (lamp, vase) and width >= 800 and taken > 2024-05".',
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="faiss|milvus",
        help="What is searched from now on: faiss (files in the collection, the default) or milvus.",
    ),
]
MilvusUriOption = Annotated[
    str | None,
    typer.Option(
        "--milvus-uri",
        metavar="URI",
        help="Where Milvus is: http://host:19530, with a database http://host:19530/name, or a path that ends in .db "
        "(Milvus Lite). A token, or user:password, goes into $MILVUS_TOKEN.",
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never download anything.")]
MaxMegapixelsOption = Annotated[
    float | None,
    typer.Option(
        "--max-megapixels",
        min=0.01,
        help="Skip pictures larger than this; default: by this machine's memory.",
    ),
]


def find_collection(named: str | None) -> str:
    """The folder of the collection to ask.

    Raises `CollectionNotFound` when there is none, `UsageError` when there are several.
    """
    folder = named or os.environ.get(COLLECTION_VARIABLE)
    if folder:
        return folder
    found = sorted(path.parent for path in COLLECTIONS_FOLDER.glob("*/catalog.db"))
    if not found:
        raise CollectionNotFound(
            str(COLLECTIONS_FOLDER), "there is no collection under indexes/", "make one with `simsearch index SOURCE`"
        )
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise UsageError(f"there are several collections: {names}", f"name one with --in or ${COLLECTION_VARIABLE}")
    return str(found[0])


def derive_collection_folder(source: str) -> str:
    """Where a source is indexed into if the user does not say: indexes/ and the source's name."""
    if source == "-":
        raise UsageError("a list on stdin has no name", "say where to index it with --into DIR")
    from simsearch.collection import derive_source_name, is_remote

    if is_remote(source):
        return str(COLLECTIONS_FOLDER / derive_source_name(source))
    path = Path(os.path.abspath(source))
    return str(COLLECTIONS_FOLDER / (path.name if path.is_dir() else path.stem or "images"))


def to_pixels(megapixels: float | None) -> int | None:
    """The limit in pixels."""
    return None if megapixels is None else round(megapixels * 1e6)


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout, in ASCII, so that any terminal and any name survive it."""
    typer.echo(json.dumps(document, indent=2, default=_to_json_value))


def _to_json_value(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)


def print_message(message: str) -> None:
    """A message for the person at the terminal, on stderr."""
    typer.echo(message.encode("utf-8", "replace").decode(), err=True)


def format_path(path: str) -> str:
    """A path as a person reads it: relative to the current folder where it lies below, always printable."""
    below = os.path.join(os.getcwd(), "")
    shown = path.removeprefix(below)
    return os.fsencode(shown).decode("utf-8", "replace")


def format_size(n_bytes: float) -> str:
    """A number of bytes with a unit: 16.5 MB."""
    unit = "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if n_bytes < 1000:
            break
        n_bytes, unit = n_bytes / 1000, larger
    return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"


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
