"""The commands that look after a collection, and the list of backbones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.cli.options import CollectionOption, IndexKindOption, JsonOption, RecallOption, find_collection
from simsearch.cli.output import format_path, print_json
from simsearch.text import format_size

if TYPE_CHECKING:
    from simsearch.maintenance import ModelInfo

_MAX_SKIPS = 20


def info(in_: CollectionOption = None, as_json: JsonOption = False) -> None:
    """Show what a collection holds: images, models, size, last runs, files that could not be read.

    Example:  simsearch info --in indexes/photos
    """
    from simsearch.collection import Collection

    with Collection.open(find_collection(in_)) as collection:
        facts = collection.info()
    if as_json:
        print_json(facts.to_dict())
        return
    typer.echo(
        f"{facts.collection}: {facts.n_images:,} images in {facts.n_files:,} files, {format_size(facts.size_bytes)}"
    )
    for number, model in enumerate(facts.models):
        _print_model(model, is_default=number == 0)
    if facts.rerank != "none":
        typer.echo(f"  results are ranked by {facts.rerank} unless a query says otherwise (--rerank none)")
    if facts.n_dated or facts.n_with_camera:
        typer.echo(f"  {facts.n_dated:,} images have a date, {facts.n_with_camera:,} a camera")
    if facts.columns:
        typer.echo(f"  your columns: {', '.join(f'{name} ({n:,})' for name, n in facts.columns.items())}")
    if facts.n_orphans:
        typer.echo(f"  {facts.n_orphans:,} images without a file: `simsearch prune` deletes their vectors")
    for skip in facts.skips[:_MAX_SKIPS]:
        typer.echo(f"  skipped {format_path(skip.path)}: {skip.reason}")


def _print_model(info: ModelInfo, *, is_default: bool) -> None:
    model = info.stored.model
    side = f"{model.side_px} px" if model.side_px else "imported"
    details = ", ".join(str(x) for x in (model.precision, model.layer, side) if x)
    if n_augmented := info.stored.augmentation.n_views:
        details += f", {n_augmented} augmented views an image"
    default = "  <- default" if is_default else ""
    typer.echo(f"  {info.backbone:<20} {info.n_images:>8,} images  {info.stored.width:>5} d  {details}{default}")
    if info.index["kind"] != "flat":
        typer.echo(f"  {'':<20} index: {_describe_index(info.index)}")


def _describe_index(index: Mapping[str, Any]) -> str:
    """A kind of index, what it reached, and what came since it was built."""
    parts = [f"Milvus at {index['uri']}" if "uri" in index else index["kind"]]
    if index.get("problem"):
        parts.append(f"which does not answer: {index['problem']}")
    if index.get("is_current") is False:
        parts.append("which lags behind: the next query brings it in step")
    if index.get("n_queries"):
        reached = f"recall@10 {index['recall_at_10']:.3f}"
        parts.append(f"{reached} with {index['n_queries']} of {index['n_vectors']:,} vectors")
    if index.get("build_s"):
        parts.append(f"built in {index['build_s']:.1f} s")
    if index.get("recent") or index.get("removed"):
        parts.append(f"since then {index['recent']:,} added and {index['removed']:,} removed")
    return ", ".join(parts)


def verify(in_: CollectionOption = None, as_json: JsonOption = False) -> None:
    """Check a collection: the catalog, every vector, the FAISS files, and that files are still there.

    Exit 1 when something is damaged.

    Example:  simsearch verify --in indexes/photos
    """
    from simsearch.collection import Collection

    with Collection.open(find_collection(in_)) as collection:
        found = collection.verify()
    if as_json:
        print_json(found.to_dict())
    else:
        for line in (*found.problems, *found.notes):
            typer.echo(format_path(line))
        typer.echo("damaged" if found.problems else "everything is in order" if not found.notes else "no damage")
    if found.problems:
        raise typer.Exit(1)


def rebuild(
    in_: CollectionOption = None, kind: IndexKindOption = None, recall: RecallOption = None, as_json: JsonOption = False
) -> None:
    """Make the indexes of a collection anew from its catalog, of another kind where one is named.

    Example:  simsearch rebuild --in indexes/photos

    Example:  simsearch rebuild --in indexes/photos --index-kind hnsw --recall 0.98
    """
    from simsearch.collection import Collection
    from simsearch.index.kinds import IndexKindChoice

    choice = IndexKindChoice.from_options(kind, recall)
    with Collection.open(find_collection(in_)) as collection:
        made = collection.rebuild(choice)
        models = collection.info().models
    if as_json:
        print_json({"rebuilt": made, "indexes": [dict(model.index) for model in models]})
        return
    typer.echo(f"rebuilt {', '.join(made) or 'nothing: no model is indexed'}")
    for model in models:
        typer.echo(f"  {model.backbone}: {_describe_index(model.index)}")


def remove(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Files, or folders with all below, also s3://bucket/folder.")
    ],
    in_: CollectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take files out of a collection. The files themselves stay, and come back when they are indexed again.

    Example:  simsearch remove photos/private --in indexes/photos
    """
    from simsearch.collection import Collection

    with Collection.open(find_collection(in_)) as collection:
        n_removed = collection.remove(paths)
    if as_json:
        print_json({"removed": n_removed})
    else:
        typer.echo(f"{n_removed:,} files taken out; `simsearch prune` deletes the vectors nothing needs any more")


def prune(
    in_: CollectionOption = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="NAME", help="Delete all vectors of this backbone instead."),
    ] = None,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Delete augmented views instead, of all backbones or of that one.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the vectors of images that have no file any more, and give the space back.

    Example:  simsearch prune --in indexes/photos
    """
    from simsearch.collection import Collection

    with Collection.open(find_collection(in_)) as collection:
        done = collection.prune(backbone, only_augmented=augmented)
    if as_json:
        print_json(done.to_dict())
    else:
        deleted = f"{done.n_models} models" if backbone else f"{done.n_images:,} images"
        deleted = f"{done.n_views:,} augmented views" if augmented else deleted
        typer.echo(f"{deleted} deleted, {format_size(done.freed_bytes)} freed")
