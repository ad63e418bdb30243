"""Run a query: examples become one vector, and the images nearest to it become hits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError
from simsearch.images.decode import Pixels, compute_default_max_pixels
from simsearch.index.protocol import Index, Searchable
from simsearch.models.embedder import MIN_VECTOR_NORM, Embedder
from simsearch.models.text.encoder import TextDirections, TextEncoder, encode_in_prompts
from simsearch.rerank.method import RerankMethod
from simsearch.search.examples import Example, combine_vectors
from simsearch.search.known_views import KnownViews
from simsearch.search.query import Query
from simsearch.search.query_vectors import ExampleContent, ReadLimits, resolve_example
from simsearch.search.ranking import RankingLimits
from simsearch.search.reranking import QueryOrigin, RerankerCache
from simsearch.search.results import Answer
from simsearch.store.catalog import Catalog, StoredModel

if TYPE_CHECKING:
    from simsearch.filters import Condition, Sql


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """The vectors that are searched: those of one stored model, ranked by one method.

    `open_embedder` opens the model to embed pictures (n, side, side, 3) that have no stored vector,
    `open_text_encoder` what encodes texts.
    """

    catalog: Catalog
    stored: StoredModel
    method: RerankMethod
    rerankers: RerankerCache
    open_embedder: Callable[[Pixels], Embedder]
    open_text_encoder: Callable[[], TextEncoder]


class _StageTimer:
    """Milliseconds of each stage, from the end of the stage before it."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end_stage(self, stage: str) -> None:
        now = time.perf_counter()
        self.milliseconds[stage] = 1e3 * (now - self._last)
        self._last = now


def run_query(query: Query, target: SearchTarget) -> Answer:
    """Search the vectors of a model for the images most similar to the examples of a query.

    Raises `UsageError`, `ImageError`, `ImageNotFound`, `ModelNotIndexed` or a `ModelError`.
    """
    timer, stored, pictures = _StageTimer(), target.stored, query.pictures
    text_encoder = target.open_text_encoder() if query.texts else None
    reranker = target.rerankers.prepare(stored, target.method)
    compiled = _compile_filter(query, target)
    subset = _select_subset(reranker.index, target, compiled)
    read_limits = ReadLimits(query.max_pixels or compute_default_max_pixels(), query.weights.offline)
    contents = [resolve_example(example, target.catalog, stored, read_limits) for example in pictures]
    unknown = [content.pixels for content in contents if content.pixels is not None]
    embedder = target.open_embedder(np.stack(unknown)) if unknown else None
    timer.end_stage("load")
    directions = (
        [encode_in_prompts(text_encoder, example.text, query.prompts) for example in query.texts]
        if text_encoder
        else []
    )
    vectors = [
        *(reranker.project(_embed_example(*pair, embedder)[None]) for pair in zip(pictures, contents, strict=True)),
        *(reranker.project_directions(text.rows) for text in directions),
    ]
    query_vectors = combine_vectors(vectors, (*pictures, *query.texts))
    timer.end_stage("embed")
    is_one = len(query.examples) == len(pictures) == 1 and pictures[0].weight > 0
    origin = QueryOrigin(frozenset(content.digest for content in contents), contents[0].view_id if is_one else None)
    excluded = origin.digests if query.exclude_self else ()
    if reranker.index.notes:  # an approximate index may miss even the views that the query was made of
        known = np.unique([content.view_id for content in contents if content.view_id is not None]).astype(np.int64)
        subset = KnownViews(subset, known, reranker.index.read_vectors, partial(_is_match, target, compiled))
    limits = RankingLimits(query.k, query.min_similarity, excluded, query.offset)
    hits = reranker.rank(query_vectors, origin, subset, limits)
    timer.end_stage("search")
    notes = [*_list_notes(embedder, directions), *reranker.index.notes]
    if not hits and len(reranker.index) and not len(subset):
        notes.append(f"no image with a vector of {stored.model.backbone} matches the filter")
    return Answer(
        tuple(example.label for example in query.examples), stored.model.backbone, stored.fingerprint, tuple(hits),
        timer.milliseconds, tuple(notes), str(target.method),
    )  # fmt: skip


def _encode_texts(query: Query, encoder: TextEncoder) -> list[TextDirections]:
    return [encode_in_prompts(encoder, example.text, query.prompts) for example in query.texts]


def _list_notes(embedder: Embedder | None, directions: Sequence[TextDirections]) -> Iterator[str]:
    if embedder is not None:
        yield from embedder.notes
    for text in directions:
        yield from text.notes


def _compile_filter(query: Query, target: SearchTarget) -> tuple[Condition, Sql] | None:
    """Compile the filter of a query, so that its errors are raised before any work; None where it has none."""
    if query.where is None:
        return None
    from simsearch.filters import compile_sql, parse  # takes 0.02 s, and only a filter needs it

    condition = parse(query.where)
    return condition, compile_sql(condition, target.catalog.count_columns())


def _select_subset(index: Index, target: SearchTarget, compiled: tuple[Condition, Sql] | None) -> Searchable:
    """The part of the index that matches a filter."""
    if compiled is None:
        return index
    condition, sql = compiled
    return index.select_matching(condition, lambda: target.catalog.find_matching_ids(target.stored.id, sql))


def _is_match(target: SearchTarget, compiled: tuple[Condition, Sql] | None, view_id: int) -> bool:
    """Whether a view with a vector of the model matches a filter."""
    return compiled is None or target.catalog.is_match(target.stored.id, view_id, compiled[1])


def _embed_example(example: Example, content: ExampleContent, embedder: Embedder | None) -> NDArray[np.float32]:
    if content.vector is not None:
        return content.vector
    assert content.pixels is not None  # an example without a stored vector was decoded
    assert embedder is not None  # and the model was opened for it
    vector: NDArray[np.float32] = embedder.embed(content.pixels[None])[0]
    if not np.linalg.norm(vector) > MIN_VECTOR_NORM:
        problem = f"{embedder.model.backbone} returned an all-zero feature vector for this image"
        raise ImageError(str(example), problem, "use another picture")
    return vector
