"""Run a query: examples become one vector, and the images nearest to it become hits."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ImageError, UsageError
from simsearch.images.decode import DecodedImage, Pixels, compute_default_max_pixels
from simsearch.index.protocol import Index, Searchable
from simsearch.models.builtin import versions
from simsearch.models.embedder import MIN_VECTOR_NORM, Embedder
from simsearch.models.text.encoder import TextDirections, TextEncoder, encode_in_prompts
from simsearch.rerank.method import RerankMethod
from simsearch.search.calibration import ProbabilityCalibration
from simsearch.search.examples import Example, combine_vectors
from simsearch.search.known_views import KnownViews
from simsearch.search.query import Query
from simsearch.search.query_vectors import (
    ExampleContent,
    ExampleDecoder,
    ReadLimits,
    decode_example,
    decode_example_square,
    fetch_example,
    resolve_example,
)
from simsearch.search.ranking import RankingLimits
from simsearch.search.reranking import FeedbackExamples, QueryOrigin, Reranker, RerankerCache
from simsearch.search.results import Answer, Hit
from simsearch.store.catalog import Catalog, StoredModel, describe_missing_images
from simsearch.store.settings import build_calibration_name
from simsearch.store.snapshot import open_snapshot

if TYPE_CHECKING:
    from simsearch.filters import Condition, Sql

PROBABILITY_DECIMALS = 3


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """The vectors that are searched: those of one stored model, ranked by one method.

    `open_embedder` opens the model to embed pictures (n, side, side, 3) that have no stored vector,
    `open_text_encoder` what encodes texts; `decode` decodes the pictures.
    """

    catalog: Catalog
    stored: StoredModel
    method: RerankMethod
    rerankers: RerankerCache
    open_embedder: Callable[[Pixels], Embedder]
    open_text_encoder: Callable[[], TextEncoder]
    decode: ExampleDecoder = decode_example_square


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
    read_limits = ReadLimits(query.max_pixels or compute_default_max_pixels(), query.weights.offline, target.decode)
    if target.method.geometric is not None:
        pictures = tuple(fetch_example(example, read_limits) for example in pictures)
    contents = [resolve_example(example, target.catalog, stored, read_limits) for example in pictures]
    compared = _decode_for_verification(query, pictures, target, read_limits)
    unknown = [content.pixels for content in contents if content.pixels is not None]
    embedder = target.open_embedder(np.stack(unknown)) if unknown else None
    timer.end_stage("load")
    directions = _encode_texts(query, text_encoder) if text_encoder else []
    vectors = [
        *(reranker.project(_embed_example(*pair, embedder)[None]) for pair in zip(pictures, contents, strict=True)),
        *(reranker.project_directions(text.rows) for text in directions),
    ]
    timer.end_stage("embed")
    is_one = len(query.examples) == len(pictures) == 1 and pictures[0].weight > 0
    origin = QueryOrigin(frozenset(content.digest for content in contents), contents[0].view_id if is_one else None)
    excluded = origin.digests if query.exclude_self else ()
    rank = _prepare_ranking(reranker, query, vectors, contents, origin)
    known = {content.view_id for content in contents if content.view_id is not None}
    if known and reranker.index.notes:  # an approximate index may miss even the views that the query was made of
        is_match = partial(_is_match, target, compiled)
        subset = KnownViews(subset, np.array(sorted(known), np.int64), reranker.index.read_vectors, is_match)
    calibration = _find_calibration(query, target, is_one=is_one)
    limits = RankingLimits(query.k, _find_least_similarity(query, calibration), excluded, query.offset)
    verified = _VerifiedRanking(compared, target, limits) if compared is not None else None
    ranked = rank(subset, limits if verified is None else verified.wider_limits)
    timer.end_stage("search")
    if verified is not None:
        ranked = verified.select(ranked, read_limits.max_pixels)
        timer.end_stage("verify")
    hits = _add_probabilities(ranked, calibration)
    notes = [*versions.list_notes(stored.model), *_list_notes(embedder, directions), *reranker.index.notes]
    notes += (*_list_target_notes(target, hits), *(verified.notes if verified else ()))
    if not hits:
        nearest = rank(subset, RankingLimits(1, excluded_digests=excluded)) if len(subset) else []
        nearest = _add_probabilities(nearest, calibration)
        notes.append(_explain_no_hits(query, target, nearest, has_vectors=len(reranker.index) > 0))
    return Answer(
        tuple(example.label for example in query.examples), stored.model.backbone, stored.fingerprint, tuple(hits),
        timer.milliseconds, tuple(notes), str(target.method), "" if calibration is None else calibration.relation,
    )  # fmt: skip


def _explain_no_hits(query: Query, target: SearchTarget, nearest: Sequence[Hit], *, has_vectors: bool) -> str:
    """Say why a query has no hits; `nearest` is the best one that no limit leaves out, if there is one."""
    if not nearest:
        if not has_vectors:
            return "the collection has no image"
        if query.exclude_self and target.catalog.count_contents()["images"] == 1:
            return "the only image of the collection is the query itself"
        if query.where is not None:
            return f"no image with a vector of {target.stored.model.backbone} matches the filter"
        return "no other image is left"
    if query.offset:
        return f"there are fewer than {query.offset + 1:,} results"
    if query.min_probability is not None and nearest[0].probability is not None:
        return _describe_nearest(nearest[0])
    similarity = nearest[0].similarity
    return f"the nearest image has the similarity {similarity:.4f}, less than the minimum {query.min_similarity:g}"


def _prepare_ranking(
    reranker: Reranker, query: Query, vectors: Sequence[NDArray[np.float32]], contents: Sequence[ExampleContent],
    origin: QueryOrigin,
) -> Callable[[Searchable, RankingLimits], list[Hit]]:  # fmt: skip
    """Combine the projected vectors of the examples to what is searched: directions, or labels for `feedback`.

    Raises `UsageError` where they cancel each other out, or the method needs other examples.
    """
    if reranker.method.feedback is None:
        return partial(reranker.rank, combine_vectors(vectors, (*query.pictures, *query.texts)), origin)
    if query.texts:
        raise UsageError("the step feedback takes pictures only", "leave out the texts, or the step")
    weights = np.array([example.weight for example in query.pictures])
    view_ids = tuple(content.view_id for content in contents)
    return partial(reranker.rank_with_feedback, FeedbackExamples(np.concatenate(vectors), weights, view_ids))


def _list_target_notes(target: SearchTarget, hits: Sequence[Hit]) -> Iterator[str]:
    """Say what the answer may lack, and where its order is not that of the similarities."""
    if n_missing := target.catalog.count_images_missing(target.stored):
        yield describe_missing_images(target.stored, n_missing)
    if any(first.similarity < second.similarity for first, second in itertools.pairwise(hits)):
        yield f"{target.method} sets the order: similarities do not fall from rank to rank"


def _encode_texts(query: Query, encoder: TextEncoder) -> list[TextDirections]:
    return [encode_in_prompts(encoder, example.text, query.prompts) for example in query.texts]


def _list_notes(embedder: Embedder | None, directions: Sequence[TextDirections]) -> Iterator[str]:
    if embedder is not None:
        yield from embedder.notes
    for text in directions:
        yield from text.notes


def _decode_for_verification(
    query: Query, pictures: Sequence[Example], target: SearchTarget, limits: ReadLimits
) -> DecodedImage | None:
    """Decode the picture of a query whose method compares pixels. Raises `UsageError` if there is not exactly one."""
    if target.method.geometric is None:
        return None
    if len(query.examples) != 1 or len(pictures) != 1 or pictures[0].weight < 0:
        problem = "only the hits of one positive example picture can be verified"
        raise UsageError(problem, "search with one picture, or leave out --verify and the step geometric")
    return decode_example(pictures[0], target.catalog, limits)


def _find_least_similarity(query: Query, calibration: ProbabilityCalibration | None) -> float:
    if calibration is None or query.min_probability is None:
        return query.min_similarity
    return max(query.min_similarity, calibration.curve.find_similarity(query.min_probability))


class _VerifiedRanking:
    """The first hits of a query in their order after verification."""

    def __init__(self, picture: DecodedImage, target: SearchTarget, limits: RankingLimits) -> None:
        self._picture, self._target, self._limits = picture, target, limits
        self._n = target.method.geometric or 0
        n_hits = None if limits.k is None else max(self._n, limits.offset + limits.k)
        self.wider_limits = replace(limits, k=n_hits, offset=0)
        self.notes: tuple[str, ...] = ()

    def select(self, hits: Sequence[Hit], max_pixels: int) -> list[Hit]:
        """Verify the first hits, and select those that the query asks for."""
        from simsearch.search.verification import verify_hits  # imports OpenCV, which only this step needs

        with open_snapshot(self._target.catalog.folder) as snapshot:
            ordered, n_unread = verify_hits(self._picture, hits, self._n, snapshot, max_pixels)
        if n_unread:
            self.notes = (f"{n_unread:,} hits could not be read or have changed, so they are not verified",)
        end = None if self._limits.k is None else self._limits.offset + self._limits.k
        return ordered[self._limits.offset : end]


def _find_calibration(query: Query, target: SearchTarget, *, is_one: bool) -> ProbabilityCalibration | None:
    """Find the calibration of the model, which holds for cosines of one example without re-ranking.

    Raises `UsageError` if the query needs a probability that cannot be computed.
    """
    is_plain = is_one and target.method.has_plain_similarities
    text = target.catalog.read_setting(build_calibration_name(target.stored.fingerprint)) if is_plain else None
    if text is None and query.min_probability is not None:
        if not is_plain:
            problem = "a probability is known for one positive example without re-ranking only"
            raise UsageError(problem, "search with one picture and --rerank none, or use --min-similarity")
        problem = f"{target.stored.model.backbone} has no calibration in this collection"
        raise UsageError(problem, f"run `simsearch calibrate --in {target.catalog.folder}` first")
    return None if text is None else ProbabilityCalibration.from_json(text)


def _add_probabilities(hits: Sequence[Hit], calibration: ProbabilityCalibration | None) -> list[Hit]:
    if calibration is None or not hits:
        return list(hits)
    probabilities = calibration.curve.compute(np.array([hit.similarity for hit in hits])).tolist()
    return [
        replace(hit, probability=round(probability, PROBABILITY_DECIMALS))
        for hit, probability in zip(hits, probabilities, strict=True)
    ]


def _describe_nearest(hit: Hit) -> str:
    return f"nothing similar: the nearest image has a probability of {hit.probability} (cosine {hit.similarity:.4f})"


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
