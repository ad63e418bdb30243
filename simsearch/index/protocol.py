"""The interfaces of this package: an index to search, and a backend with the indexes of a collection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from simsearch.filters import Condition
    from simsearch.index.exact import ExactIndex
    from simsearch.store.catalog import StoredModel

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

VectorReader = Callable[[Ids], Vectors]
"""Reads the vectors (m, d) of ids (m,), all of which exist, in their order."""


class Searchable(Protocol):
    """Unit vectors with ids that can be searched: an index, or the subset of one that meets a filter."""

    def __len__(self) -> int: ...

    def search(self, queries: Vectors, n: int) -> tuple[Vectors, Ids]:
        """Find the n nearest vectors of each query: similarities and ids, (q, min(n, len)) each, most similar first.

        Queries (q, d) are unit rows. Similarities are clipped to [-1, 1]; rounding may exceed that range by 1e-7.
        """
        ...

    def range_search(self, query: Vectors, min_similarity: float) -> tuple[Vectors, Ids]:
        """Find all vectors more similar to a query (d,) than `min_similarity`: similarities and ids, in no order."""
        ...


class Index(Searchable, Protocol):
    """All vectors of a model, perhaps transformed, in the current state of the catalog."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user about the search results, such as that they are approximate; empty where exact."""
        ...

    def select_matching(self, condition: Condition, find_ids: Callable[[], Ids]) -> Searchable:
        """Select the vectors that meet a condition; `find_ids` finds their ids, for an index that has no metadata."""
        ...

    def read_vectors(self, ids: Ids) -> Vectors:
        """Read the vectors (m, d) of ids (m,), all of which are in the index."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VectorTransform:
    """A transformation of a model's vectors before they are indexed, such as a PCA projection.

    `name` is part of the file name and `digest` of the stamp: equal digests mean equal vectors. `transform_rows` maps
    vectors (n, d) to rows (n, width), each row on its own, so that new vectors can be added to the index.
    `transform_originals`, if given, then maps the rows of all original views at once, in the order of their ids, to
    rows of the same shape; such an index is exact and is rebuilt after every change of the vectors.
    """

    name: str
    digest: str
    width: int
    transform_rows: Callable[[Vectors], Vectors]
    transform_originals: Callable[[Vectors], Vectors] | None = None

    @property
    def label(self) -> str:
        """The name of the transformed vectors in a stamp."""
        return f"{self.name} {self.digest}"


class IndexInfo(Protocol):
    """Facts about the index of a model, for `simsearch info`."""

    @property
    def kind(self) -> str:
        """The kind of index: a key of `index.kinds.KINDS`, or `milvus`."""
        ...

    @property
    def summary(self) -> str:
        """The facts in one line of text."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Convert to the JSON object of `simsearch info --json`."""
        ...


class IndexBackend(Protocol):
    """The indexes of a collection's models. A context manager: `close` releases what is open."""

    def open_index(self, fingerprint: str, transform: VectorTransform | None = None) -> Index:
        """Open the index of a model's vectors, or of the transformed vectors, brought up to date."""
        ...

    def open_exact_index(self, fingerprint: str, transform: VectorTransform | None = None) -> ExactIndex:
        """Open an index that holds all vectors of a model unquantized, in memory or memory-mapped."""
        ...

    def refresh(self, fingerprint: str, *, must_save: bool = False) -> None:
        """Bring the index of a model up to date after writing to the catalog.

        Where a file cannot be written, a later search writes it; with `must_save`, `CollectionNotWritable` is raised.
        """
        ...

    def discard(self, fingerprint: str | None = None) -> None:
        """Delete the indexes of a model, or of all models."""
        ...

    def discard_stale(self) -> None:
        """Delete indexes of transformed vectors that are not up to date."""
        ...

    def find_problems(self, stored: StoredModel) -> list[str]:
        """Find what the next query repairs, or the user should know; one line for each problem."""
        ...

    def find_damage(self, stored: StoredModel) -> list[str]:
        """Find damage that may have given wrong results; one line for each file."""
        ...

    def describe(self, stored: StoredModel) -> IndexInfo:
        """Collect facts about the index of a model."""
        ...

    def describe_location(self, fingerprint: str) -> str:
        """Where the index of a model is, as text for the user."""
        ...

    def close(self) -> None:
        """Release open files and connections."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
