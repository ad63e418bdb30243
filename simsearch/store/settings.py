"""Names of the settings in a catalog (for `Catalog.read_setting` and `CatalogWriter.write_setting`)."""

DEFAULT_MODEL = "default_model"
"""The fingerprint of the model of queries that name none; not set: the last one that was indexed."""

SOURCES = "sources"
"""The sources that were indexed into the collection, as JSON (see `store.known_sources`)."""

RERANK = "rerank"
"""The re-ranking method of searches that name none, such as `pca256+dba10`, for models without one of their own."""

INDEX_KIND = "index_kind"
"""The wanted kind of FAISS index and its recall, as JSON; not set: automatic."""

MILVUS = "milvus"
"""The URI of the Milvus server that is searched; not set: FAISS files.

The triggers of migration 5 count changes only where a setting of this name exists.
"""


def build_calibration_name(fingerprint: str) -> str:
    """The name of the setting with the calibration of a model, as JSON (see `search.calibration`)."""
    return f"calibration {fingerprint}"


def build_rerank_name(fingerprint: str) -> str:
    """The name of the setting with a model's own default re-ranking method; it comes before `RERANK`."""
    return f"{RERANK} {fingerprint}"


def build_sync_record_name(fingerprint: str) -> str:
    """The name of the setting that records the last synchronization of a model's vectors with Milvus."""
    return f"{MILVUS} {fingerprint}"
