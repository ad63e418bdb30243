"""`simsearch import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.cli.options import JsonOption, MaxMegapixelsOption, to_pixels
from simsearch.cli.output import ProgressBar, format_path, print_json, print_message

if TYPE_CHECKING:
    from simsearch.interchange.importer import ImportReport

    pass


_MAX_SKIPS_SHOWN = 20


def import_(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A .npy, .parquet, .csv or .jsonl file, or a folder of clip-retrieval."),
    ],
    into: Annotated[str, typer.Option("--into", metavar="DIR", help="The collection, made if it is not there.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What to ask for it by: --backbone NAME.")],
    root: Annotated[
        str, typer.Option("--root", metavar="DIR", help="Where relative paths begin; default: the current folder.")
    ] = "",
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", metavar="FILE", help="The table of paths of a .npy: .parquet, .csv or .txt."),
    ] = None,
    megapixels: MaxMegapixelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take vectors that another tool made into a collection, beside those of its own backbones.

    Every picture is read, to know it again by its content; one that cannot be read is skipped. Questions are asked
    with images of the collection, as nothing here can embed another picture for them. An image that has a vector of
    that name already keeps it.

    Example:  simsearch import clip.parquet --into indexes/photos --name clip-vit-b32 --root ~/photos
    """
    from simsearch.collection import Collection

    with Collection.open(into, create=True) as collection, ProgressBar() as bar:
        done = collection.import_embeddings(
            source, name, root=Path(root).expanduser(), metadata=metadata,
            max_pixels=to_pixels(megapixels), progress=bar,
        )  # fmt: skip
    if as_json:
        print_json(_build_import_document(done))
    else:
        _print_import(done)


def _build_import_document(done: ImportReport) -> dict[str, Any]:
    return {
        "collection": done.collection,
        "model": done.model,
        "backbone": done.backbone,
        "width": done.width,
        "rows": done.n_rows,
        "repeated": done.n_repeated,
        "added": done.n_added,
        "kept": done.n_kept,
        "images": done.n_images,
        "skipped": [{"path": skip.path, "reason": skip.reason} for skip in done.skips],
    }


def _print_import(done: ImportReport) -> None:
    parts = [f"{done.n_added:,} vectors added"]
    if done.skips:
        parts.append(f"{len(done.skips):,} skipped")
    if done.n_repeated:
        parts.append(f"{done.n_repeated:,} rows of a path that comes again")
    typer.echo(
        f"{done.collection}: {done.n_images:,} images with a vector of {done.backbone}, {done.width} d "
        f"({', '.join(parts)})"
    )
    if done.n_kept:
        print_message(
            f"simsearch: {done.n_kept:,} images keep another vector of {done.backbone}, from a copy or an earlier "
            f"import; to replace them, `simsearch prune --backbone {done.backbone}` first"
        )
    for skip in done.skips[:_MAX_SKIPS_SHOWN]:
        print_message(f"  skipped {format_path(skip.path)}: {skip.reason}")
    if len(done.skips) > _MAX_SKIPS_SHOWN:
        print_message(f"  and {len(done.skips) - _MAX_SKIPS_SHOWN:,} more: --json lists them all")
