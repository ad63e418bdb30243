"""`simsearch duplicates`."""

from __future__ import annotations

import shlex
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.cli.options import (
    BackboneOption,
    CollectionOption,
    JsonOption,
    MaxMegapixelsOption,
    OfflineOption,
    find_collection,
    to_pixels,
)
from simsearch.cli.output import format_path, print_json, print_message
from simsearch.errors import UsageError
from simsearch.text import format_size

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from simsearch.duplicates.results import DuplicateReport

_MAX_GROUPS_SHOWN, _MAX_FILES_SHOWN = 20, 8
_BAR_DELAY_S = 1.0


def duplicates(
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    tier: Annotated[
        str | None,
        typer.Option("--tier", help="How far down: exact (same bytes), near (edited; the default) or similar (alike)."),
    ] = None,
    false_positive_rate: Annotated[
        float | None,
        typer.Option(
            "--false-positive-rate",
            metavar="X",
            help="Of which share of images a wrong partner is accepted as near; default: 0.001.",
        ),
    ] = None,
    min_similarity: Annotated[
        float | None,
        typer.Option("--min-similarity", metavar="X", help="Where similar begins; default: measured, see the page."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="What is suggested: largest (the default), oldest, newest or shortest-path."),
    ] = None,
    out: Annotated[
        list[str] | None,
        typer.Option("--out", metavar="FILE", help="Write .html with pictures, .csv or .json; may be repeated."),
    ] = None,
    reject: Annotated[
        list[str] | None,
        typer.Option("--reject", metavar="IDS", help="Images that are no duplicates, as 12,15; remembered."),
    ] = None,
    unreject: Annotated[
        list[str] | None, typer.Option("--unreject", metavar="IDS", help="Forget that again; may be repeated.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", metavar="PATH", help="Where the weights lie now, if they were moved.")
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find what a collection holds more than once, and suggest what to keep. Nothing is ever deleted.

    Where near begins is measured on the collection's own pictures: some are edited and looked for. A pair counts
    only if their pixels can be laid over each other too. With --reject nothing is searched.

    Example:  simsearch duplicates --in indexes/photos --out duplicates.html
    """
    from simsearch.collection import Collection
    from simsearch.duplicates.results import DuplicateOptions
    from simsearch.models.weights import WeightsOptions

    folder = find_collection(in_)
    if reject or unreject:
        _update_rejections(folder, reject or [], unreject or [], as_json=as_json)
        return
    from simsearch.report.duplicates import (
        DuplicatesContext,
        build_duplicates_document,
        check_report_path,
        write_duplicates,
    )

    for file in out or ():
        check_report_path(file)
    asked: dict[str, Any] = {
        "down_to": tier,
        "false_positive_rate": false_positive_rate,
        "min_similarity": min_similarity,
        "keep": keep,
        "max_pixels": to_pixels(megapixels),
    }
    question = DuplicateOptions(**{name: value for name, value in asked.items() if value is not None})
    with Collection.open(folder) as collection, StageProgressBar() as bar:
        stored = collection.model(backbone)
        order = WeightsOptions(weights, offline)
        report = collection.duplicates(question, backbone=backbone, weights=order, progress=bar)
    about = DuplicatesContext(
        folder, stored.model.backbone, stored.fingerprint, shlex.join(["simsearch", *sys.argv[1:]])
    )
    for file in out or ():
        write_duplicates(report, about, file)
    for path in report.unread[:_MAX_FILES_SHOWN]:
        print_message(f"  cannot be read now: {format_path(path)}")
    if len(report.unread) > _MAX_FILES_SHOWN:
        print_message(f"  and {len(report.unread) - _MAX_FILES_SHOWN:,} more")
    if as_json:
        print_json(build_duplicates_document(report, about))
        return
    _print_report(report)
    for file in out or ():
        typer.echo(f"written: {format_path(file)}")


class StageProgressBar:
    """What a long search is at, on stderr, from the first second on; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> StageProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, share: float) -> None:
        """Show the stage, and how much of it is done."""
        if self._bar is None:
            if not sys.stderr.isatty() or time.monotonic() - self._started < _BAR_DELAY_S:
                return
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True))
            self._bar.add_task(stage, total=1.0)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], description=stage, completed=share)


def _update_rejections(folder: str, rejected: list[str], unrejected: list[str], *, as_json: bool) -> None:
    from simsearch.collection import Collection

    kept = [_parse_ids(text, "--reject") for text in rejected]
    freed = [_parse_ids(text, "--unreject") for text in unrejected]
    with Collection.open(folder) as collection:
        n_rejected = sum(collection.reject_duplicates(ids) for ids in kept)
        n_forgotten = sum(collection.unreject_duplicates(ids) for ids in freed)
    if as_json:
        print_json({"collection": folder, "rejected_pairs": n_rejected, "forgotten_pairs": n_forgotten})
        return
    if rejected:
        typer.echo(f"{n_rejected:,} pairs will not be told as duplicates again; --unreject takes it back")
    if unrejected:
        typer.echo(f"{n_forgotten:,} rejected pairs forgotten")


def _parse_ids(text: str, option: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"{option} {text} is no list of images", "write the ids of the group with commas: 12,15")
    return [int(part) for part in parts]


def _print_report(report: DuplicateReport) -> None:
    from simsearch.report.duplicates import TIER_TITLES, count_freed_bytes, suggest_action, summarize_duplicates

    for number, group in enumerate(report.groups[:_MAX_GROUPS_SHOWN], start=1):
        ids = ",".join(str(member.image_id) for member in group.members)
        typer.echo(f"{number}  {TIER_TITLES[group.tier]}  (images {ids})")
        lines = [
            f"   {_SUGGESTION_LABELS[suggest_action(group, path)]:<8} {member.similarity:.3f}  "
            f"{f'{member.width} x {member.height}':>13}  {format_size(member.size_bytes):>9}  {format_path(path)}"
            for member in group.members
            for path in member.paths
        ]
        for line in lines[:_MAX_FILES_SHOWN]:
            typer.echo(line)
        if len(lines) > _MAX_FILES_SHOWN:
            typer.echo(f"   and {len(lines) - _MAX_FILES_SHOWN:,} files more")
    if len(report.groups) > _MAX_GROUPS_SHOWN:
        typer.echo(f"and {len(report.groups) - _MAX_GROUPS_SHOWN:,} groups more: see --out or --json")
    size = count_freed_bytes(report)
    typer.echo(" ".join(summarize_duplicates(report)) + (f" That would free {format_size(size)}." if size else ""))
    if found := report.calibration:
        typer.echo(
            f"near: a cosine of {found.near_similarity:.3f} and matching pixels; {found.recall:.1%} of edited pictures "
            f"are found, at most {found.false_positive_rate:.2%} of images get a wrong partner"
        )


_SUGGESTION_LABELS = {"keep": "keep", "remove": "could go", "look": "look"}
