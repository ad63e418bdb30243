"""Options that several commands share, and the functions that resolve their values.

The choices repeat the `Literal` types of the library, which cannot be imported here: their modules load NumPy and more,
and `--help` must not. A test compares them.
"""

from __future__ import annotations

import itertools
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
HOME_VARIABLE = "SIMSEARCH_HOME"
REPORT_FOLDER = "report"
_MAX_NAMES_SHOWN = 3

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
        help="The collection: a folder, or a name from `simsearch list`. Default: $SIMSEARCH_INDEX, otherwise the only "
        "collection in indexes/, otherwise the only one in your own place ($SIMSEARCH_HOME).",
    ),
]
CollectionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--in",
        metavar="DIR",
        help="A collection, as --in of other commands takes it. May be repeated.",
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

UserPlaceOption = Annotated[
    bool,
    typer.Option(
        "--user",
        help="Keep the collection in your own place for all folders, $SIMSEARCH_HOME, instead of indexes/ here.",
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

IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="GLOB",
        help="Index only files whose name, or path below the source, matches, such as '*.jpg'. Repeatable.",
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="GLOB",
        help="Leave out files whose name, folder, or path below the source matches, such as thumbs. Repeatable.",
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
        help="Ranges of the augmentation: strong, or NAME=NUMBER,... Default: "
        "rotation=30, shift=0.1, shear=0.15, zoom=0.1, channel-shift=10, flip=yes, as in Keras, where 0.15 are degrees "
        "and change nothing that can be seen. strong: shear=20, zoom=0.25, channel-shift=40.",
    ),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Random seed of the augmentation. Default: 0.", show_default=False)
]
ClusterSeedOption = Annotated[
    int, typer.Option("--seed", help="Random seed of the clustering, and of the sample of a large collection.")
]

# Output

NulOption = Annotated[
    bool,
    typer.Option("-0", help="Print paths only, each ended by a NUL character, for `xargs -0`: safe for every name."),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")]


def locate_user_place() -> Path:
    """The folder of the user's own collections: $SIMSEARCH_HOME, otherwise the place of this system for such data."""
    if home := os.environ.get(HOME_VARIABLE):
        return Path(home)
    from platformdirs import user_data_path

    return user_data_path("simsearch", appauthor=False) / COLLECTIONS_FOLDER


def list_collection_folders() -> list[Path]:
    """The collections in indexes/ of the current folder, then those in the user's own place, each by name."""
    places = dict.fromkeys((COLLECTIONS_FOLDER, locate_user_place()))
    return [found for place in places for found in _list_collections_in(place)]


def _list_collections_in(place: Path) -> list[Path]:
    return sorted(path.parent for path in place.glob("*/catalog.db"))


def find_collection(folder: str | None) -> str:
    """Return the folder of the collection to use.

    It is the given folder or the collection of that name, $SIMSEARCH_INDEX, the only collection in indexes/, or the
    only one in the user's own place. Raises `CollectionNotFound` when there is none, `UsageError` when there are
    several.
    """
    chosen = folder or os.environ.get(COLLECTION_VARIABLE)
    if chosen:
        return _find_named_collection(chosen)
    for place in (COLLECTIONS_FOLDER, locate_user_place()):
        found = _list_collections_in(place)
        if len(found) == 1:
            return str(found[0])
        if found:
            raise _make_choice_error(place, found)
    problem = f"no collection in {COLLECTIONS_FOLDER}/ and none in {locate_user_place()}"
    raise CollectionNotFound(str(COLLECTIONS_FOLDER), problem, "create one with `simsearch index SOURCE`")


def describe_collections(folders: Sequence[str]) -> str:
    """Name collections in a line of text, the first ones if there are many."""
    names = ", ".join(folders[:_MAX_NAMES_SHOWN])
    return names if len(folders) <= _MAX_NAMES_SHOWN else f"{names}, and {len(folders) - _MAX_NAMES_SHOWN:,} more"


def _find_named_collection(name: str) -> str:
    """Return a folder as it is, or that of the collection of this name."""
    if Path(name, "catalog.db").exists() or Path(name).name != name:
        return name
    places = (COLLECTIONS_FOLDER / name, locate_user_place() / name)
    return next((str(place) for place in places if (place / "catalog.db").is_file()), name)


def _make_choice_error(place: Path, found: Sequence[Path]) -> UsageError:
    names = describe_collections([path.name for path in found])
    advice = f"choose one with --in or ${COLLECTION_VARIABLE}; `simsearch list` shows all"
    return UsageError(f"{len(found):,} collections in {place}/: {names}", advice)


def choose_new_collection(into: str | None, sources: Sequence[str], *, user: bool) -> str:
    """Return the folder of the collection to index sources into: `into`, or one named after the only source.

    Raises `UsageError` where the name is not clear: for several sources, for a list on stdin, and where the collection
    of that name was made of another source.
    """
    if into is not None:
        if user and os.sep not in into:
            return str(locate_user_place() / into)
        return into
    if len(sources) > 1:
        problem = f"{len(sources)} sources, so the collection has no obvious name"
        raise UsageError(problem, "name it with --into, such as --into indexes/photos")
    folder = (locate_user_place() if user else COLLECTIONS_FOLDER) / _derive_collection_name(sources[0])
    _check_same_source(folder, sources[0])
    return str(folder)


def derive_collection_folder(source: str) -> str:
    """Return the default collection of one source in indexes/. Raises as `choose_new_collection`."""
    return choose_new_collection(None, [source], user=False)


def _derive_collection_name(source: str) -> str:
    """Derive the name of a collection from that of its source. Raises `UsageError` for a list on stdin."""
    if source == "-":
        raise UsageError("a list on stdin has no name to derive a collection from", "give the collection with --into")
    from simsearch.sources.addresses import is_remote
    from simsearch.sources.scan import derive_source_name

    if is_remote(source):
        return derive_source_name(source)
    path = Path(os.path.abspath(source))
    return path.name if path.is_dir() else path.stem or "images"


def _check_same_source(folder: Path, source: str) -> None:
    """Check that a collection with the name of a source is one of this source.

    Raises `UsageError`, or the errors of opening the collection.
    """
    if not (folder / "catalog.db").is_file():
        return
    from simsearch.collection import Collection
    from simsearch.sources.addresses import is_remote

    with Collection.open(folder) as collection:
        other = collection.find_other_source(source)
    if other is not None:
        state = "" if is_remote(other) or os.path.exists(other) else ", which is not there now"
        advice = f"--into {_find_free_folder(folder)} makes a collection of its own, --into {folder} adds to this one"
        raise UsageError(f"{folder} is the collection of {other}{state}", advice)


def _find_free_folder(folder: Path) -> Path:
    """The first of photos-2, photos-3, ... that is free."""
    names = (folder.with_name(f"{folder.name}-{number}") for number in itertools.count(2))
    return next(path for path in names if not path.exists())


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
