"""Options that several commands share, and the functions that resolve their values.

The choices repeat the `Literal` types of the library, which cannot be imported here: their modules load NumPy and more,
and `--help` must not. A test compares them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from simsearch.errors import CollectionNotFound, UsageError

if TYPE_CHECKING:
    from simsearch import ModelChoice

COLLECTIONS_FOLDER = Path("indexes")
COLLECTION_VARIABLE = "SIMSEARCH_INDEX"
REPORT_FOLDER = "report"

PoolingName = Literal["avg", "max", "gem", "cls"]
ResizeName = Literal["squash", "crop", "pad", "nearest"]
PrecisionName = Literal["auto", "f32", "bf16", "int8"]
StoreName = Literal["faiss", "milvus"]
IndexKindName = Literal[
    "auto", "flat", "flat-fp16", "flat-sq8", "ivf", "ivf-sq8", "ivf-pq", "ivf-rabitq", "hnsw", "hnsw-fp16",
    "hnsw-sq8",
]  # fmt: skip

# The collection, and what is searched in it

CollectionOption = Annotated[
    str | None,
    typer.Option(
        "--in",
        metavar="DIR",
        help="The collection. Default: $SIMSEARCH_INDEX, otherwise the only collection in indexes/.",
    ),
]
NewCollectionOption = Annotated[
    str | None,
    typer.Option("--into", metavar="DIR", help="The collection. Default: indexes/<name of the source>."),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help='Use only images that match: "class in (lamp, vase) and width >= 800 and taken > 2024-05".',
    ),
]
IndexKindOption = Annotated[
    IndexKindName | None,
    typer.Option(
        "--index-kind",
        help="Kind of the vector index. auto: exact search up to 256 MB of vectors, ivf-sq8 above. flat: exact. "
        "The collection keeps it until another kind is given.",
    ),
]
RecallOption = Annotated[
    float | None,
    typer.Option(
        "--recall",
        metavar="FRACTION",
        help="recall@10 that an approximate index is tuned to: the fraction of the 10 nearest vectors that it finds. "
        "Default: 0.99.",
    ),
]
StoreOption = Annotated[
    StoreName | None,
    typer.Option(
        "--store",
        help="Vector store to search from now on. faiss: files in the collection (default). milvus: a Milvus server.",
    ),
]
MilvusUriOption = Annotated[
    str | None,
    typer.Option(
        "--milvus-uri",
        metavar="URI",
        help="Address of Milvus: http://host:19530, with a database http://host:19530/name, or a path ending in .db "
        "(Milvus Lite). $MILVUS_TOKEN holds a token, or user:password.",
    ),
]

BroadSourceOption = Annotated[
    bool, typer.Option("--yes", help="Index a whole disk or a home folder, if a source is one.")
]

SafeLinksOption = Annotated[
    bool,
    typer.Option(
        "--safe-links", help="Skip symbolic links that lead out of the source, such as those of a stranger's archive."
    ),
]

# The model


def trust_backbone(name: str | None) -> str | None:
    """Trust a model file that the user names: what the catalog of a collection names is not run otherwise."""
    if name is not None:
        from simsearch.models.custom_model import trust_named_file

        for term in name.split("+") if not os.path.lexists(name) else [name]:
            trust_named_file(term.partition("*")[2] or term)
    return name


BackboneOption = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="NAME|FILE",
        callback=trust_backbone,
        help="A name from `simsearch backbones`, a model file or folder, or hf:owner/repository[@revision]; several "
        "are joined by +, with weights: builtin+0.3*histogram.",
    ),
]
BackbonesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backbone",
        metavar="NAME|FILE",
        help="A name from `simsearch backbones`, a model file or folder, or hf:owner/repository. Repeatable.",
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH", help="A weights file, or `random` for untrained weights."),
]
MovedWeightsOption = Annotated[
    str | None,
    typer.Option("--weights", metavar="PATH", help="New path of the weights file, if it was moved."),
]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer", metavar="NAME", help="Any layer of the network, such as fc2 of vgg16. Default: the feature layer."
    ),
]
PoolingOption = Annotated[
    PoolingName | None, typer.Option("--pooling", help="How a feature map becomes a vector. Default: by backbone.")
]
ResizeOption = Annotated[
    ResizeName | None, typer.Option("--resize", help="How images are made square. Default: by backbone.")
]
PrecisionOption = Annotated[
    PrecisionName,
    typer.Option("--precision", help="Numeric precision. auto: the fastest with nearly the same results as f32."),
]
AcceptLicenseOption = Annotated[
    bool,
    typer.Option(
        "--accept-license", help="Accept the license of a backbone that limits its use (`simsearch backbones`)."
    ),
]
OfflineWeightsOption = Annotated[bool, typer.Option("--offline", help="Never download weights.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never download anything.")]

# Images and views

MaxMegapixelsOption = Annotated[
    float | None,
    typer.Option(
        "--max-megapixels", min=0.01, help="Skip larger images. Default: derived from the memory of this machine."
    ),
]
AugmentOption = Annotated[
    int | None,
    typer.Option("--augment", metavar="N", help="Also embed N augmented views of each image; 0 removes them."),
]
RangesOption = Annotated[
    str | None,
    typer.Option(
        "--ranges",
        metavar="RANGES",
        help="Ranges of the augmentation. Default: "
        "rotation=30, shift=0.1, shear=0.15, zoom=0.1, channel-shift=10, flip=yes.",
    ),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Random seed of the augmentation. Default: 0.", show_default=False)
]
ClusterSeedOption = Annotated[
    int, typer.Option("--seed", help="Random seed of the clustering, and of the sample of a large collection.")
]

# Output

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]


def find_collection(folder: str | None) -> str:
    """Return the folder of the collection to use: the given one, $SIMSEARCH_INDEX, or the only one in indexes/.

    Raises `CollectionNotFound` when there is none, `UsageError` when there are several.
    """
    chosen = folder or os.environ.get(COLLECTION_VARIABLE)
    if chosen:
        return chosen
    found = sorted(path.parent for path in COLLECTIONS_FOLDER.glob("*/catalog.db"))
    if not found:
        raise CollectionNotFound(
            str(COLLECTIONS_FOLDER), "no collection in indexes/", "create one with `simsearch index SOURCE`"
        )
    if len(found) > 1:
        names = ", ".join(str(path) for path in found)
        raise UsageError(f"several collections in indexes/: {names}", f"choose one with --in or ${COLLECTION_VARIABLE}")
    return str(found[0])


def derive_collection_folder(source: str) -> str:
    """Return the default collection of a source: indexes/ and the name of the source.

    Raises `UsageError` for a list on stdin, which has no name.
    """
    if source == "-":
        raise UsageError("a list on stdin has no name to derive a collection from", "give the collection with --into")
    from simsearch.sources.addresses import is_remote
    from simsearch.sources.scan import derive_source_name

    if is_remote(source):
        return str(COLLECTIONS_FOLDER / derive_source_name(source))
    path = Path(os.path.abspath(source))
    return str(COLLECTIONS_FOLDER / (path.name if path.is_dir() else path.stem or "images"))


def check_sources_are_narrow(sources: Sequence[str], *, is_confirmed: bool) -> None:
    """Raise `UsageError` if a source is the root of the file system or a home folder, unless it is confirmed."""
    from simsearch.sources.list_files import is_broad_folder

    for source in () if is_confirmed else sources:
        if os.path.isdir(source) and is_broad_folder(os.path.realpath(source)):
            raise UsageError(f"{source} holds a whole disk or home folder", "add --yes to index all of it")


def to_pixels(megapixels: float | None) -> int | None:
    """Convert a limit in megapixels to pixels. Raises `UsageError` if it is not finite."""
    if megapixels is None:
        return None
    if not math.isfinite(megapixels * 1e6):
        raise UsageError(f"--max-megapixels {megapixels:g} is not a finite number", "leave it out for the default")
    return round(megapixels * 1e6)


def build_choices(backbones: list[str] | None, **options: str | bool | None) -> list[ModelChoice]:
    """Return one model choice per distinct backbone, or one for the default backbone; `options` apply to each.

    Raises `UsageError` on an unknown value of an option.
    """
    from simsearch import ModelChoice

    if not backbones:
        return [ModelChoice.from_options(**options)]
    return [ModelChoice.from_options(backbone=backbone, **options) for backbone in dict.fromkeys(backbones)]
