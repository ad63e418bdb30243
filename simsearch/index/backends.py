"""What a collection is searched in: files of FAISS beside its catalog, or Milvus where its owner says so."""

from __future__ import annotations

from simsearch.index.cache import IndexCache, Indexes
from simsearch.index.milvus.config import Place
from simsearch.store.catalog import Catalog


def open_indexes(catalog: Catalog) -> Indexes:
    """The indexes of a collection's models; a context, or to be closed.

    Raises `MissingExtra` where they are in Milvus, and what asks it is not installed.
    """
    place = Place.of(catalog)
    if place is None:
        return IndexCache(catalog)
    from simsearch.index.milvus.cache import MilvusIndexes  # pymilvus, which FAISS files do not need

    return MilvusIndexes(catalog, place)
