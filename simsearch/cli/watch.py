"""`simsearch watch`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.cli.options import (
    AugmentOption,
    BackboneOption,
    BroadSourceOption,
    ExcludeOption,
    IncludeOption,
    MaxMegapixelsOption,
    NewCollectionOption,
    OfflineWeightsOption,
    PrecisionOption,
    SafeLinksOption,
    UserPlaceOption,
    WeightsOption,
    check_sources_are_narrow,
    choose_new_collection,
    to_pixels,
)
from simsearch.cli.output import ProgressBar, print_json, print_message, print_skips
from simsearch.text import count

if TYPE_CHECKING:
    from types import FrameType

    from simsearch.ingest.run import IngestReport
    from simsearch.watch import WatchUpdate


def watch(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Folders, images, text files with one path per line; also in an object store: s3://bucket/folder.",
        ),
    ],
    into: NewCollectionOption = None,
    backbone: BackboneOption = None,
    weights: WeightsOption = None,
    precision: PrecisionOption = "auto",
    augment: AugmentOption = None,
    settle: Annotated[
        float | None,
        typer.Option(
            "--settle", metavar="SECONDS", min=0.05, help="Index when nothing changed for this time. Default: 2."
        ),
    ] = None,
    poll: Annotated[
        float | None,
        typer.Option(
            "--poll",
            metavar="SECONDS",
            min=0.05,
            help="Poll all sources at this interval. Default: use change notifications of the system, and poll every "
            "10 s where there are none.",
        ),
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineWeightsOption = False,
    safe_links: SafeLinksOption = False,
    user: UserPlaceOption = False,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    yes: BroadSourceOption = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON on stdout for each run that changed something.")
    ] = False,
) -> None:
    """Keep a collection current: index images now, and again when files are added, changed, moved or deleted.

    Runs until Ctrl-C. When a source is unreachable for a while, the collection keeps its images.

    Example:  simsearch watch photos --into indexes/photos
    """
    folder = into
    with _StopSignals() as stop:
        try:
            from simsearch.collection import Collection
            from simsearch.images.views import ViewChoice
            from simsearch.models.choice import ModelChoice
            from simsearch.watch import WatchListener, WatchSettings, check_sources
            from simsearch.watch import watch as watch_sources

            choice = ModelChoice.from_options(backbone=backbone, weights=weights, precision=precision, offline=offline)
            check_sources_are_narrow(sources, is_confirmed=yes)
            check_sources(sources)
            target = folder = choose_new_collection(into, sources, user=user)
            embedders: dict[str, Any] = {}

            def ingest_sources(present: Sequence[str]) -> IngestReport:
                with Collection.open(target, create=True) as collection, ProgressBar() as bar:
                    return collection.ingest(
                        present, choice, augment=ViewChoice(augment), max_pixels=to_pixels(megapixels),
                        progress=bar, embedders=embedders, safe_links=safe_links, include=include or (),
                        exclude=exclude or (),
                    )  # fmt: skip

            how = "" if poll is None else f", polling every {poll:g} s"
            print_message(f"simsearch: watching {', '.join(sources)} into {folder}{how}  (Ctrl-C stops it)")
            listener = WatchListener(
                on_update=_UpdatePrinter(as_json=as_json),
                on_message=lambda message: print_message(f"simsearch: {message}"),
            )
            settings = WatchSettings(poll_s=poll) if settle is None else WatchSettings(settle, poll)
            watch_sources(target, sources, ingest_sources, listener, settings=settings)
        except KeyboardInterrupt:
            kept = f"; {folder} keeps what was indexed" if folder else ""
            print_message(f"simsearch: stopped{kept}")
            raise typer.Exit(stop.status or 130) from None


class _StopSignals:
    """Makes SIGTERM stop the watch like Ctrl-C. After the first signal of either kind, further ones are ignored.

    The previous handlers return at the end, unless a signal arrived: the process is then about to exit.
    """

    def __init__(self) -> None:
        self.status = 0
        self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> _StopSignals:
        for number in self._previous:
            signal.signal(number, self._handle_signal)
        return self

    def __exit__(self, *_: object) -> None:
        if not self.status:
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def _handle_signal(self, number: int, _frame: FrameType | None) -> None:
        for other in self._previous:
            signal.signal(other, signal.SIG_IGN)
        self.status = 128 + number
        raise KeyboardInterrupt


class _UpdatePrinter:
    """Prints one line per update, and every note about the model once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._printed_notes: set[str] = set()

    def __call__(self, update: WatchUpdate) -> None:
        for note in update.report.notes:
            if note not in self._printed_notes:
                print_message(f"simsearch: {note}")
                self._printed_notes.add(note)
        if self._as_json:
            print_json(update.report.to_dict(), indent=None)
            sys.stdout.flush()
        else:
            print_message(_format_update(update))
            print_skips(update.new_skips, full_list=f"simsearch info --in {update.report.collection} --json")


def _format_update(update: WatchUpdate) -> str:
    report = update.report
    counts = {
        "added": update.n_added or 0,
        "embedded": report.n_embedded,
        "gone": report.n_gone,
        "skipped": len(update.new_skips),
    }
    is_first = update.n_added is None
    parts = [f"{n:,} {name}" for name, n in counts.items() if n or (name == "embedded" and is_first)]
    return (
        f"{report.collection}: {', '.join(parts)}; now {count(report.n_images, 'image')} in "
        f"{count(report.n_files, 'file')} ({report.elapsed_s:.1f} s)"
    )
