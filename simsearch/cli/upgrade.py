"""`simsearch upgrade`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from simsearch.cli.options import CollectionOption, JsonOption, MaxMegapixelsOption, find_collection, to_pixels
from simsearch.cli.output import ProgressBar, print_json, print_message, print_notes, print_skips, print_summary
from simsearch.text import count

if TYPE_CHECKING:
    from simsearch.ingest.upgrade import UpgradeReport


def upgrade(in_: CollectionOption = None, megapixels: MaxMegapixelsOption = None, as_json: JsonOption = False) -> None:
    """Move a collection to the newest version of the built-in network.

    Queries use the former version until every image has a vector of the new one; then the former vectors are deleted.

    Example:  simsearch upgrade --in indexes/photos
    """
    from simsearch.collection import Collection

    folder = find_collection(in_)
    try:
        with Collection.open(folder) as collection, ProgressBar() as bar:
            report = collection.upgrade(max_pixels=to_pixels(megapixels), progress=bar)
    except KeyboardInterrupt:
        print_message(f"simsearch: stopped; {folder} keeps what was indexed, and the same command resumes")
        raise typer.Exit(130) from None
    if as_json:
        print_json(report.to_dict())
    else:
        _print_report(report)


def _print_report(report: UpgradeReport) -> None:
    if not report.runs:
        print_summary(f"{report.collection}: nothing to upgrade; it has no former version of a backbone")
    for run in report.runs:
        print_notes(run.notes)
        print_summary(f"{report.collection}: {count(run.n_embedded, 'image')} embedded with {run.model}")
        print_skips(run.skips, full_list=f"simsearch info --in {report.collection} --json")
    if report.n_left:
        print_summary(
            f"  {count(report.n_left, 'image')} without a new vector: files are missing or cannot be read; the former "
            "vectors are kept; run the same command again, or delete them with `simsearch prune --backbone MODEL`"
        )
