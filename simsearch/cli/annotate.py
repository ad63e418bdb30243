"""`simsearch annotate`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.options import CollectionOption, JsonOption, find_collection
from simsearch.cli.output import format_path, print_json, print_message
from simsearch.errors import UsageError

_MAX_UNKNOWN_SHOWN = 5


def annotate(
    table: Annotated[
        str | None,
        typer.Argument(metavar="FILE", help="A .csv or .json table with a column `path`, or `image_id`."),
    ] = None,
    in_: CollectionOption = None,
    clear: Annotated[
        list[str] | None,
        typer.Option("--clear", metavar="NAME", help="Delete a column of yours first; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Note columns of your own beside the images, such as price or author, for `query --where` to ask about.

    Numbers in the table are numbers, true and false are 1 and 0, empty cells say nothing. What is noted already is
    replaced. The pictures themselves are not touched.

    Example:  simsearch annotate prices.csv   and then   simsearch query vase.jpg --where "price < 20"
    """
    from simsearch.collection import Collection

    if table is None and not clear:
        raise UsageError("there is nothing to note", "name a .csv or .json file, or a column to --clear")
    folder = find_collection(in_)
    with Collection.open(folder) as collection:
        n_cleared = collection.clear_columns(clear) if clear else 0
        noted = None if table is None else collection.annotate(table)
    if as_json:
        print_json(
            {
                "collection": folder,
                "cleared": n_cleared,
                "values": noted.n_values if noted else 0,
                "images": noted.n_images if noted else 0,
                "columns": list(noted.columns) if noted else [],
                "unknown": list(noted.unknown) if noted else [],
            }
        )
        return
    if clear:
        typer.echo(f"{n_cleared:,} values deleted from {', '.join(clear)}")
    if noted:
        columns = ", ".join(noted.columns) or "no column"
        typer.echo(f"{folder}: {noted.n_values:,} values of {noted.n_images:,} images noted in {columns}")
    for name in noted.unknown[:_MAX_UNKNOWN_SHOWN] if noted else ():
        print_message(f"  not in the collection: {format_path(name)}")
    if noted and len(noted.unknown) > _MAX_UNKNOWN_SHOWN:
        print_message(f"  and {len(noted.unknown) - _MAX_UNKNOWN_SHOWN:,} more: --json lists them all")
