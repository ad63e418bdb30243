"""`simsearch augment`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from simsearch.cli.terminal import AsJson, MaxMegapixels, Ranges, Seed, max_pixels, print_json, shown_path


def augment(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="The pictures.")],
    n: Annotated[int, typer.Option("-n", metavar="N", help="How many views of each.")] = 10,
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Where to write them.")] = "augmented",
    ranges: Ranges = None,
    seed: Seed = None,
    megapixels: MaxMegapixels = None,
    as_json: AsJson = False,
) -> None:
    """Write augmented views of pictures: turned, moved, sheared, scaled, brighter or darker, flipped.

    The same picture, seed and ranges give the same views, here and in `simsearch index --augment N`.

    Example:  simsearch augment vase.jpg -n 10 --out views
    """
    from simsearch.study.views import augmentation, write_views

    written = write_views(images, out, augmentation(n, seed, ranges), max_pixels(megapixels))
    if as_json:
        views = [
            {"image": view.source, "number": view.number, "path": view.file} | dataclasses.asdict(view.transformation)
            for view in written
        ]
        print_json({"views": views})
        return
    for view in written:
        typer.echo(f"{shown_path(view.file)}: {view.transformation.describe()}")
