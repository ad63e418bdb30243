"""`simsearch watch`."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.cli.index import build_ingest_document
from simsearch.cli.options import BackboneOption, MaxMegapixelsOption, derive_collection_folder, to_pixels
from simsearch.cli.output import ProgressBar, print_message, print_skips

if TYPE_CHECKING:
    from types import FrameType

    from simsearch.ingest.run import IngestReport
    from simsearch.watch import WatchUpdate


def watch(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Folders, pictures, text files that list paths; also such in a store: s3://bucket/folder.",
        ),
    ],
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="DIR", help="The collection; default: indexes/<name of the source>."),
    ] = None,
    backbone: BackboneOption = None,
    weights: Annotated[str | None, typer.Option("--weights", metavar="PATH", help="A weights file.")] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="auto (fastest that changes no answer much), f32, bf16 or int8.")
    ] = "auto",
    augment: Annotated[
        int | None,
        typer.Option("--augment", metavar="N", help="Embed N augmented views of every image too; 0 removes them."),
    ] = None,
    settle: Annotated[
        float | None,
        typer.Option("--settle", metavar="SECONDS", min=0.05, help="Index when all has rested so long; default: 2."),
    ] = None,
    poll: Annotated[
        float | None,
        typer.Option(
            "--poll",
            metavar="SECONDS",
            min=0.05,
            help="Look that often instead of being told by the system; default: only where it cannot tell, every 10 s.",
        ),
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never download weights.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON on stdout for each run that changed something.")
    ] = False,
) -> None:
    """Keep a collection current: index pictures now, and again whenever some are added, changed, moved or deleted.

    Goes on until Ctrl-C. What cannot be reached for a while stays in the collection.

    Example:  simsearch watch photos --into indexes/photos
    """
    stop = _StopSignals()
    folder = into
    try:
        from simsearch.collection import Collection
        from simsearch.images.views import ViewChoice
        from simsearch.models.choice import ModelChoice
        from simsearch.watch import WatchListener, WatchSettings, check_sources
        from simsearch.watch import watch as keep_current

        choice = ModelChoice.from_options(backbone=backbone, weights=weights, precision=precision, offline=offline)
        check_sources(sources)
        target = folder = into or derive_collection_folder(sources[0])
        embedders: dict[str, Any] = {}

        def run(present: Sequence[str]) -> IngestReport:
            with Collection.open(target, create=True) as collection, ProgressBar() as bar:
                return collection.ingest(
                    present, choice, augment=ViewChoice(augment), max_pixels=to_pixels(megapixels),
                    progress=bar, embedders=embedders,
                )  # fmt: skip

        how = "" if poll is None else f", polling every {poll:g} s"
        print_message(f"simsearch: watching {', '.join(sources)} into {folder}{how}  (Ctrl-C stops it)")
        ears = WatchListener(
            on_update=_UpdatePrinter(as_json=as_json), on_message=lambda message: print_message(f"simsearch: {message}")
        )
        pace = WatchSettings(poll_s=poll) if settle is None else WatchSettings(settle, poll)
        keep_current(target, sources, run, ears, settings=pace)
    except KeyboardInterrupt:
        safe = f"; what was indexed is safe in {folder}" if folder else ""
        print_message(f"simsearch: stopped{safe}")
        raise typer.Exit(stop.status) from None


class _StopSignals:
    """SIGTERM stops like Ctrl-C. After the first of either, others wait for nothing: it is ending already."""

    def __init__(self) -> None:
        self.status = 128 + signal.SIGINT
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle_signal)

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        self.status = 128 + number
        raise KeyboardInterrupt


class _UpdatePrinter:
    """Turns as they are printed: a line each; what a person should know of the model once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._printed_notes: set[str] = set()

    def __call__(self, turn: WatchUpdate) -> None:
        for note in turn.report.notes:
            if note not in self._printed_notes:
                print_message(f"simsearch: {note}")
                self._printed_notes.add(note)
        if self._as_json:
            print(json.dumps(build_ingest_document(turn.report)), flush=True)  # noqa: T201 - a document for each run
        else:
            print_message(_format_update(turn))
            print_skips(turn.new_skips, turn.report.collection)


def _format_update(turn: WatchUpdate) -> str:
    report = turn.report
    counts = {
        "added": turn.n_added or 0,
        "embedded": report.n_embedded,
        "gone": report.n_gone,
        "skipped": len(turn.new_skips),
    }
    parts = [f"{n:,} {name}" for name, n in counts.items() if n or (name == "embedded" and turn.n_added is None)]
    return (
        f"{report.collection}: {', '.join(parts)}; now {report.n_images:,} images in {report.n_files:,} files "
        f"({report.elapsed_s:.1f} s)"
    )
