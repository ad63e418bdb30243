"""`simsearch map`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from simsearch.cli.options import (
    BackboneOption,
    ClusterSeedOption,
    CollectionOption,
    JsonOption,
    WhereOption,
    find_collection,
)
from simsearch.cli.output import print_json, print_missing_pictures, print_sample_note, print_summary
from simsearch.errors import UsageError

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
            help=f"A page (.html) or an image (.png, .jpg, .webp). Repeatable. Default: {DEFAULT_MAP}.",
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option("--clusters", metavar="K", help="Number of clusters. Default: chosen by the data."),
    ] = None,
    where: WhereOption = None,
    seed: ClusterSeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw a 2-D map of a collection with similar images next to each other, as an HTML page or an image.

    The page is a single file. It zooms, colors images by cluster or class, filters, and shows an image when it is
    clicked. Of more than 100,000 images a random sample is drawn.

    Example:  simsearch map --in indexes/photos --out map.html --out map.png
    """
    from simsearch.collection import Collection
    from simsearch.report.drawing.tiles import MAX_WAIT_S
    from simsearch.report.map import CollectionMap, MapImage, draw_map, write_map_page
    from simsearch.sources.retry import limit_patience
    from simsearch.visualization.overview import ImageSelection

    files = [Path(name) for name in out or [DEFAULT_MAP]]
    _check_extensions(files)
    folder = find_collection(in_)
    with Collection.open(folder) as collection:
        collection.check_outputs(files)
        layout = collection.arrangement(k, backbone=backbone, selection=ImageSelection(where, seed=seed))
    title = f"{os.path.basename(os.path.abspath(folder))} ({layout.backbone})"
    images = [MapImage(image.image_id, image.path, image.label) for image in layout.images]
    collection_map = CollectionMap(title, images, layout.grid, layout.clusters, layout.name_clusters())
    with limit_patience(MAX_WAIT_S):  # for all files together
        for file in files:
            write = write_map_page if file.suffix.lower() in _PAGE_EXTENSIONS else draw_map
            missing = write(collection_map, file)
    print_missing_pictures("map", missing)
    if as_json:
        print_json({"collection": folder, **layout.to_dict(), "files": [str(file) for file in files]})
        return
    print_sample_note(layout)
    print_summary(f"{len(images):,} images in {len(layout.clusters)} clusters: {', '.join(map(str, files))}")


def _check_extensions(files: list[Path]) -> None:
    from simsearch.report.drawing.canvas import check_extension

    for file in files:
        if file.suffix.lower() not in _PAGE_EXTENSIONS:
            try:
                check_extension(file)
            except UsageError as error:
                raise UsageError(
                    f"unknown map format of {file}", "use the extension .html, .png, .jpg or .webp"
                ) from error
