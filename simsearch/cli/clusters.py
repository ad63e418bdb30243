"""`simsearch clusters`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simsearch.cli.options import (
    BackboneOption,
    ClusterSeedOption,
    CollectionOption,
    JsonOption,
    WhereOption,
    find_collection,
)
from simsearch.cli.output import format_path, print_json, print_message

if TYPE_CHECKING:
    from simsearch.visualization.overview import Clustering

    pass


def clusters(
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    k: Annotated[
        int | None, typer.Option("-k", metavar="K", help="How many clusters; default: as many as are found.")
    ] = None,
    where: WhereOption = None,
    sheet: Annotated[
        str | None, typer.Option("--sheet", metavar="FILE", help="Draw typical images into a picture, such as out.png.")
    ] = None,
    seed: ClusterSeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Share a collection's images out to groups of alike ones, each with its most typical images.

    Tightness is the mean similarity of a cluster's images to its middle, up to 1. The label is the commonest folder
    name and its share. With --json every image is listed with its cluster.

    Example:  simsearch clusters --in indexes/photos -k 12 --sheet clusters.png
    """
    from simsearch.collection import Collection
    from simsearch.visualization.overview import ImageSelection

    if sheet is not None:
        from simsearch.report.drawing.canvas import check_extension

        check_extension(sheet)
    folder = find_collection(in_)
    with Collection.open(folder) as collection:
        found = collection.clusters(k, backbone=backbone, selection=ImageSelection(where, seed=seed))
    if sheet is not None:
        from simsearch.report.drawing.clusters import draw_clusters

        draw_clusters(found, sheet)
    if as_json:
        print_json(
            {
                **_describe_clustering(folder, found),
                "clusters": [_build_cluster_document(found, number) for number in _list_cluster_numbers(found)],
            }
        )
        return
    _print_sample_note(found)
    _print_clusters(folder, found)


def _list_cluster_numbers(found: Clustering) -> range:
    return range(len(found.clusters))


def _build_cluster_document(found: Clustering, number: int) -> dict[str, Any]:
    cluster = found.clusters[number]
    return {
        "cluster": cluster.number,
        "size": cluster.size,
        "tightness": round(cluster.tightness, 6),
        "label": cluster.label,
        "label_share": round(cluster.label_share, 6),
        "images": [{"image_id": image.image_id, "path": image.path} for image in found.list_members(cluster)],
    }


def _print_clusters(folder: str, found: Clustering) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = f"{folder}: {len(found.images):,} images in {len(found.clusters)} clusters  ({found.backbone})"
    table = Table(title=Text(format_path(title)), title_justify="left", box=None, pad_edge=False)
    for heading in ("cluster", "images", "tightness"):
        table.add_column(heading, justify="right", no_wrap=True)
    if has_labels := any(cluster.label is not None for cluster in found.clusters):
        table.add_column("label")
    table.add_column("most typical, id:file")
    for cluster in found.clusters:
        label = [Text(f"{format_path(cluster.label or '')} {cluster.label_share:.0%}")] if has_labels else []
        typical = "  ".join(f"{image.image_id}:{_shorten_path(image.path)}" for image in found.list_typical(cluster))
        cut = Text(typical, no_wrap=True, overflow="ellipsis")
        table.add_row(str(cluster.number), f"{cluster.size:,}", f"{cluster.tightness:.3f}", *label, cut)
    Console().print(table)


def _shorten_path(path: str) -> str:
    return format_path(os.path.basename(path))


def _describe_clustering(folder: str, found: Clustering) -> dict[str, Any]:
    return {
        "collection": folder,
        "backbone": found.backbone,
        "model": found.model,
        "images": len(found.images),
        "of_images": found.n_images,
    }


def _print_sample_note(found: Clustering) -> None:
    if found.n_images > len(found.images):
        print_message(f"simsearch: a sample of {len(found.images):,} of {found.n_images:,} images")
