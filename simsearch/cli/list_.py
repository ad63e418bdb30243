"""`simsearch list`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from simsearch.cli.options import JsonOption, list_collection_folders
from simsearch.cli.output import format_path, make_table, print_json, print_line, print_table
from simsearch.text import format_size

if TYPE_CHECKING:
    from simsearch.maintenance import CollectionSummary


def list_(as_json: JsonOption = False) -> None:
    """List the collections in indexes/ of this folder, and those in your own place ($SIMSEARCH_HOME).

    Example:  simsearch list
    """
    rows = [_summarize(folder) for folder in list_collection_folders()]
    if as_json:
        print_json({"collections": [row.to_dict() for row in rows]})
    elif not rows:
        print_line("no collection here; create one with `simsearch index SOURCE`")
    else:
        _print_rows(rows)


def _summarize(folder: Path) -> CollectionSummary:
    from simsearch.collection import Collection
    from simsearch.errors import SimsearchError
    from simsearch.maintenance import CollectionSummary

    try:
        with Collection.open(folder) as collection:
            return collection.summarize()
    except SimsearchError as error:
        return CollectionSummary(str(folder), problem=str(error))


def _print_rows(rows: list[CollectionSummary]) -> None:
    table = make_table()
    for heading in ("collection", "images", "default", "size", "last run (UTC)", "source"):
        is_path = heading in ("collection", "source")
        is_number = heading in ("images", "size")
        table.add_column(
            heading, justify="right" if is_number else "left", no_wrap=True, overflow="fold" if is_path else "ellipsis"
        )
    for row in rows:
        if row.problem:
            table.add_row(row.collection, "", "", "", "", row.problem)
            continue
        more = f" and {len(row.sources) - 1} more" if len(row.sources) > 1 else ""
        source = f"{format_path(row.sources[0])}{more}" if row.sources else ""
        size = format_size(row.size_bytes)
        table.add_row(row.collection, f"{row.n_images:,}", row.default_backbone, size, row.last_run or "", source)
    print_table(table)
