"""Indexes of unit vectors, known by the catalog's view ids: exact and coded ones, and the files that hold them.

The only imports of faiss. An index file is a cache: what FAISS writes, followed by a stamp that says of which
collection, model and generation it is. FAISS reads from the front and never sees the stamp.
"""

from simsearch.index.exact import ExactIndex
from simsearch.index.files import TEMPORARY_PREFIX, IndexStamp, is_intact, read_stamp
from simsearch.index.kmeans import fit_kmeans
from simsearch.index.protocol import Ids, Index, Searchable, Vectors

__all__ = [
    "TEMPORARY_PREFIX",
    "ExactIndex",
    "Ids",
    "Index",
    "IndexStamp",
    "Searchable",
    "Vectors",
    "fit_kmeans",
    "is_intact",
    "read_stamp",
]
