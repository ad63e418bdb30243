"""`simsearch export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simsearch.cli.options import BackboneOption, CollectionOption, JsonOption, find_collection
from simsearch.cli.output import format_path, print_json, print_message, print_summary
from simsearch.errors import UsageError

if TYPE_CHECKING:
    from simsearch.collection import Collection
    from simsearch.report.projector import ProjectorExport

FormatName = Literal["parquet", "npy", "csv", "jsonl", "projector"]
LabelFormatName = Literal["csv"]
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
    labels: Annotated[
        LabelFormatName | None,
        typer.Option("--labels", help="Write labels instead of vectors: a table of paths and values of --column."),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option("--column", metavar="NAME", help="Your own column that has the labels. Default: label."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export the vectors of a collection, with everything known about their images, for other tools.

    npy is the layout of clip-retrieval, which embedding-reader and autofaiss read. npy and parquet need the extra
    [parquet]. projector is a folder for the Embedding Projector of TensorBoard, with thumbnails of at most 100,000
    images.

    Example:  simsearch export photos.parquet --in indexes/photos

    Example:  simsearch export labels.csv --labels csv --in indexes/photos
    """
    from simsearch.collection import Collection

    if labels is None and column is not None:
        raise UsageError("--column names labels", "give --labels csv, too")
    if labels is not None:
        if format is not None or backbone is not None or vectors != "float32":
            raise UsageError("labels have no backbone and no format", "leave out --format, --vectors and --backbone")
        _export_labels(find_collection(in_), path, column or "label", as_json=as_json)
        return
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
    print_summary(
        f"{format_path(report['path'])}: {report['rows']:,} rows of {model.model.backbone} as {report['format']}"
    )
    if projector is not None:
        if projector.n_images > projector.n_points:
            print_message(f"simsearch: a sample of {projector.n_images:,} images, the maximum of the projector")
        print_message(f"open it with: tensorboard --logdir {format_path(path)}")


def _export_labels(folder: str, path: str, column: str, *, as_json: bool) -> None:
    from simsearch.collection import Collection

    with Collection.open(folder) as collection:
        collection.check_outputs([path])
        report = collection.export_labels(path, column)
    if as_json:
        print_json(report.to_dict())
    else:
        print_summary(f"{format_path(report.path)}: {report.n_rows:,} files with {report.n_labels:,} labels ({column})")


def _export_projector(collection: Collection, path: str, backbone: str | None) -> ProjectorExport:
    from simsearch.report.projector import export_projector

    return export_projector(collection.catalog, collection.model(backbone), Path(path))
