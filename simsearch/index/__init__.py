"""Indexes of unit vectors, known by the catalog's view ids: exact and coded ones, and the files that hold them.

The only imports of faiss. An index file is a cache: what FAISS writes, followed by a stamp that says of which
collection, model and generation it is. FAISS reads from the front and never sees the stamp.
"""

from simsearch.index.exact import AnnIndex
from simsearch.index.files import WORKSHOP_PREFIX, Stamp, is_intact, read_stamp
from simsearch.index.kmeans import kmeans
from simsearch.index.protocol import Ids, Index, Searchable, Vectors

__all__ = [
    "WORKSHOP_PREFIX",
    "AnnIndex",
    "Ids",
    "Index",
    "Searchable",
    "Stamp",
    "Vectors",
    "is_intact",
    "kmeans",
    "read_stamp",
]
