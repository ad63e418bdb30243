"""`simsearch ls`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.options import CollectionOption, JsonOption, NulOption, WhereOption, find_collection
from simsearch.cli.output import print_json, print_message, print_paths
from simsearch.errors import UsageError


def ls(
    in_: CollectionOption = None,
    where: WhereOption = None,
    nul: NulOption = False,
    with_copies: Annotated[
        bool, typer.Option("--copies", help="Print every file of an image, also those with the same content.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the images of a collection: one path per line, and nothing else.

    Example:  simsearch ls --where "camera ~ nikon and taken > 2024-05"

    Example:  simsearch ls -0 --where "width < 200" | xargs -0 ls -l
    """
    from simsearch.collection import Collection

    if nul and as_json:
        raise UsageError("-0 and --json cannot be combined", "give one of them")
    folder = find_collection(in_)
    with Collection.open(folder) as collection:
        images = collection.images(where)
        if as_json:
            print_json({"collection": folder, "images": images.to_dicts()})
            return
        paths = (file.path for image in images for file in (image.files if with_copies else image.files[:1]))
        print_paths(paths, ends_in_nul=nul)
        if not len(images):
            print_message("simsearch: no image matches the filter" if where else "simsearch: the collection is empty")
