"""`simsearch import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import JsonOption, MaxMegapixelsOption, to_pixels
from simsearch.cli.output import ProgressBar, print_json, print_message, print_skips, print_summary
from simsearch.errors import UsageError
from simsearch.text import count

if TYPE_CHECKING:
    from simsearch.interchange.importer import ImportReport


def import_(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A .npy, .parquet, .csv or .jsonl file, or a folder of them."),
    ],
    into: Annotated[str, typer.Option("--into", metavar="DIR", help="The collection; created if it does not exist.")],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model, for `query --backbone NAME`.")
    ],
    root: Annotated[
        str,
        typer.Option("--root", metavar="DIR", help="Base folder of relative paths. Default: the current folder."),
    ] = "",
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", metavar="FILE", help="The table of paths for a .npy: .parquet, .csv or .txt."),
    ] = None,
    without_pictures: Annotated[
        bool,
        typer.Option(
            "--without-pictures",
            help="Read no picture: keys may be addresses, paths or ids, and other columns become your own.",
        ),
    ] = False,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="COLUMN", help="The column of paths or keys. Default: path, url, key, id, ..."),
    ] = None,
    vector: Annotated[
        str | None,
        typer.Option("--vector", metavar="COLUMN", help="The column of vectors. Default: vector, embedding, ..."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="COLUMN", help="With --without-pictures: a column to take. Repeatable. Default: all."
        ),
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import vectors of another tool into a collection, next to those of its own backbones.

    Every image is read to compute its content hash; an unreadable one is skipped. With --without-pictures nothing is
    read but the vectors: a million in minutes. Queries then use vectors (a .npy file), ids or keys, because no picture
    can be embedded with this model. An image that already has a vector of this name keeps it.

    Example:  simsearch import clip.parquet --into indexes/photos --name clip-vit-b32 --root ~/photos
    """
    from simsearch.collection import Collection

    if columns and not without_pictures:
        raise UsageError("--column is for vectors without pictures", "add --without-pictures, or use `annotate`")
    folder = Path(root).expanduser()
    with Collection.open(into, create=True) as collection, ProgressBar("importing") as bar:
        if without_pictures:
            report = collection.import_vectors(
                source, name, key=key, vector=vector, columns=columns or None, root=folder, metadata=metadata,
                progress=bar,
            )  # fmt: skip
        else:
            report = collection.import_embeddings(
                source, name, root=folder, metadata=metadata, key=key, vector=vector,
                max_pixels=to_pixels(megapixels), progress=bar,
            )  # fmt: skip
    if as_json:
        print_json(report.to_dict())
    else:
        _print_report(report)


def _print_report(report: ImportReport) -> None:
    parts = [f"{count(report.n_added, 'vector')} added"]
    if report.skips:
        parts.append(f"{len(report.skips):,} skipped")
    if report.n_repeated:
        parts.append(f"{report.n_repeated:,} rows of a repeated path or key left out: the last row of each counts")
    print_summary(
        f"{report.collection}: {count(report.n_images, 'image')} with a vector of {report.backbone}, {report.width} d "
        f"({', '.join(parts)})"
    )
    if report.n_kept:
        print_message(
            f"simsearch: {report.n_kept:,} images keep another vector of {report.backbone}, from a copy or an earlier "
            f"import; to replace them, run `simsearch prune --backbone {report.backbone}` first"
        )
    print_skips(report.skips)
