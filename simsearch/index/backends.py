"""What a collection is searched in: files of FAISS beside its catalog, or Milvus where its owner says so."""

from __future__ import annotations

from simsearch.index.cache import IndexBackend, IndexCache
from simsearch.index.milvus.config import MilvusConfig
from simsearch.store.catalog import Catalog


def open_index_backend(catalog: Catalog) -> IndexBackend:
    """The indexes of a collection's models; a context, or to be closed.

    Raises `MissingExtra` where they are in Milvus, and what asks it is not installed.
    """
    place = MilvusConfig.from_catalog(catalog)
    if place is None:
        return IndexCache(catalog)
    from simsearch.index.milvus.cache import MilvusIndexCache  # pymilvus, which FAISS files do not need

    return MilvusIndexCache(catalog, place)
