"""Everything simsearch raises on purpose, in one tree.

    SimsearchError                  exit 1: expected, one clear line
    ├── UsageError                  exit 2: the question itself is wrong (k <= 0, an unknown option value)
    ├── SourceError                 a source cannot be listed
    │   └── NoImages                  a source holds no picture
    ├── ImageError                  one picture cannot be read; at ingest it becomes a skip
    │   ├── NotAPicture               the content is none, whatever the name says
    │   └── Unreadable                the file could not be read at all: what it holds is not known
    ├── ModelError                  a model cannot be built
    │   ├── UnknownBackbone           no such row in the zoo, no such model file
    │   ├── UnknownLayer              the network has no such layer
    │   ├── WeightsMissing            looked everywhere, found none
    │   ├── WeightsMismatch           the file is not what the network wants
    │   └── MissingExtra              an optional package is not installed
    ├── ClusterError                a Ray cluster cannot be reached, or its workers cannot do their work
    └── CollectionError             something about the folder under indexes/
        ├── CollectionNotFound
        ├── CollectionBusy            another run is writing
        ├── CollectionTooNew          written by a newer simsearch
        ├── CollectionDamaged         the catalog is not a readable catalog
        ├── CollectionNotWritable     read-only place, no permission
        ├── DiskFull
        ├── StoreUnavailable          the Milvus that is searched cannot be reached, refuses, or fails
        │   └── StoreOccupied             what it holds under the collection's name is not the collection's
        ├── ModelNotIndexed           the collection holds no vectors of the model asked for
        └── ImageNotFound             no image of that id

Each message has one form: what happened, to what; what to do next. The fields are there for programs.
"""

from __future__ import annotations

from collections.abc import Sequence


class SimsearchError(Exception):
    """An expected failure.

    `problem` says what happened and to what, `advice` what to do next.
    """

    def __init__(self, problem: str, advice: str = "") -> None:
        self.problem = problem
        self.advice = advice
        super().__init__(f"{problem}; {advice}" if advice else problem)


class UsageError(SimsearchError):
    """The question itself is wrong; nothing was tried."""


class SourceError(SimsearchError):
    """A source cannot be listed."""

    def __init__(self, source: str, problem: str, advice: str) -> None:
        self.source = source
        super().__init__(problem, advice)


class NoImages(SourceError):
    """A source can be listed but holds no picture."""


class ImageError(SimsearchError):
    """One picture cannot be read."""

    def __init__(self, path: str, problem: str, advice: str) -> None:
        self.path = path
        super().__init__(problem, advice)

    @property
    def reason(self) -> str:
        """Cause and remedy without the path: what a skip records."""
        return f"{self.problem}; {self.advice}"

    def __str__(self) -> str:
        return f"cannot read {self.path}: {self.reason}"


class NotAPicture(ImageError):
    """The content is no picture, whatever the name says."""


class UnreadableFile(ImageError):
    """The file could not be read at all; what it holds is not known."""


class ModelError(SimsearchError):
    """A model cannot be built."""


class UnknownBackbone(ModelError):
    """Neither a row of the zoo nor a model file."""

    def __init__(self, name: str, nearest: Sequence[str]) -> None:
        self.name = name
        self.nearest = tuple(nearest)
        offer = f"did you mean {' or '.join(nearest)}? " if nearest else ""
        super().__init__(f"no backbone is called {name!r}", f"{offer}`simsearch backbones` lists them all")


class UnknownLayer(ModelError):
    """The network has no layer of that name, or its output cannot become a vector."""

    def __init__(self, backbone: str, layer: str, nearest: Sequence[str]) -> None:
        self.backbone = backbone
        self.layer = layer
        self.nearest = tuple(nearest)
        offer = f"nearest names: {', '.join(nearest)}" if nearest else "leave --layer out for the default"
        super().__init__(f"{backbone} has no layer {layer!r}", offer)


class WeightsMissing(ModelError):
    """No weights file was found for a backbone."""

    def __init__(self, backbone: str, *, file: str, url: str, place: str, detail: str) -> None:
        self.backbone = backbone
        self.file = file
        self.url = url
        self.place = place
        super().__init__(
            f"no weights for {backbone}: {detail}",
            f"fetch {url} and put it at {place} as {file}, or name a file with --weights",
        )


class WeightsMismatch(ModelError):
    """A weights file does not fit the network, or is not the one that was indexed with."""


class MissingExtra(ModelError):
    """An optional package is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an optional package", f"install it: pip install 'simsearch[{extra}]'")


class ClusterError(SimsearchError):
    """A Ray cluster cannot be reached, or its workers cannot do their work; what was merged before is safe."""


class CollectionError(SimsearchError):
    """Something about a collection, the folder under indexes/."""

    def __init__(self, collection: str, problem: str, advice: str) -> None:
        self.collection = collection
        super().__init__(problem, advice)


class CollectionNotFound(CollectionError):
    """The folder holds no collection."""


class CollectionBusy(CollectionError):
    """Another run is writing to the collection."""


class CollectionTooNew(CollectionError):
    """A newer simsearch wrote the collection."""


class CollectionDamaged(CollectionError):
    """The catalog is there but cannot be read as one."""


class CollectionNotWritable(CollectionError):
    """The collection's place cannot be written to."""


class DiskFull(CollectionError):
    """No space was left while writing; what was committed before is safe."""


class StoreUnavailable(CollectionError):
    """The Milvus that a collection is searched in cannot be reached, refuses, or fails; the catalog is safe."""


class StoreOccupied(StoreUnavailable):
    """What Milvus holds under the name of the collection is something else; it is left alone."""


class ModelNotIndexed(CollectionError):
    """The collection holds no vectors of the model asked for."""


class ImageNotFound(CollectionError):
    """The collection has no image of that id."""
