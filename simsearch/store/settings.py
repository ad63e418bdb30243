"""Names of the settings in a catalog (for `Catalog.read_setting` and `CatalogWriter.write_setting`)."""

RERANK = "rerank"
"""The default re-ranking method of a search, such as `pca(256)+dba(10)`; not set: none."""

INDEX_KIND = "index_kind"
"""The wanted kind of FAISS index and its recall, as JSON; not set: automatic."""

MILVUS = "milvus"
"""The URI of the Milvus server that is searched; not set: FAISS files.

The triggers of migration 5 count changes only where a setting of this name exists.
"""


def build_calibration_name(fingerprint: str) -> str:
    """The name of the setting with the calibration of a model, as JSON (see `search.calibration`)."""
    return f"calibration {fingerprint}"


def build_sync_record_name(fingerprint: str) -> str:
    """The name of the setting that records the last synchronization of a model's vectors with Milvus."""
    return f"{MILVUS} {fingerprint}"
