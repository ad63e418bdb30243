"""The kinds of index, the rule of `auto`, and the choice that a collection keeps."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, Self

from simsearch.errors import UsageError
from simsearch.store import settings

if TYPE_CHECKING:
    from simsearch.store.catalog import Catalog
    from simsearch.store.writer import CatalogWriter

IndexFamily = Literal["flat", "ivf", "hnsw"]

MIN_TRAINED_VECTORS = 1_000
"""With fewer vectors every index is `flat`: there is too little to train on, and nothing to gain."""

EXACT_LIMIT_BYTES = 256 << 20
"""Up to this size of the float32 vectors `auto` chooses an exact index: a query scans it in about 35 ms (7.5 GB/s)."""

_EXACT_MEMORY_DIVISOR = 8
"""`auto` chooses an exact index only up to an eighth of the memory."""

_SQ8_MEMORY_DIVISOR = 4
"""`auto` uses one byte per dimension up to a fourth of the memory, and two bits beyond that."""

DEFAULT_RECALL = 0.99
"""The recall@10 that an approximate index is tuned to."""

FETCH_NS = 1_500.0
"""The cost of reading the vector of a candidate from the vector file."""

_UNKNOWN_MEMORY = 4 << 30
_LISTS_PER_ROOT = 4
"""The number of inverted lists per square root of the number of vectors."""

_MIN_LIST_LENGTH = 40
_MAX_LISTS = 1 << 16
_MIN_LISTS_FOR_HNSW = 1 << 11
"""From this number of lists on, the lists to search are found by an HNSW graph of their centers instead of a scan. Of
4,096 centers of 256 d the graph takes 0.023 ms and a scan 0.075 ms, which is as long as seven lists of a million
vectors take; the recall is the same to 0.0005."""


@dataclass(frozen=True, slots=True)
class IndexKind:
    """One kind of index: how vectors are found, and how they are coded in memory.

    `ivf` searches the inverted lists whose centers are nearest to the query (Jegou et al., "Product quantization for
    nearest neighbor search", 2011), `hnsw` searches a graph of neighbors (Malkov and Yashunin, 2018), `flat` scans all.
    """

    name: str
    family: IndexFamily
    faiss_codes: str
    description: str
    scan_ns: float
    """The cost per dimension of a scanned vector, measured; only its ratio to `FETCH_NS` matters."""

    @property
    def is_approximate(self) -> bool:
        """Whether its results may differ from those of an exact scan."""
        return self.name != "flat"

    @property
    def has_precise_codes(self) -> bool:
        """Whether its codes rank as the vectors do: they are the vectors, in 32 or 16 bits a dimension."""
        return self.faiss_codes in _PRECISE_CODES

    def to_factory_string(self, n: int, width: int) -> str:
        """Build the string for FAISS's index factory, for n vectors of this width."""
        codes = self.faiss_codes.format(parts=_choose_n_subquantizers(width))
        if self.family == "ivf":
            lists = choose_n_lists(n)
            return f"IVF{lists}{'_HNSW32' if lists >= _MIN_LISTS_FOR_HNSW else ''},{codes}"
        return f"IDMap,{codes}"


_PRECISE_CODES = ("Flat", "HNSW16", "HNSW16_SQfp16")

# RaBitQ: Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound", 2024; two bits.
KINDS = {
    kind.name: kind
    for kind in (
        IndexKind("flat", "flat", "Flat", "full vectors, all scanned: exact", 0.15),
        IndexKind("flat-fp16", "flat", "SQfp16", "two bytes per dimension, all scanned", 0.12),
        IndexKind("flat-sq8", "flat", "SQ8", "one byte per dimension, all scanned", 0.1),
        IndexKind("ivf", "ivf", "Flat", "full vectors, in lists", 0.15),
        IndexKind("ivf-sq8", "ivf", "SQ8", "one byte per dimension, in lists", 0.1),
        IndexKind("ivf-pq", "ivf", "PQ{parts}x4fs", "half a byte for two dimensions, in lists", 0.03),
        IndexKind("ivf-rabitq", "ivf", "RaBitQ2", "two bits per dimension, in lists", 0.05),
        IndexKind("hnsw", "hnsw", "HNSW16", "full vectors, in a graph of neighbors", 6.0),
        IndexKind("hnsw-fp16", "hnsw", "HNSW16_SQfp16", "two bytes per dimension, in a graph of neighbors", 5.0),
        IndexKind("hnsw-sq8", "hnsw", "HNSW16_SQ8", "one byte per dimension, in a graph of neighbors", 5.0),
    )
}

AUTO = "auto"

AUTO_CANDIDATES = ("hnsw-sq8", "ivf-sq8")
"""The kinds of a byte a dimension, among which `auto` chooses by measured time."""


@dataclass(frozen=True, slots=True)
class IndexKindChoice:
    """The wanted kind of a collection's indexes, or `auto`, and the wanted recall@10 in (0, 1].

    Raises `UsageError`.
    """

    name: str = AUTO
    recall: float = DEFAULT_RECALL

    def __post_init__(self) -> None:
        if self.name != AUTO and self.name not in KINDS:
            raise UsageError(f"unknown index kind {self.name!r}", f"choose {AUTO}, {', '.join(KINDS)}")
        if not 0 < self.recall <= 1:
            raise UsageError(
                f"the recall {self.recall:g} is out of range", "choose a value above 0 and up to 1, such as 0.99"
            )

    @classmethod
    def from_options(cls, name: str | None, recall: float | None) -> Self | None:
        """Build the choice from command-line options; None where neither is given. Raises `UsageError`."""
        if name is None and recall is None:
            return None
        return cls(name or AUTO, DEFAULT_RECALL if recall is None else recall)

    def list_notes(self, n: int) -> tuple[str, ...]:
        """Notes for the user about this choice for n vectors."""
        if n >= MIN_TRAINED_VECTORS or self.name in (AUTO, "flat"):
            return ()
        return (f"{self.name} needs at least {MIN_TRAINED_VECTORS:,} vectors; with {n:,} the index is exact",)

    def select_kind(self, n: int, width: int, memory_bytes: int) -> IndexKind:
        """Select the kind for n vectors of this width, on a machine with this much memory (0: unknown)."""
        if n < MIN_TRAINED_VECTORS:
            return KINDS["flat"]
        if self.name != AUTO:
            return KINDS[self.name]
        memory_bytes = memory_bytes or _UNKNOWN_MEMORY
        if self.recall == 1 or 4 * n * width <= min(EXACT_LIMIT_BYTES, memory_bytes // _EXACT_MEMORY_DIVISOR):
            return KINDS["flat"]
        return KINDS["ivf-sq8" if n * width <= memory_bytes // _SQ8_MEMORY_DIVISOR else "ivf-rabitq"]


def read_kind_choice(catalog: Catalog) -> IndexKindChoice:
    """Read which kind of index the collection is set to use."""
    text = catalog.read_setting(settings.INDEX_KIND)
    return IndexKindChoice() if text is None else IndexKindChoice(**json.loads(text))


def write_kind_choice(writer: CatalogWriter, choice: IndexKindChoice) -> bool:
    """Set which kind of index the collection uses; return whether it changed: then existing indexes are outdated."""
    if choice == read_kind_choice(writer):
        return False
    with writer.transaction():
        writer.write_setting(settings.INDEX_KIND, None if choice == IndexKindChoice() else json.dumps(asdict(choice)))
    return True


def choose_n_lists(n: int) -> int:
    """Choose the number of inverted lists: the power of two nearest to 4 √n, with at least 40 of n vectors in each."""
    longest = n // _MIN_LIST_LENGTH
    if not longest:
        return 1
    nearest = 1 << round(math.log2(_LISTS_PER_ROOT * math.sqrt(n)))
    return min(nearest, 1 << (longest.bit_length() - 1), _MAX_LISTS)


def _choose_n_subquantizers(width: int) -> int:
    """Choose the number of codes of a product quantizer: a divisor of the width, at most half of it."""
    return next(parts for parts in range(max(1, width // 2), 0, -1) if width % parts == 0)
