"""All errors that simsearch raises on purpose, in one tree.

    SimsearchError                  exit status 1: an expected failure, reported in one line
    ├── UsageError                  exit status 2: invalid arguments (k <= 0, an unknown option value); a ValueError
    │   └── UnsupportedInput          an argument of a type that is not accepted; a TypeError
    ├── SourceError                 a source cannot be listed
    │   └── NoImages                  a source holds no picture
    ├── ImageError                  one picture cannot be read; an ingest run turns it into a skip
    │   ├── NotAPicture               the content is not a picture
    │   └── UnreadableFile            the file could not be read, so its content is unknown
    ├── ModelError                  a model cannot be loaded
    │   ├── UnknownBackbone           neither a backbone of the zoo nor a model file; a ValueError
    │   ├── UnknownLayer              the network has no layer of that name; a ValueError
    │   ├── WeightsMissing            no weights file was found
    │   ├── WeightsMismatch           the weights file does not fit the network
    │   ├── UntrustedModel            a collection names a program that its user has not named
    │   └── MissingExtra              an optional package is not installed
    ├── ClusterError                a Ray cluster cannot be reached, or its workers fail
    └── CollectionError             a failure of a collection, the folder that `index` writes
        ├── CollectionNotFound
        ├── CollectionClosed          a `Collection` is used after `close`; a ValueError, as for a closed file
        ├── CollectionBusy            another run is writing
        │   └── CatalogChanged            another run changed the catalog while it was read without locks
        ├── CollectionTooNew          written by a newer simsearch
        ├── CollectionDamaged         the catalog is not a readable catalog
        ├── CollectionNotReadable     missing permission to read the catalog
        ├── CollectionNotWritable     read-only file system or missing permission
        ├── DiskFull
        ├── StorageFailed             the disk or the network share reports an error
        ├── StoreUnavailable          the Milvus server of a collection cannot be reached, rejects, or fails
        │   └── StoreOccupied             Milvus holds data of another owner under the collection's name
        ├── ModelNotIndexed           the collection has no vectors of the requested model; a KeyError
        └── ImageNotFound             no image with that id; a KeyError

Every message has one form: what failed, on which object; what to do. Programs read the fields instead. Messages name
options and commands as the command line has them (`--where`). The public classes and functions of the library translate
them: there `str(error)` names parameters and methods (`where=`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from simsearch.extras import format_install_command
from simsearch.python_terms import convert_to_python_terms


class SimsearchError(Exception):
    """An expected failure. `problem` says what failed, on which object; `advice` says what to do.

    Both name options as the command line has them. `str(error)` names parameters of Python where the error was raised
    by a public class or function of the library (see `use_python_terms`).
    """

    _has_python_terms = False

    def __init__(self, problem: str, advice: str = "") -> None:
        self.problem = problem
        self.advice = advice
        super().__init__(f"{problem}; {advice}" if advice else problem)

    @property
    def message(self) -> str:
        """Problem and advice in one line, with the options of the command line."""
        return f"{self.problem}; {self.advice}" if self.advice else self.problem

    def __str__(self) -> str:
        return convert_to_python_terms(self.message) if self._has_python_terms else self.message

    def use_python_terms(self) -> None:
        """Name parameters and methods instead of options and commands in `str(error)` from now on."""
        self._has_python_terms = True


@contextmanager
def use_python_terms() -> Iterator[None]:
    """Make errors that leave the block name parameters and methods instead of options and commands."""
    try:
        yield
    except SimsearchError as error:
        error.use_python_terms()
        raise


class UsageError(SimsearchError, ValueError):
    """The arguments are invalid; nothing was done."""


class UnsupportedInput(UsageError, TypeError):
    """An argument has a type that is not accepted; nothing was done."""


class SourceError(SimsearchError):
    """A source cannot be listed."""

    def __init__(self, source: str, problem: str, advice: str) -> None:
        self.source = source
        super().__init__(problem, advice)


class NoImages(SourceError):
    """A source holds no picture."""


class ImageError(SimsearchError):
    """One picture cannot be read."""

    def __init__(self, path: str, problem: str, advice: str) -> None:
        self.path = path
        super().__init__(problem, advice)

    @property
    def reason(self) -> str:
        """Problem and advice without the path, as a skip records them."""
        return f"{self.problem}; {self.advice}"

    @property
    def message(self) -> str:
        """The path, the problem and the advice in one line."""
        return f"cannot read {self.path}: {self.reason}"


class NotAPicture(ImageError):
    """The content of a file is not a picture, whatever its name."""


class UnreadableFile(ImageError):
    """The file could not be read, so its content is unknown."""


class ModelError(SimsearchError):
    """A model cannot be loaded."""


class UnknownBackbone(ModelError, ValueError):
    """The name is neither a backbone of the zoo nor a model file."""

    def __init__(self, name: str, nearest: Sequence[str]) -> None:
        self.name = name
        self.nearest = tuple(nearest)
        offer = f"did you mean {' or '.join(nearest)}? " if nearest else ""
        super().__init__(f"unknown backbone {name!r}", f"{offer}`simsearch backbones` lists them all")


class UnknownLayer(ModelError, ValueError):
    """The network has no layer of that name, or the output of the layer cannot be pooled to a vector."""

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
            f"download {url} and save it in {place} as {file}, or give a file with --weights",
        )


class WeightsMismatch(ModelError):
    """A weights file does not fit the network, or is not the file that the collection was indexed with."""


class UntrustedModel(ModelError):
    """A collection names a model file that is a program, and this user has not named that file on this machine."""

    def __init__(self, file: str) -> None:
        self.file = file
        super().__init__(
            f"the model file {file} is a program that you have not run on this machine",
            f"if you trust whoever made it, name it once with --backbone {shlex.quote(file)}",
        )


class MissingExtra(ModelError):
    """An optional package is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an optional package", f"install it: {format_install_command(extra)}")


