"""Choosing what a collection is searched in: FAISS files beside its catalog, or Milvus where it is set to use it."""

from __future__ import annotations

from simsearch.index.cache import IndexCache
from simsearch.index.milvus.config import MilvusConfig
from simsearch.index.protocol import IndexBackend
from simsearch.store.catalog import Catalog


def open_index_backend(catalog: Catalog) -> IndexBackend:
    """Open the indexes of a collection's models; the caller closes the backend, or uses it as a context manager.

    Raises `MissingExtra` where the collection uses Milvus and the client is not installed.
    """
    config = MilvusConfig.from_catalog(catalog)
    if config is None:
        return IndexCache(catalog)
    from simsearch.index.milvus.cache import MilvusIndexCache  # imports pymilvus

    return MilvusIndexCache(catalog, config)
