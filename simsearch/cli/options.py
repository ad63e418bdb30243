"""The options that several commands share, and what their values mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simsearch.errors import CollectionNotFound, UsageError

if TYPE_CHECKING:
    from simsearch import ModelChoice


COLLECTIONS_FOLDER = Path("indexes")
COLLECTION_VARIABLE = "SIMSEARCH_INDEX"
REPORT_FOLDER = "report"
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]
IndexKindOption = Annotated[
    str | None,
    typer.Option(
        "--index-kind",
        metavar="KIND",
        help="What is searched: auto (exact up to 256 MB of vectors, then ivf-sq8), flat (exact), flat-fp16, flat-sq8, "
        "ivf, ivf-sq8, ivf-pq, ivf-rabitq, hnsw or hnsw-sq8. It stays so until another is named.",
    ),
]
RecallOption = Annotated[
    float | None,
    typer.Option(
        "--recall",
        metavar="SHARE",
        help="The recall@10 that such an index is tuned to: how many of the ten nearest it finds; default 0.99.",
    ),
]
CollectionOption = Annotated[
    str | None,
    typer.Option(
        "--in",
        metavar="DIR",
        help="The collection; default: $SIMSEARCH_INDEX, else the only one under indexes/.",
    ),
]
BackboneOption = Annotated[
    str | None,
    typer.Option("--backbone", metavar="NAME|FILE", help="A row of `simsearch backbones`, or a model file."),
]
RangesOption = Annotated[
    str | None,
    typer.Option(
        "--ranges",
        metavar="RANGES",
        help="How far views go; default: rotation=30,shift=0.1,shear=0.15,zoom=0.1,channel-shift=10,flip=yes.",
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Another seed gives other views; default: 0.")]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help='Only images of which this holds: "class in (lamp, vase) and width >= 800 and taken > 2024-05".',
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="faiss|milvus",
        help="What is searched from now on: faiss (files in the collection, the default) or milvus.",
    ),
]
MilvusUriOption = Annotated[
    str | None,
    typer.Option(
        "--milvus-uri",
        metavar="URI",
        help="Where Milvus is: http://host:19530, with a database http://host:19530/name, or a path that ends in .db "
        "(Milvus Lite). A token, or user:password, goes into $MILVUS_TOKEN.",
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never download anything.")]
MaxMegapixelsOption = Annotated[
    float | None,
    typer.Option(
        "--max-megapixels",
        min=0.01,
        help="Skip pictures larger than this; default: by this machine's memory.",
    ),
]
BackbonesOption = Annotated[
    list[str] | None,
    typer.Option("--backbone", metavar="NAME", help="A row of `simsearch backbones`; several stand side by side."),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH", help="A weights file, or `random` (to see how a network is built)."),
]
ResizeOption = Annotated[
    str | None, typer.Option("--resize", help="How pictures become square: squash, crop, pad or nearest.")
]
OfflineWeightsOption = Annotated[bool, typer.Option("--offline", help="Never download weights.")]
ClusterSeedOption = Annotated[
    int, typer.Option("--seed", help="Another seed gives other clusters and, of many images, others.")
]


def find_collection(named: str | None) -> str:
    """The folder of the collection to ask.

    Raises `CollectionNotFound` when there is none, `UsageError` when there are several.
    """
    folder = named or os.environ.get(COLLECTION_VARIABLE)
    if folder:
        return folder
    found = sorted(path.parent for path in COLLECTIONS_FOLDER.glob("*/catalog.db"))
    if not found:
        raise CollectionNotFound(
            str(COLLECTIONS_FOLDER), "there is no collection under indexes/", "make one with `simsearch index SOURCE`"
        )
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise UsageError(f"there are several collections: {names}", f"name one with --in or ${COLLECTION_VARIABLE}")
    return str(found[0])


def derive_collection_folder(source: str) -> str:
    """Where a source is indexed into if the user does not say: indexes/ and the source's name."""
    if source == "-":
        raise UsageError("a list on stdin has no name", "say where to index it with --into DIR")
    from simsearch.sources.addresses import is_remote
    from simsearch.sources.scan import derive_source_name

    if is_remote(source):
        return str(COLLECTIONS_FOLDER / derive_source_name(source))
    path = Path(os.path.abspath(source))
    return str(COLLECTIONS_FOLDER / (path.name if path.is_dir() else path.stem or "images"))


def to_pixels(megapixels: float | None) -> int | None:
    """The limit in pixels."""
    return None if megapixels is None else round(megapixels * 1e6)


def build_choices(backbones: list[str] | None, **words: str | bool | None) -> list[ModelChoice]:
    """A choice for each backbone named, once, or one for the default backbone; `words` go into all of them.

    Raises `UsageError` on a word that there is none of.
    """
    from simsearch import ModelChoice

    if not backbones:
        return [ModelChoice.from_options(**words)]
    return [ModelChoice.from_options(backbone=backbone, **words) for backbone in dict.fromkeys(backbones)]
