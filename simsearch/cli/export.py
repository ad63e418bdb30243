"""`simsearch export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from simsearch.cli.options import BackboneOption, CollectionOption, JsonOption, find_collection
from simsearch.cli.output import format_path, print_json, print_message
from simsearch.errors import UsageError

if TYPE_CHECKING:
    from simsearch.collection import Collection

    pass


PROJECTOR = "projector"


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
    from simsearch.collection import Collection
    from simsearch.interchange.exporter import FORMATS, VectorKind

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


def _check_choice(word: str | None, allowed: tuple[str, ...], what: str) -> None:
    if word is not None and word not in allowed:
        raise UsageError(f"there is no {what} {word!r}", f"choose one of {', '.join(allowed)}")


def _export_projector(collection: Collection, place: str, backbone: str | None) -> dict[str, Any]:
    from simsearch.report.projector import export_projector

    done = export_projector(collection.catalog, collection.model(backbone), Path(place))
    return {"path": str(done.folder), "format": PROJECTOR, "rows": done.n_points, "of_images": done.n_images}
