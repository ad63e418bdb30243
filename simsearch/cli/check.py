"""`simsearch check`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.options import BackboneOption, CollectionOption, JsonOption, find_collection
from simsearch.cli.output import format_path, make_table, print_json, print_line, print_message, print_table
from simsearch.errors import UsageError
from simsearch.quality.results import QUALITY_KINDS

_MAX_SHOWN = 10


def check(
    in_: CollectionOption = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help=f"Only this kind: {', '.join(QUALITY_KINDS)}. May be repeated."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="COLUMN", help="A column of yours with the labels. Default: the folders."),
    ] = None,
    backbone: BackboneOption = None,
    as_json: JsonOption = False,
) -> None:
    """List pictures that are worth a look: blurred, dark, bright, uniform, tiny, odd-shaped, outliers, mislabelled.

    An outlier is far from all other images; the nearest images of a mislabelled one have another label. Nothing is
    changed or deleted.

    Example:  simsearch check --in indexes/photos --kind blurred --kind mislabelled
    """
    from simsearch.collection import Collection

    for name in kind or ():
        if name not in QUALITY_KINDS:
            raise UsageError(f"--kind: unknown kind {name!r}", f"use one of {', '.join(QUALITY_KINDS)}")
    folder = find_collection(in_)
    with Collection.open(folder) as collection:
        report = collection.check_quality(labels=labels, backbone=backbone)
    if as_json:
        document = report.to_dict()
        if kind:
            document["findings"] = [one for one in document["findings"] if one["kind"] in kind]
        print_json({"collection": folder, **document})
        return
    for name, n in report.count().items():
        if not n or (kind and name not in kind):
            continue
        found = report.select(name)
        table = make_table(f"{name}: {n:,}")
        for title in ("image", "reason"):
            table.add_column(title)
        table.add_column("file", overflow="fold")
        for finding in found if kind else found[:_MAX_SHOWN]:
            table.add_row(str(finding.image_id), finding.reason, format_path(finding.path))
        print_table(table)
        if not kind and n > _MAX_SHOWN:
            print_line(f"and {n - _MAX_SHOWN:,} more: --kind {name} lists all")
    said = f"{len({one.image_id for one in report.findings}):,} of {report.n_images:,} images are worth a look"
    if report.n_unread:
        said += f"; {report.n_unread:,} cannot be read"
    if not report.labels_from:
        said += "; nothing is said about labels, as the folders are none (--labels COLUMN)"
    print_message(f"simsearch: {said}")
