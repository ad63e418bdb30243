"""`simsearch export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simsearch.cli.options import BackboneOption, CollectionOption, JsonOption, find_collection
from simsearch.cli.output import format_path, print_json, print_line, print_message
from simsearch.errors import UsageError

if TYPE_CHECKING:
    from simsearch.collection import Collection
    from simsearch.report.projector import ProjectorExport

FormatName = Literal["parquet", "npy", "csv", "jsonl", "projector"]
VectorKindName = Literal["float32", "float16", "none"]


def export(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="The file to write; for npy and projector, a new folder.")
    ],
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    format: Annotated[
        FormatName | None,
        typer.Option("--format", help="Output format. Default: by the extension of PATH, npy if it has none."),
    ] = None,
    vectors: Annotated[
        VectorKindName, typer.Option("--vectors", help="Type of the vectors. float16: half the size, rounded.")
    ] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Export the vectors of a collection, with everything known about their images, for other tools.

    npy is the layout of clip-retrieval, which embedding-reader and autofaiss read. npy and parquet need the extra
    [parquet]. projector is a folder for the Embedding Projector of TensorBoard, with thumbnails of at most 100,000
    images.

    Example:  simsearch export photos.parquet --in indexes/photos
    """
    from simsearch.collection import Collection

    with Collection.open(find_collection(in_)) as collection:
        collection.check_outputs([path])
        model = collection.model(backbone)
        if format == "projector":
            if vectors != "float32":
                raise UsageError("the projector format stores float32 vectors only", "leave out --vectors")
            projector = _export_projector(collection, path, backbone)
            report = projector.to_dict()
        else:
            projector = None
            report = collection.export(path, format=format, vectors=vectors, backbone=backbone).to_dict()
    if as_json:
        print_json({"backbone": model.model.backbone, "model": model.fingerprint, **report})
        return
    print_line(
        f"{format_path(report['path'])}: {report['rows']:,} rows of {model.model.backbone} as {report['format']}"
    )
    if projector is not None:
        if projector.n_images > projector.n_points:
            print_message(f"simsearch: a sample of {projector.n_images:,} images, the maximum of the projector")
        print_message(f"open it with: tensorboard --logdir {format_path(path)}")


def _export_projector(collection: Collection, path: str, backbone: str | None) -> ProjectorExport:
    from simsearch.report.projector import export_projector

    return export_projector(collection.catalog, collection.model(backbone), Path(path))
