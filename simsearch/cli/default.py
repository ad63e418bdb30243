"""`simsearch default`."""

from __future__ import annotations

from typing import Annotated

import typer

from simsearch.cli.options import CollectionOption, JsonOption, find_collection
from simsearch.cli.output import print_json, print_summary


def default(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A backbone of the collection, or the fingerprint of a model."),
    ] = None,
    in_: CollectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or set the default backbone of a collection: the one of queries that name none.

    It is the first backbone that was indexed, until you choose another one. Measuring or indexing with another backbone
    does not change it.

    Example:  simsearch default resnet50 --in indexes/photos
    """
    from simsearch.collection import Collection

    folder = find_collection(in_)
    with Collection.open(folder) as collection:
        stored = collection.model() if name is None else collection.set_default_model(name)
        others = collection.list_backbones()[1:]
    if as_json:
        document = {"default_backbone": stored.model.backbone, "model": stored.fingerprint, "other_backbones": others}
        print_json({"collection": folder, **document})
        return
    also = f"; it also has {', '.join(others)}" if others else ""
    print_summary(f"{folder}: queries use {stored.model.backbone}{also}")
