"""`simsearch info`, `verify`, `rebuild`, `remove` and `prune`: the state of a collection, and its upkeep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import CollectionOption, IndexKindOption, JsonOption, RecallOption, find_collection
from simsearch.cli.output import (
    format_path,
    print_json,
    print_line,
    print_message,
    print_notes,
    print_paths,
    print_summary,
)
from simsearch.text import count, format_size

if TYPE_CHECKING:
    from simsearch.maintenance import CollectionInfo, ModelInfo

_MAX_SKIPS_SHOWN = 20
_MAX_RUNS_SHOWN = 3


def info(in_: CollectionOption = None, as_json: JsonOption = False) -> None:
    """Show the contents of a collection: images, models, size on disk, and unreadable files.

    --json has the last five runs.

    Example:  simsearch info --in indexes/photos
    """
    from simsearch.collection import Collection

    with Collection.open(find_collection(in_)) as collection:
        contents = collection.info()
    if as_json:
        print_json(contents.to_dict())
    else:
        _print_contents(contents)


def _print_contents(contents: CollectionInfo) -> None:
    size = format_size(contents.size_bytes)
    images, files = count(contents.n_images, "image"), count(contents.n_files, "file")
    print_line(f"{contents.collection}: {images} in {files}, {size}")
    for model in contents.models:
        _print_model(model)
    if contents.n_dated or contents.n_with_camera:
        print_line(f"  {count(contents.n_dated, 'image')} with a date, {contents.n_with_camera:,} with a camera")
    if contents.columns:
        print_line(f"  your columns: {', '.join(f'{name} ({n:,})' for name, n in contents.columns.items())}")
    if contents.n_orphans:
        print_line(f"  {count(contents.n_orphans, 'image')} without a file: `simsearch prune` deletes their vectors")
    for line in contents.describe_runs()[:_MAX_RUNS_SHOWN]:
        print_line(f"  run {line}")
    for skip in contents.skips[:_MAX_SKIPS_SHOWN]:
        print_line(f"  skipped {format_path(skip.path)}: {skip.reason}")


def _print_model(info: ModelInfo) -> None:
    model = info.stored.model
    side = f"{model.side_px} px" if model.side_px else "imported"
    details = ", ".join(str(x) for x in (model.precision, model.layer, side) if x)
    if n_augmented := info.stored.augmentation.n_views:
        details += f", {n_augmented} augmented views per image"
    if info.is_former:
        details += ", former version (`simsearch upgrade` moves to the new one)"
    default = "  <- default of queries" if info.is_default else ""
    print_line(f"  {info.backbone:<20} {info.n_images:>8,} images  {info.stored.width:>5} d  {details}{default}")
    if info.n_missing:
        print_line(f"  {'':<20} {info.missing_description}")
    if info.rerank != "none":
        print_line(f"  {'':<20} results are ranked by {info.rerank} unless a query says otherwise (--rerank none)")
    if info.index.kind != "flat":
        print_line(f"  {'':<20} index: {info.index.summary}")


def verify(in_: CollectionOption = None, as_json: JsonOption = False) -> None:
    """Check a collection for damage: the catalog, every vector, the index files, and that image files exist.

    The exit status is 1 when something is damaged.

    Example:  simsearch verify --in indexes/photos
    """
    from simsearch.collection import Collection

    with Collection.open(find_collection(in_)) as collection:
        verification = collection.verify()
    if as_json:
        print_json(verification.to_dict())
    else:
        for line in (*verification.problems, *verification.notes):
            print_line(format_path(line))
        print_summary("damaged" if verification.problems else "no problems" if not verification.notes else "no damage")
    if verification.problems:
        raise typer.Exit(1)


def rebuild(
    in_: CollectionOption = None, kind: IndexKindOption = None, recall: RecallOption = None, as_json: JsonOption = False
) -> None:
    """Rebuild the vector indexes of a collection from its catalog, optionally as another kind.

    Example:  simsearch rebuild --in indexes/photos

    Example:  simsearch rebuild --in indexes/photos --index-kind hnsw --recall 0.98
    """
    from simsearch.collection import Collection
    from simsearch.index.kinds import IndexKindChoice

    choice = IndexKindChoice.from_options(kind, recall)
    with Collection.open(find_collection(in_)) as collection:
        rebuilt = collection.rebuild(choice)
        models = collection.info().models
    if as_json:
        print_json({"rebuilt": rebuilt, "indexes": [model.index.to_dict() for model in models]})
        return
    print_summary(f"rebuilt {', '.join(rebuilt) or 'nothing: the collection has no model'}")
    for model in models:
        print_summary(f"  {model.backbone}: {model.index.summary}")


def remove(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Files, or folders with everything below them; also s3://bucket/folder."),
    ],
    in_: CollectionOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the files that would be removed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove files from a collection. The image files are not deleted; indexing them again adds them again.

    Example:  simsearch remove photos/private --in indexes/photos
    """
    from simsearch.collection import Collection

    with Collection.open(find_collection(in_)) as collection:
        selected = collection.find_files(paths)
        n_removed = 0 if dry_run else collection.remove(paths)
    if as_json:
        print_json({"removed": n_removed, **({"dry_run": True, "would_remove": selected} if dry_run else {})})
    elif dry_run:
        print_paths(selected, ends_in_nul=False)
        print_message(f"simsearch: {count(len(selected), 'file')} would be removed")
    else:
        print_summary(
            f"{count(n_removed, 'file')} removed; `simsearch prune` deletes vectors that are no longer needed"
        )


def prune(
    in_: CollectionOption = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="NAME", help="Delete all vectors of this backbone instead."),
    ] = None,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Delete augmented views instead, of all backbones or of --backbone.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the vectors of images without a file, and free the disk space.

    Example:  simsearch prune --in indexes/photos
    """
    from simsearch.collection import Collection

    with Collection.open(find_collection(in_)) as collection:
        run = collection.preview_prune if dry_run else collection.prune
        report = run(backbone, only_augmented=augmented)
    print_notes(report.notes)
    if as_json:
        print_json(report.to_dict() | ({"dry_run": True} if dry_run else {}))
        return
    deleted = count(report.n_models, "model") if backbone else count(report.n_images, "image")
    deleted = count(report.n_views, "augmented view") if augmented else deleted
    if dry_run:
        print_line(f"{deleted} would be deleted")
    else:
        print_summary(f"{deleted} deleted, {format_size(report.freed_bytes)} freed")
