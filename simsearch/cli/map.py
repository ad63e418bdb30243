"""`simsearch map`."""

from __future__ import annotations

import os
from pathlib import Path
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
from simsearch.cli.output import print_json, print_message
from simsearch.errors import UsageError

if TYPE_CHECKING:
    from simsearch.visualization.overview import Clustering

    pass


DEFAULT_MAP = "map.html"


_PAGE_EXTENSIONS = (".html", ".htm")


def map_(
    in_: CollectionOption = None,
    backbone: BackboneOption = None,
    out: Annotated[
        list[str] | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help=f"A page (.html) or a picture (.png, .jpg, .webp); may be repeated. Default: {DEFAULT_MAP}.",
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--clusters", metavar="K", help="How many clusters are coloured; default: as many as are found."),
    ] = None,
    where: WhereOption = None,
    seed: ClusterSeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Lay a collection out in the plane, alike pictures near each other: one page to walk about in, or a picture.

    The page needs nothing else: it zooms, is coloured by cluster or class, filters, and shows a picture that is
    clicked. Of more than 50,000 images a sample is drawn.

    Example:  simsearch map --in indexes/photos --out map.html --out map.png
    """
    from simsearch.collection import Collection
    from simsearch.report.map import CollectionMap, MapImage, draw_map, write_map_page
    from simsearch.visualization.overview import ImageSelection

    files = [Path(name) for name in out or [DEFAULT_MAP]]
    _check_files(files)
    folder = find_collection(in_)
    with Collection.open(folder) as collection:
        found = collection.arrangement(k, backbone=backbone, selection=ImageSelection(where, seed=seed))
    images = [MapImage(image.image_id, image.path, image.label) for image in found.images]
    drawn = CollectionMap(f"{os.path.basename(os.path.abspath(folder))} ({found.backbone})", images, found.grid,
                          found.clusters)  # fmt: skip
    for file in files:
        write = write_map_page if file.suffix.lower() in _PAGE_EXTENSIONS else draw_map
        write(drawn, file)
    if as_json:
        print_json(
            {
                **_describe_clustering(folder, found),
                "clusters": len(found.clusters),
                "files": [str(file) for file in files],
            }
        )
        return
    _print_sample_note(found)
    typer.echo(f"{len(images):,} images in {len(found.clusters)} clusters: {', '.join(map(str, files))}")


def _check_files(files: list[Path]) -> None:
    from simsearch.report.drawing.canvas import check_extension

    for file in files:
        if file.suffix.lower() not in _PAGE_EXTENSIONS:
            try:
                check_extension(file)
            except UsageError as error:
                raise UsageError(f"{file} is no kind of map there is", "name it .html, .png, .jpg or .webp") from error


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