class ClusterError(SimsearchError):
    """A Ray cluster cannot be reached, or its workers fail. Results that were merged before are safe."""


class CollectionError(SimsearchError):
    """A failure of a collection, the folder with its catalog and indexes."""

    def __init__(self, collection: str, problem: str, advice: str) -> None:
        self.collection = collection
        super().__init__(problem, advice)


class CollectionNotFound(CollectionError):
    """The folder holds no collection."""


class CollectionClosed(CollectionError, ValueError):
    """A `Collection` is used after it was closed."""

    def __init__(self, collection: str) -> None:
        advice = "open it again with `Collection.open`, or use it within its `with` block"
        super().__init__(collection, f"the collection {collection} is closed", advice)


class CollectionBusy(CollectionError):
    """Another run is writing to the collection."""


class CatalogChanged(CollectionBusy):
    """Another run changed the catalog while it was read without locks. Reading again gives the new state."""


class CollectionTooNew(CollectionError):
    """A newer simsearch wrote the collection."""


class CollectionDamaged(CollectionError):
    """The catalog file exists but is not a readable catalog."""


class CollectionNotReadable(CollectionError):
    """The catalog cannot be read without more permissions."""


class CollectionNotWritable(CollectionError):
    """The folder of the collection cannot be written to."""


class DiskFull(CollectionError):
    """The disk is full. Transactions that were committed before are safe."""


class StorageFailed(CollectionError):
    """The disk, or the network share, of a collection failed to read or write."""


class StoreUnavailable(CollectionError):
    """The Milvus server of a collection cannot be reached, rejects a request, or fails. The catalog is safe."""


class StoreOccupied(StoreUnavailable):
    """Milvus holds data of another owner under the name of the collection; it is not changed."""


class ModelNotIndexed(CollectionError, KeyError):
    """The collection has no vectors of the requested model."""


class ImageNotFound(CollectionError, KeyError):
    """The collection has no image with that id."""
