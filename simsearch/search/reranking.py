"""Apply a re-ranking method to a search.

Projection and database augmentation are prepared once per collection, query expansion and k-reciprocal re-ranking run
for each query. The rules are the same as in the benchmark: the projection is fitted to the original views, blending
and neighbor lists use only them; augmented views are projected, and the similarity of an image is that of its best
view.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import CollectionBusy, CollectionNotWritable, DiskFull, UsageError
from simsearch.index.exact import ExactIndex
from simsearch.index.protocol import Ids, Index, IndexBackend, Searchable, Vectors, VectorTransform
from simsearch.models.projection import Projection
from simsearch.models.text.encoder import merge_directions
from simsearch.rerank.database_augmentation import blend
from simsearch.rerank.k_reciprocal import N_CANDIDATES, KReciprocalReranker, KReciprocalSettings
from simsearch.rerank.label_spreading import build_direction, spread_labels
from simsearch.rerank.method import RerankMethod
from simsearch.rerank.neighbors import NeighborDatabase, find_nearest_others
from simsearch.rerank.patched_database import PatchedDatabase
from simsearch.rerank.query_expansion import expand
from simsearch.search.ranking import ImageCandidate, RankingLimits, number_hits, rank_candidates, rank_hits
from simsearch.search.results import Hit
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.writer import CatalogWriter

_MIN_DIRECTION = 1e-4
"""Examples whose direction is shorter than this cancel each other out: the rest is rounding."""

_VERSION = 1  # raise it when a method produces other vectors than before: cached indexes are then rebuilt


class RerankerCache:
    """The re-ranking methods of an open collection, each prepared on first use and kept for later queries."""

    def __init__(self, catalog: Catalog, cache: IndexBackend) -> None:
        self._catalog = catalog
        self._cache = cache
        self._projections: dict[tuple[int, str], _FittedProjection] = {}
        self._cached_points: _OriginalPoints | None = None

    def prepare(self, stored: StoredModel, method: RerankMethod) -> Reranker:
        """Prepare a method for a model: fit the projection and build the index if they do not exist yet.

        Raises `UsageError` if a projection has no two different pictures to be fitted to, `CollectionDamaged`.
        """
        fitted = self._prepare_projection(stored, method) if method.width is not None else None
        transform = _build_transform(stored, method, fitted)
        index = self._cache.open_index(stored.fingerprint, transform)
        points = None
        if method.k_reciprocal is not None:
            exact_index = self._cache.open_exact_index(stored.fingerprint, transform)
            points = self._prepare_points(exact_index, stored, method.k_reciprocal)
        return Reranker(method, index, None if fitted is None else fitted.projection, self._catalog, points)

    def _prepare_projection(self, stored: StoredModel, method: RerankMethod) -> _FittedProjection:
        """Load the projection from the catalog, or fit it to the original vectors and store it.

        It is fitted again when the number of vectors has doubled or halved since.
        """
        name = str(RerankMethod(pca=method.pca, whiten=method.whiten))
        key = stored.id, name  # a model that was pruned and indexed again has another id
        n_vectors = self._catalog.count_vectors(stored.id)
        n_stored, cached = self._catalog.count_fitted_vectors(stored.id, name), self._projections.get(key)
        if n_stored is not None and _is_near(n_stored, n_vectors) and (cached is None or cached.n_vectors != n_stored):
            with contextlib.suppress(ValueError):  # a damaged projection is fitted again
                cached = _FittedProjection.from_projection(
                    n_stored, Projection.from_bytes(self._catalog.read_projection(stored.id, name))
                )
        if cached is None or not _is_near(cached.n_vectors, n_vectors):
            cached = _FittedProjection.from_projection(n_vectors, self._fit_projection(stored, method))
            self._store_projection(stored, name, cached)
        self._projections[key] = cached
        return cached

    def _fit_projection(self, stored: StoredModel, method: RerankMethod) -> Projection:
        ids = self._catalog.list_original_ids(stored.id)
        blocks = (vectors for _, vectors in self._catalog.iterate_vectors(stored, ids))
        return Projection.fit(blocks, method.width or stored.width, method.whitening)

    def _store_projection(self, stored: StoredModel, name: str, fitted: _FittedProjection) -> None:
        """Store the projection in the catalog; skip it if another process writes or the folder is not writable."""
        with (
            contextlib.suppress(CollectionBusy, CollectionNotWritable, DiskFull),
            CatalogWriter.open(self._catalog.folder) as writer,
            writer.transaction(),
        ):
            if writer.find_model(stored.fingerprint) is not None:
                writer.write_projection(stored.id, name, fitted.n_vectors, fitted.projection.to_bytes())

    def _prepare_points(self, index: ExactIndex, stored: StoredModel, k1: int) -> _OriginalPoints:
        points = self._cached_points
        if points is None or points.index is not index or points.settings.k1 != k1:
            points = _build_points(index, self._catalog.list_original_ids(stored.id), k1)
        self._cached_points = points
        return points


@dataclass(frozen=True, slots=True, eq=False)
class _FittedProjection:
    """A projection, its digest, and the number of vectors at the time of fitting."""

    n_vectors: int
    projection: Projection
    digest: str

    @classmethod
    def from_projection(cls, n_vectors: int, projection: Projection) -> _FittedProjection:
        return cls(n_vectors, projection, projection.digest)


@dataclass(frozen=True, slots=True)
class QueryOrigin:
    """The origin of a query vector: the digests of its pictures, and its view if it is one stored picture."""

    digests: Collection[str] = ()
    view_id: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FeedbackExamples:
    """Examples for and against: projected unit vectors (e, width), weights (e,), and original views where stored (e,).

    Weights are negative for examples against; a view id is None for a picture that is not in the collection.
    """

    vectors: Vectors
    weights: NDArray[np.float64]
    view_ids: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if not ((self.weights > 0).any() and (self.weights < 0).any()):
            problem = "the step feedback needs examples for and against"
            raise UsageError(problem, "give pictures to resemble and --unlike ones, or leave out the step")


@dataclass(frozen=True, slots=True, eq=False)
class Reranker:
    """A prepared method: the index to search, and the steps applied to queries and candidates."""

    method: RerankMethod
    index: Index
    projection: Projection | None
    catalog: Catalog
    points: _OriginalPoints | None

    def project(self, vectors: Vectors) -> Vectors:
        """Project vectors of the model (m, d) to the space of the index (m, width)."""
        return vectors if self.projection is None else self.projection.apply(vectors)

    def project_directions(self, directions: Vectors) -> Vectors:
        """Project directions of texts (m, d) to the space of the index (m, width)."""
        return directions if self.projection is None else self.projection.apply_to_directions(directions)

    def rank(self, queries: Vectors, origin: QueryOrigin, subset: Searchable, limits: RankingLimits) -> list[Hit]:
        """Rank the images of a subset of the index by the nearest of projected unit vectors (m, width).

        Query expansion and k-reciprocal re-ranking use their mean. The query is expanded with its nearest images of the
        whole index, except itself. k-reciprocal re-ranking sorts
        the first `N_CANDIDATES` candidates of the subset; the others follow in their order.
        """
        if self.method.aqe is not None:
            queries = self._expand_query(queries, self.method.aqe, origin)[None]
        if self.points is None:
            return rank_hits(queries, subset, self.catalog, limits)
        candidate_limits = limits
        if limits.k is not None:
            candidate_limits = replace(limits, k=max(limits.k, N_CANDIDATES - limits.offset))
        found = rank_candidates(queries, subset, self.catalog, candidate_limits)
        query = merge_directions(queries, 1)[0]
        head, tail = found[:N_CANDIDATES], found[N_CANDIDATES:]
        return number_hits([*self._reorder(self.points, query, origin, head), *tail], limits)

    def rank_with_feedback(self, examples: FeedbackExamples, subset: Searchable, limits: RankingLimits) -> list[Hit]:
        """Rank by the direction of examples for and against, and reorder the first results by spreading their labels.

        Similarities are those to the direction; the first results are not in their order.
        """
        n = self.method.feedback or 0
        direction = build_direction(examples.vectors, examples.weights)
        length = float(np.linalg.norm(direction))
        if length < _MIN_DIRECTION:
            raise UsageError("the examples for and against cancel each other out", "use other examples")
        wider = limits if limits.k is None else replace(limits, k=max(limits.k, n - limits.offset))
        found = rank_candidates((direction / length).astype(np.float32), subset, self.catalog, wider)
        head, tail = found[:n], found[n:]
        return number_hits([*self._spread(examples, direction / length, head), *tail], limits)

    def _spread(
        self, examples: FeedbackExamples, direction: NDArray[np.float64], found: list[ImageCandidate]
    ) -> list[ImageCandidate]:
        if not found:
            return found
        ids = self._find_original_ids(found)
        row_of = {view_id: row for row, view_id in enumerate(examples.view_ids) if view_id is not None}
        others = np.array([view_id for view_id in ids.tolist() if view_id not in row_of], np.int64)
        row_of |= {view_id: len(examples.vectors) + at for at, view_id in enumerate(others.tolist())}
        rows = np.vstack([examples.vectors, self.index.read_vectors(others)])
        weights = np.concatenate([examples.weights, np.zeros(len(others))])
        scores = spread_labels(rows, weights, rows @ direction)[[row_of[view_id] for view_id in ids.tolist()]]
        return [found[at] for at in np.argsort(-scores, kind="stable")]

    def _expand_query(self, queries: Vectors, n: int, origin: QueryOrigin) -> Vectors:
        query: Vectors = merge_directions(queries, 1)[0]
        near = rank_candidates(queries, self.index, self.catalog, RankingLimits(n, excluded_digests=origin.digests))
        if not near:
            return query
        rows = self.index.read_vectors(self._find_original_ids(near))
        return expand(query, rows, np.array([found.similarity for found in near], np.float32))

    def _reorder(
        self, points: _OriginalPoints, query: Vectors, origin: QueryOrigin, found: list[ImageCandidate]
    ) -> list[ImageCandidate]:
        candidates = points.find_positions(self._find_original_ids(found))
        similarities = np.array([one.similarity for one in found], np.float32)
        query_position, reranker = len(points.database), points.shared
        if origin.view_id is not None and origin.view_id in points.ids:
            query_position = int(points.find_positions(np.array([origin.view_id]))[0])
        if query_position == len(points.database) or self.method.aqe is not None or self.method.dba is not None:
            patched = PatchedDatabase(points.database, np.array([query_position]), query[None])
            reranker = KReciprocalReranker(patched, points.settings)
        return [found[at] for at in reranker.reorder(query_position, candidates, similarities).order]

    def _find_original_ids(self, found: list[ImageCandidate]) -> Ids:
        views = self.catalog.find_original_views([one.view.image_id for one in found])
        return np.array([views[one.view.image_id] for one in found], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _OriginalPoints:
    """The original views of an index with their neighbors: `ids` (n,) are rising, `order` (n,) are their positions."""

    index: ExactIndex
    database: NeighborDatabase
    ids: Ids
    order: NDArray[np.intp]
    settings: KReciprocalSettings
    shared: KReciprocalReranker

    def find_positions(self, ids: Ids) -> NDArray[np.int64]:
        """Find the positions (m,) of view ids (m,)."""
        return self.order[np.searchsorted(self.ids, ids)].astype(np.int64)


def _build_points(index: ExactIndex, original_ids: Ids, k1: int) -> _OriginalPoints:
    depth = k1 + 1  # one more than needed, because a patched row may drop out of a list
    ids = index.ids
    if (is_original := np.isin(ids, original_ids, assume_unique=True)).all():
        database = NeighborDatabase(index, index.rows, depth)
    else:
        ids = ids[is_original]
        database = NeighborDatabase.from_vectors(index.rows[is_original], depth)
    order = np.argsort(ids, kind="stable")
    settings = KReciprocalSettings(k1=k1)
    return _OriginalPoints(index, database, ids[order], order, settings, KReciprocalReranker(database, settings))


def _build_transform(
    stored: StoredModel, method: RerankMethod, fitted: _FittedProjection | None
) -> VectorTransform | None:
    """Build the transform of stored vectors before any query; None if the method searches them unchanged."""
    if fitted is None and method.dba is None:
        return None
    name = str(RerankMethod(pca=method.pca, whiten=method.whiten, dba=method.dba))
    digest = f"{_VERSION}" if fitted is None else f"{_VERSION} {fitted.digest}"
    width = stored.width if fitted is None else fitted.projection.width
    n_blended = method.dba

    def project(vectors: Vectors) -> Vectors:
        return vectors if fitted is None else fitted.projection.apply(vectors)

    def blend_rows(rows: Vectors) -> Vectors:
        assert n_blended is not None  # only called if the method has dba
        return blend(rows, find_nearest_others(rows, n_blended), n_blended)

    return VectorTransform(name, digest, width, project, None if n_blended is None else blend_rows)


def _is_near(n_then: int, n_now: int) -> bool:
    """Whether a count has neither doubled nor halved."""
    return n_then < 2 * n_now and n_now < 2 * n_then
