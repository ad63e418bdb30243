"""Answers under a method: projections and blended rows prepared once, expansion and re-ranking for each query.

The rules are those that the benchmark measures by: projection, blending and neighbours are of the original views;
augmented ones are projected, and an image is as similar as its best view.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import CollectionBusy, CollectionNotWritable, DiskFull
from simsearch.index import ExactIndex, Ids, Index, Searchable, Vectors
from simsearch.index.cache import IndexBackend, VectorTransform
from simsearch.rerank.database_augmentation import blend
from simsearch.rerank.k_reciprocal import KReciprocalReranker, KReciprocalSettings
from simsearch.rerank.method import RerankMethod
from simsearch.rerank.neighbors import NeighborDatabase, find_nearest_others
from simsearch.rerank.patched_database import PatchedDatabase
from simsearch.rerank.projection import Projection
from simsearch.rerank.query_expansion import expand
from simsearch.search.ranking import ImageCandidate, RankingLimits, number_hits, rank_candidates, rank_hits
from simsearch.search.results import Hit
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.writer import CatalogWriter

_VERSION = 1  # raise it when the same method makes other vectors of the same ones: cached indexes are then made anew

_N_CANDIDATES = 100
"""How many first answers k-reciprocal re-ranking puts in order."""


class RerankerCache:
    """The methods of an open collection, each made ready when it is first asked for and kept for the next query."""

    def __init__(self, catalog: Catalog, cache: IndexBackend) -> None:
        self._catalog = catalog
        self._cache = cache
        self._projections: dict[tuple[str, str], _FittedProjection] = {}
        self._cached_points: _OriginalPoints | None = None

    def prepare(self, stored: StoredModel, method: RerankMethod) -> Reranker:
        """What answers under a method. A projection is fitted, and an index made, where there is none yet.

        Raises `UsageError` when there are no two different pictures to fit a projection to, `CollectionDamaged`.
        """
        fitted = self._prepare_projection(stored, method) if method.width is not None else None
        derivation = _build_derivation(stored, method, fitted)
        index = self._cache.open_index(stored.fingerprint, derivation)
        points = None
        if method.k_reciprocal is not None:
            whole = self._cache.open_exact_index(stored.fingerprint, derivation)
            points = self._prepare_points(whole, stored, method.k_reciprocal)
        return Reranker(method, index, None if fitted is None else fitted.projection, self._catalog, points)

    def _prepare_projection(self, stored: StoredModel, method: RerankMethod) -> _FittedProjection:
        """Fitted to the original vectors, anew when there are twice or half as many as then; kept if it can be."""
        name = str(RerankMethod(pca=method.pca, whiten=method.whiten))
        key = stored.fingerprint, name
        n_vectors = self._catalog.count_vectors(stored.id)
        n_kept, held = self._catalog.count_fitted_vectors(stored.id, name), self._projections.get(key)
        if n_kept is not None and _is_near(n_kept, n_vectors) and (held is None or held.n_vectors != n_kept):
            with contextlib.suppress(ValueError):  # damaged: as if there were none
                held = _FittedProjection.from_projection(
                    n_kept, Projection.from_bytes(self._catalog.read_projection(stored.id, name))
                )
        if held is None or not _is_near(held.n_vectors, n_vectors):
            held = _FittedProjection.from_projection(n_vectors, self._fit_projection(stored, method))
            self._store_projection(stored, name, held)
        self._projections[key] = held
        return held

    def _fit_projection(self, stored: StoredModel, method: RerankMethod) -> Projection:
        ids = self._catalog.list_original_ids(stored.id)
        blocks = (vectors for _, vectors in self._catalog.iterate_vectors(stored, ids))
        return Projection.fit(blocks, method.width or stored.width, method.whitening)

    def _store_projection(self, stored: StoredModel, name: str, fitted: _FittedProjection) -> None:
        """In the catalog, unless another process writes or the place cannot be written to: then for this time only."""
        with (
            contextlib.suppress(CollectionBusy, CollectionNotWritable, DiskFull),
            CatalogWriter.open_or_create(self._catalog.folder) as writer,
            writer.transaction(),
        ):
            if writer.find_model(stored.fingerprint) is not None:
                writer.write_projection(stored.id, name, fitted.n_vectors, fitted.projection.to_bytes())

    def _prepare_points(self, index: ExactIndex, stored: StoredModel, k1: int) -> _OriginalPoints:
        if (
            self._cached_points is None
            or self._cached_points.index is not index
            or self._cached_points.settings.k1 != k1
        ):
            self._cached_points = _build_points(index, self._catalog.list_original_ids(stored.id), k1)
        return self._cached_points


@dataclass(frozen=True, slots=True, eq=False)
class _FittedProjection:
    """A projection, its digest, and how many vectors there were when it was fitted."""

    n_vectors: int
    projection: Projection
    digest: str

    @classmethod
    def from_projection(cls, n_vectors: int, projection: Projection) -> _FittedProjection:
        return cls(n_vectors, projection, projection.digest)


@dataclass(frozen=True, slots=True)
class QueryOrigin:
    """What a query is of: the contents of its pictures, and its view where it is one picture of the collection."""

    digests: Collection[str] = ()
    view_id: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Reranker:
    """A method made ready: the index that is searched, and what is done to queries and answers."""

    method: RerankMethod
    index: Index
    projection: Projection | None
    catalog: Catalog
    points: _OriginalPoints | None

    def project(self, vectors: Vectors) -> Vectors:
        """Vectors of the model (m, d) where the index has theirs (m, width)."""
        return vectors if self.projection is None else self.projection.apply(vectors)

    def rank(self, query: Vectors, own: QueryOrigin, part: Searchable, limits: RankingLimits) -> list[Hit]:
        """Hits among a part of the index for a placed unit vector (width,).

        A query is expanded with its nearest images, those outside the part among them, but not with itself. The first
        100 answers of the part are put in order by k-reciprocal re-ranking; what comes after them follows.
        """
        if self.method.aqe is not None:
            query = self._expand_query(query, self.method.aqe, own)
        if self.points is None:
            return rank_hits(query, part, self.catalog, limits)
        wanted = limits
        if limits.k is not None:
            wanted = replace(limits, k=max(limits.k, _N_CANDIDATES - limits.offset))
        found = rank_candidates(query, part, self.catalog, wanted)
        head, tail = found[:_N_CANDIDATES], found[_N_CANDIDATES:]
        return number_hits([*self._reorder(self.points, query, own, head), *tail], limits)

    def _expand_query(self, query: Vectors, n: int, own: QueryOrigin) -> Vectors:
        near = rank_candidates(query, self.index, self.catalog, RankingLimits(n, excluded_digests=own.digests))
        if not near:
            return query
        rows = self.index.read_vectors(self._find_original_ids(near))
        return expand(query, rows, np.array([found.similarity for found in near], np.float32))

    def _reorder(
        self, points: _OriginalPoints, query: Vectors, own: QueryOrigin, found: list[ImageCandidate]
    ) -> list[ImageCandidate]:
        candidates = points.find_positions(self._find_original_ids(found))
        similarities = np.array([some.similarity for some in found], np.float32)
        itself, reciprocal = len(points.database), points.shared
        if own.view_id is not None and own.view_id in points.ids:
            itself = int(points.find_positions(np.array([own.view_id]))[0])
        if itself == len(points.database) or self.method.aqe is not None or self.method.dba is not None:
            changed = PatchedDatabase(points.database, np.array([itself]), query[None])
            reciprocal = KReciprocalReranker(changed, points.settings)
        return [found[at] for at in reciprocal.reorder(itself, candidates, similarities).order]

    def _find_original_ids(self, found: list[ImageCandidate]) -> Ids:
        views = self.catalog.find_original_views([some.view.image_id for some in found])
        return np.array([views[some.view.image_id] for some in found], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _OriginalPoints:
    """The original views of an index among themselves, known by position; `ids` (n,) are rising, `order` is theirs."""

    index: ExactIndex
    database: NeighborDatabase
    ids: Ids
    order: NDArray[np.intp]
    settings: KReciprocalSettings
    shared: KReciprocalReranker

    def find_positions(self, ids: Ids) -> NDArray[np.int64]:
        """Of those view ids (m,)."""
        return self.order[np.searchsorted(self.ids, ids)].astype(np.int64)


def _build_points(index: ExactIndex, original_ids: Ids, k1: int) -> _OriginalPoints:
    depth = k1 + 1  # one more than is asked for: lists of which a changed row falls out
    ids = index.ids
    if (is_original := np.isin(ids, original_ids, assume_unique=True)).all():
        database = NeighborDatabase(index, index.rows, depth)
    else:
        ids = ids[is_original]
        database = NeighborDatabase.from_vectors(index.rows[is_original], depth)
    order = np.argsort(ids, kind="stable")
    settings = KReciprocalSettings(k1=k1)
    return _OriginalPoints(index, database, ids[order], order, settings, KReciprocalReranker(database, settings))


def _build_derivation(
    stored: StoredModel, method: RerankMethod, fitted: _FittedProjection | None
) -> VectorTransform | None:
    """What the method makes of vectors before any query; None where it searches them as they are."""
    if fitted is None and method.dba is None:
        return None
    name = str(RerankMethod(pca=method.pca, whiten=method.whiten, dba=method.dba))
    digest = f"{_VERSION}" if fitted is None else f"{_VERSION} {fitted.digest}"
    width = stored.width if fitted is None else fitted.projection.width
    n_blended = method.dba

    def project(vectors: Vectors) -> Vectors:
        return vectors if fitted is None else fitted.projection.apply(vectors)

    def blend_rows(rows: Vectors) -> Vectors:
        assert n_blended is not None  # else nothing is blended
        return blend(rows, find_nearest_others(rows, n_blended), n_blended)

    return VectorTransform(name, digest, width, project, None if n_blended is None else blend_rows)


def _is_near(n_then: int, n_now: int) -> bool:
    return n_then < 2 * n_now and n_now < 2 * n_then
