"""`simsearch clusters`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.cli.options import (
    BackboneOption,
    ClusterSeedOption,
    CollectionOption,
    JsonOption,
    WhereOption,
    find_collection,
)
from simsearch.cli.output import (
    format_path,
    make_table,
    print_json,
    print_missing_pictures,
    print_sample_note,
    print_table,
)

if TYPE_CHECKING:
    from simsearch.visualization.overview import Clustering


def clusters(
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    k: Annotated[
        int | None, typer.Option("-k", metavar="K", help="Number of clusters. Default: chosen by the data.")
    ] = None,
    where: WhereOption = None,
    sheet: Annotated[
        str | None, typer.Option("--sheet", metavar="FILE", help="Draw the typical images of each cluster: out.png.")
    ] = None,
    seed: ClusterSeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Group the images of a collection into clusters of similar ones, and list the most typical images of each.

    Tightness is the mean cosine similarity of the images to the center of their cluster, at most 1. The label is the
    most frequent folder name, with its percentage. --json lists every image with its cluster.

    Example:  simsearch clusters --in indexes/photos -k 12 --sheet clusters.png
    """
    from simsearch.collection import Collection
    from simsearch.visualization.overview import ImageSelection

    if sheet is not None:
        from simsearch.report.drawing.canvas import check_extension

        check_extension(sheet)
    folder = find_collection(in_)
    with Collection.open(folder) as collection:
        collection.check_outputs([sheet] if sheet else [])
        clustering = collection.clusters(k, backbone=backbone, selection=ImageSelection(where, seed=seed))
    if sheet is not None:
        from simsearch.report.drawing.clusters import draw_clusters

        print_missing_pictures("sheet", draw_clusters(clustering, sheet))
    if as_json:
        print_json({"collection": folder, **clustering.to_dict()})
        return
    print_sample_note(clustering)
    _print_clusters(folder, clustering)


def _print_clusters(folder: str, clustering: Clustering) -> None:
    from rich.text import Text

    n_images, n_clusters = len(clustering.images), len(clustering.clusters)
    table = make_table(format_path(f"{folder}: {n_images:,} images in {n_clusters} clusters  ({clustering.backbone})"))
    for heading in ("cluster", "images", "tightness"):
        table.add_column(heading, justify="right", no_wrap=True)
    if has_labels := any(cluster.label is not None for cluster in clustering.clusters):
        table.add_column("label")
    table.add_column("most typical, id:file")
    for cluster in clustering.clusters:
        label = [Text(f"{format_path(cluster.label or '')} {cluster.label_share:.0%}")] if has_labels else []
        typical = "  ".join(
            f"{image.image_id}:{_format_name(image.path)}" for image in clustering.list_typical(cluster)
        )
        cut = Text(typical, no_wrap=True, overflow="ellipsis")
        table.add_row(str(cluster.number), f"{cluster.size:,}", f"{cluster.tightness:.3f}", *label, cut)
    print_table(table)


def _format_name(path: str) -> str:
    return format_path(os.path.basename(path))
