"""`simsearch export` and `simsearch import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from simsearch.cli.terminal import (
    BackboneOption,
    CollectionOption,
    JsonOption,
    MaxMegapixelsOption,
    ProgressBar,
    find_collection,
    format_path,
    print_json,
    print_message,
    to_pixels,
)
from simsearch.errors import UsageError

if TYPE_CHECKING:
    from simsearch.collection import Collection, ImportReport

PROJECTOR = "projector"
_MAX_SKIPS_SHOWN = 20


def export(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="The file or, for npy and projector, new folder.")],
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    format: Annotated[
        str | None,
        typer.Option("--format", help="parquet, npy, csv, jsonl or projector; default: by the extension, npy if none."),
    ] = None,
    vectors: Annotated[
        str, typer.Option("--vectors", help="float32, float16 (half the space, rounded) or none.")
    ] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Write a collection's vectors and all that is known of their images for other tools.

    npy is the layout of clip-retrieval, which embedding-reader and autofaiss read; it and parquet need the extra
    [parquet]. projector is a folder for TensorBoard's Embedding Projector, with thumbnails: at most 100,000 images.

    Example:  simsearch export photos.parquet --in indexes/photos
    """
    from simsearch.collection import FORMATS, Collection, VectorKind

    _check_choice(format, (*FORMATS, PROJECTOR), "format")
    _check_choice(vectors, get_args(VectorKind), "kind of vectors")
    with Collection.open(find_collection(in_)) as collection:
        if format == PROJECTOR:
            if vectors != "float32":
                raise UsageError("the projector reads vectors as they are", "leave --vectors out")
            told = _export_projector(collection, place, backbone)
        else:
            kinds: dict[str, Any] = {"format": format, "vectors": vectors}
            done = collection.export(place, **kinds, backbone=backbone)
            told = {"path": str(done.path), "format": done.format, "rows": done.n_rows}
        model = collection.model(backbone)
    if as_json:
        print_json({"backbone": model.model.backbone, "model": model.fingerprint, **told})
        return
    typer.echo(f"{format_path(told['path'])}: {told['rows']:,} rows of {model.model.backbone} as {told['format']}")
    if format == PROJECTOR:
        if told["of_images"] > told["rows"]:
            print_message(f"simsearch: a sample of {told['of_images']:,} images; the projector shows no more")
        print_message(f"open it with: tensorboard --logdir {format_path(place)}")


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

    with ProgressBar() as bar:
        done = Collection.import_embeddings(
            into, source, name, root=Path(root).expanduser(), metadata=metadata,
            max_pixels=to_pixels(megapixels), progress=bar,
        )  # fmt: skip
    if as_json:
        print_json(_build_import_document(done))
    else:
        _print_import(done)


def _check_choice(word: str | None, allowed: tuple[str, ...], what: str) -> None:
    if word is not None and word not in allowed:
        raise UsageError(f"there is no {what} {word!r}", f"choose one of {', '.join(allowed)}")


def _export_projector(collection: Collection, place: str, backbone: str | None) -> dict[str, Any]:
    from simsearch.report.projector import export_projector

    done = export_projector(collection.catalog, collection.model(backbone), Path(place))
    return {"path": str(done.folder), "format": PROJECTOR, "rows": done.n_points, "of_images": done.n_images}


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
