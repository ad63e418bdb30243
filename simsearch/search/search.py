"""A question answered: examples become one vector, and the images nearest to it hits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, UsageError
from simsearch.images.decode import Pixels
from simsearch.index import Index, Searchable
from simsearch.ingest.record import MIN_VECTOR_NORM
from simsearch.models.embedder import Embedder
from simsearch.rerank.method import RerankMethod
from simsearch.search.examples import Example, combine_vectors
from simsearch.search.query_vectors import ExampleContent, ReadLimits, resolve_example
from simsearch.search.ranking import Hit, RankingLimits
from simsearch.search.reranking import QueryOrigin, RerankerCache
from simsearch.store.catalog import Catalog, StoredModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedQuery:
    """What is asked with, of which vectors, and which answers are wanted; `k` None: all of them.

    Raises `UsageError`.
    """

    examples: Sequence[Example]
    stored: StoredModel
    method: RerankMethod
    read_limits: ReadLimits
    k: int | None = 10
    offset: int = 0
    min_similarity: float = -1.0
    exclude_self: bool = False
    where: str | None = None

    def __post_init__(self) -> None:
        if not self.examples:
            raise UsageError("there is nothing to ask", "name an image, or --id of a stored one")
        if self.k is not None and self.k <= 0:
            raise UsageError(f"k is {self.k}", "ask for one answer or more")
        if self.offset < 0:
            raise UsageError(f"the offset is {self.offset}", "it is how many answers come before: give 0 or more")
        if not -1 <= self.min_similarity <= 1:
            problem = f"the least similarity is {self.min_similarity}"
            raise UsageError(problem, "it is a cosine: give a number from -1 to 1")


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits, the milliseconds of each stage, and what a person should know."""

    hits: tuple[Hit, ...]
    milliseconds: dict[str, float]
    notes: tuple[str, ...]


class _StageTimer:
    """Milliseconds from one stage's end to the next one's."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end_stage(self, stage: str) -> None:
        now = time.perf_counter()
        self.milliseconds[stage] = 1e3 * (now - self._last)
        self._last = now


def run_query(
    question: ResolvedQuery, catalog: Catalog, rerankers: RerankerCache, *, load: Callable[[Pixels], Embedder]
) -> SearchResult:
    """Answer a question. `load` is called where a picture must be embedded, with those (n, side, side, 3).

    Raises `UsageError`, `ImageError`, `ImageNotFound`, `ModelNotIndexed` or a `ModelError`.
    """
    watch, stored, examples = _StageTimer(), question.stored, question.examples
    ready = rerankers.prepare(stored, question.method)
    part = _select_part(ready.index, question, catalog)
    seen = [resolve_example(example, catalog, stored, question.read_limits) for example in examples]
    unknown = [some.pixels for some in seen if some.pixels is not None]
    embedder = load(np.stack(unknown)) if unknown else None
    watch.end_stage("load")
    vectors = np.stack([_embed_example(*pair, embedder) for pair in zip(examples, seen, strict=True)])
    query = combine_vectors(ready.project(vectors), examples)
    watch.end_stage("embed")
    is_one = len(seen) == 1 and examples[0].weight > 0
    own = QueryOrigin(frozenset(some.digest for some in seen), seen[0].view_id if is_one else None)
    limits = RankingLimits(
        question.k, question.min_similarity, own.digests if question.exclude_self else (), question.offset
    )
    hits = ready.rank(query, own, part, limits)
    watch.end_stage("search")
    notes = (*(embedder.notes if embedder else ()), *ready.index.notes)
    if not hits and len(ready.index) and not len(part):
        notes = (*notes, f"no image with a vector of {stored.model.backbone} matches the condition")
    return SearchResult(tuple(hits), watch.milliseconds, notes)


def _select_part(index: Index, question: ResolvedQuery, catalog: Catalog) -> Searchable:
    """The part of the index that answers may come from."""
    if question.where is None:
        return index
    from simsearch.filters import compile_sql as compile_condition  # 0.02 s that only a filter needs
    from simsearch.filters import parse

    condition = parse(question.where)
    compiled = compile_condition(condition, catalog.count_columns())  # at once: what is wrong in it is to be told
    return index.select_matching(condition, lambda: catalog.find_matching_ids(question.stored.id, compiled))


def _embed_example(example: Example, seen: ExampleContent, embedder: Embedder | None) -> NDArray[np.float32]:
    if seen.vector is not None:
        return seen.vector
    assert seen.pixels is not None  # what is not stored was decoded,
    assert embedder is not None  # and then this was loaded
    vector: NDArray[np.float32] = embedder.embed(seen.pixels[None])[0]
    if not np.linalg.norm(vector) > MIN_VECTOR_NORM:
        problem = f"{embedder.model.backbone} sees nothing in it"
        raise ImageError(str(example), problem, "ask with another picture")
    return vector
