"""`simsearch annotate`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.options import CollectionOption, JsonOption, find_collection
from simsearch.cli.output import format_path, print_json, print_message, print_summary
from simsearch.errors import UsageError
from simsearch.text import count

_MAX_UNKNOWN_SHOWN = 5


def annotate(
    table: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A .csv or .json table with a column `path` or `image_id`."),
    ] = None,
    in_: CollectionOption = None,
    clear: Annotated[
        list[str] | None,
        typer.Option("--clear", metavar="NAME", help="Delete this custom column first. Repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add custom columns to the images of a collection, such as price or author, for `query --where`.

    Numbers stay numbers, true and false become 1 and 0, and empty cells are ignored. Existing values are replaced.
    The image files are not changed.

    Example:  simsearch annotate prices.csv   and then   simsearch query vase.jpg --where "price < 20"
    """
    from simsearch.collection import Collection
    from simsearch.interchange.annotations import AnnotationReport

    if table is None and not clear:
        raise UsageError("nothing to annotate", "give a .csv or .json file, or a column with --clear")
    folder = find_collection(in_)
    with Collection.open(folder) as collection:
        n_cleared = collection.clear_columns(clear) if clear else 0
        report = None if table is None else collection.annotate(table)
    if as_json:
        stored = report or AnnotationReport(0, 0, (), ())
        print_json({"collection": folder, "cleared": n_cleared, **stored.to_dict()})
        return
    if clear:
        print_summary(f"{count(n_cleared, 'value')} deleted from {', '.join(clear)}")
    if report:
        columns = ", ".join(report.columns) or "no column"
        print_summary(
            f"{folder}: {count(report.n_values, 'value')} of {count(report.n_images, 'image')} stored in {columns}"
        )
        _print_unknown(report.unknown)


def _print_unknown(names: tuple[str, ...]) -> None:
    for name in names[:_MAX_UNKNOWN_SHOWN]:
        print_message(f"  not in the collection: {format_path(name)}")
    if len(names) > _MAX_UNKNOWN_SHOWN:
        print_message(f"  and {len(names) - _MAX_UNKNOWN_SHOWN:,} more; all of them: --json")
