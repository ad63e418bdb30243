"""The kinds of index there are, and which one `auto` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from simsearch.errors import UsageError

IndexFamily = Literal["flat", "ivf", "hnsw"]

MIN_TRAINED_VECTORS = 1_000
"""Below so many vectors every kind is `flat`: there is nothing to train on, and nothing to gain."""

EXACT_LIMIT_BYTES = 256 << 20
"""Up to so many bytes of float32 vectors `auto` stays exact: a query scans them in about 35 ms (7.5 GB/s)."""

_EXACT_MEMORY_DIVISOR = 8
"""And up to an eighth of the memory."""

_SQ8_MEMORY_DIVISOR = 4
"""A byte a number may take up to a fourth of the memory; beyond that it is two bits."""

DEFAULT_RECALL = 0.99
"""The recall@10 that a coded index is tuned to."""

FETCH_NS = 10_000.0
"""What it costs to fetch a candidate's vector from the catalog."""

_UNKNOWN_MEMORY = 4 << 30
_TARGET_LIST_LENGTH = 500
_MAX_LISTS = 1 << 16
_MIN_LISTS_FOR_HNSW = 1 << 13
"""From so many lists on, those to look into are found by a graph over their centres instead of a scan."""

POINTS_PER_LIST = 40


@dataclass(frozen=True, slots=True)
class IndexKind:
    """One kind of index: how vectors are found, and what is kept of them in memory.

    `ivf` looks into the lists whose centres are nearest to the query (Jegou et al., "Product quantization for nearest
    neighbor search", 2011), `hnsw` walks a graph of neighbours (Malkov and Yashunin, 2018), `flat` scans all.
    """

    name: str
    family: IndexFamily
    faiss_codes: str
    description: str
    scan_ns: float
    """What a number of a scanned vector costs; measured here, and only its proportion to `FETCH_NS` matters."""

    @property
    def is_approximate(self) -> bool:
        """Whether its answers may be other than those of a scan of the vectors as they are."""
        return self.name != "flat"

    @property
    def has_full_vectors(self) -> bool:
        """Whether its codes are the vectors as they are."""
        return self.faiss_codes in ("Flat", "HNSW24")

    def to_factory_string(self, n: int, width: int) -> str:
        """What FAISS's index factory makes it from, for n vectors of a width."""
        codes = self.faiss_codes.format(parts=_choose_n_subquantizers(width))
        if self.family == "ivf":
            lists = choose_n_lists(n)
            return f"IVF{lists}{'_HNSW32' if lists >= _MIN_LISTS_FOR_HNSW else ''},{codes}"
        return f"IDMap,{codes}"


# RaBitQ: Gao and Long, "RaBitQ: quantizing high-dimensional vectors with a theoretical error bound", 2024; two bits.
KINDS = {
    kind.name: kind
    for kind in (
        IndexKind("flat", "flat", "Flat", "every vector as it is: exact", 0.15),
        IndexKind("flat-fp16", "flat", "SQfp16", "two bytes a number, all scanned", 0.12),
        IndexKind("flat-sq8", "flat", "SQ8", "a byte a number, all scanned", 0.1),
        IndexKind("ivf", "ivf", "Flat", "vectors as they are, in lists", 0.15),
        IndexKind("ivf-sq8", "ivf", "SQ8", "a byte a number, in lists", 0.1),
        IndexKind("ivf-pq", "ivf", "PQ{parts}x4fs", "half a byte for two numbers, in lists", 0.03),
        IndexKind("ivf-rabitq", "ivf", "RaBitQ2", "two bits a number, in lists", 0.05),
        IndexKind("hnsw", "hnsw", "HNSW24", "vectors as they are, in a graph of neighbours", 6.0),
        IndexKind("hnsw-sq8", "hnsw", "HNSW24_SQ8", "a byte a number, in a graph of neighbours", 5.0),
    )
}

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class IndexKindChoice:
    """What is asked of a collection's indexes: a kind or `auto`, and the least recall@10, (0, 1].

    Raises `UsageError`.
    """

    name: str = AUTO
    recall: float = DEFAULT_RECALL

    def __post_init__(self) -> None:
        if self.name != AUTO and self.name not in KINDS:
            raise UsageError(f"there is no index kind {self.name!r}", f"choose {AUTO}, {', '.join(KINDS)}")
        if not 0 < self.recall <= 1:
            raise UsageError(f"the wanted recall is {self.recall:g}", "give a share above 0 and up to 1, such as 0.99")

    @classmethod
    def from_options(cls, name: str | None, recall: float | None) -> Self | None:
        """What was asked for, None where nothing was. Raises `UsageError`."""
        if name is None and recall is None:
            return None
        return cls(name or AUTO, DEFAULT_RECALL if recall is None else recall)

    def list_notes(self, n: int) -> tuple[str, ...]:
        """What a person should know who asks for it over n vectors."""
        if n >= MIN_TRAINED_VECTORS or self.name in (AUTO, "flat"):
            return ()
        return (f"{self.name} begins at {MIN_TRAINED_VECTORS:,} vectors; with {n:,} the index is exact",)

    def select_kind(self, n: int, width: int, memory_bytes: int) -> IndexKind:
        """The kind for n vectors of a width, on a machine of so much memory (0: not known)."""
        if n < MIN_TRAINED_VECTORS:
            return KINDS["flat"]
        if self.name != AUTO:
            return KINDS[self.name]
        memory_bytes = memory_bytes or _UNKNOWN_MEMORY
        if self.recall == 1 or 4 * n * width <= min(EXACT_LIMIT_BYTES, memory_bytes // _EXACT_MEMORY_DIVISOR):
            return KINDS["flat"]
        return KINDS["ivf-sq8" if n * width <= memory_bytes // _SQ8_MEMORY_DIVISOR else "ivf-rabitq"]


def choose_n_lists(n: int) -> int:
    """Into how many lists n vectors go: a power of two near n / 500, as far as there are points to train them."""
    wanted = min(n // POINTS_PER_LIST, max(32, n // _TARGET_LIST_LENGTH), _MAX_LISTS)
    return 1 << max(0, wanted.bit_length() - 1) if wanted else 1


def _choose_n_subquantizers(width: int) -> int:
    """How many codes a product quantizer makes of a vector: at most one for every two numbers."""
    return next(parts for parts in range(max(1, width // 2), 0, -1) if width % parts == 0)
