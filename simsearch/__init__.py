"""Index a folder of images, search it by example, and measure which backbone retrieves best on your pictures.

from simsearch import Collection

with Collection.open("indexes/photos", create=True) as collection:
    collection.ingest(["photos"])
    for hit in collection.search("example.jpg", k=5).hits:
        print(hit.rank, hit.similarity, hit.path)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simsearch.collection import Collection
    from simsearch.errors import SimsearchError
    from simsearch.index.milvus.config import StoreChoice
    from simsearch.ingest.run import IngestReport
    from simsearch.maintenance import Verification
    from simsearch.models.choice import ModelChoice
    from simsearch.search import Answer, Hit, View
    from simsearch.search.examples import Crop, Example, TextExample

__version__ = "0.2.0"

__all__ = [
    "Answer",
    "Collection",
    "Crop",
    "Example",
    "Hit",
    "IngestReport",
    "ModelChoice",
    "SimsearchError",
    "StoreChoice",
    "TextExample",
    "Verification",
    "View",
    "__version__",
]

_HOMES = {
    "Answer": "search",
    "Collection": "collection",
    "Crop": "search.examples",
    "Example": "search.examples",
    "Hit": "search",
    "IngestReport": "ingest.run",
    "ModelChoice": "models.choice",
    "SimsearchError": "errors",
    "StoreChoice": "index.milvus.config",
    "TextExample": "search.examples",
    "Verification": "maintenance",
    "View": "search",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that `simsearch --help` stays fast."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'simsearch' has no attribute {name!r}")
    return getattr(importlib.import_module(f"simsearch.{_HOMES[name]}"), name)
