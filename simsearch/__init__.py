"""Index a folder of images, search it by example, and measure which backbone retrieves best on your pictures.

import simsearch

with simsearch.index_images("photos", into="indexes/photos") as collection:
    for hit in collection.search("example.jpg", k=5):
        print(hit.rank, hit.similarity, hit.path)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simsearch.api import benchmark, embed, find_duplicates, index_images
    from simsearch.api import open_collection as open
    from simsearch.collection import Collection
    from simsearch.duplicates.options import DuplicateOptions
    from simsearch.errors import SimsearchError
    from simsearch.index.milvus.config import StoreChoice
    from simsearch.ingest.run import IngestReport
    from simsearch.maintenance import Verification
    from simsearch.models.choice import ModelChoice, list_backbones
    from simsearch.search import Answer, Hit, View
    from simsearch.search.examples import Crop, Example, TextExample
    from simsearch.search.picture_embedder import PictureEmbedder as Embedder

__version__ = "0.2.0"

__all__ = [
    "Answer",
    "Collection",
    "Crop",
    "DuplicateOptions",
    "Embedder",
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
    "benchmark",
    "embed",
    "find_duplicates",
    "index_images",
    "list_backbones",
    "open",
]

_HOMES = {
    "Answer": "search.Answer",
    "Collection": "collection.Collection",
    "Crop": "search.examples.Crop",
    "DuplicateOptions": "duplicates.options.DuplicateOptions",
    "Embedder": "search.picture_embedder.PictureEmbedder",
    "Example": "search.examples.Example",
    "Hit": "search.Hit",
    "IngestReport": "ingest.run.IngestReport",
    "ModelChoice": "models.choice.ModelChoice",
    "SimsearchError": "errors.SimsearchError",
    "StoreChoice": "index.milvus.config.StoreChoice",
    "TextExample": "search.examples.TextExample",
    "Verification": "maintenance.Verification",
    "View": "search.View",
    "benchmark": "api.benchmark",
    "embed": "api.embed",
    "find_duplicates": "api.find_duplicates",
    "index_images": "api.index_images",
    "list_backbones": "models.choice.list_backbones",
    "open": "api.open_collection",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that `simsearch --help` stays fast."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'simsearch' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].rpartition(".")
    return getattr(importlib.import_module(f"simsearch.{module}"), attribute)


def __dir__() -> list[str]:
    """The public names, whether they were used or not."""
    return sorted({*globals(), *__all__})
