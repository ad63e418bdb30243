"""Names of the settings in a catalog (for `Catalog.read_setting` and `CatalogWriter.write_setting`)."""

DEFAULT_MODEL = "default_model"
"""The fingerprint of the model of queries that name none; not set: the last one that was indexed."""

SOURCES = "sources"
"""The sources that were indexed into the collection, as JSON (see `store.known_sources`)."""

RERANK = "rerank"
"""The re-ranking method of searches that name none, such as `pca256+dba10`, for models without one of their own."""

INDEX_KIND = "index_kind"
"""The wanted kind of FAISS index and its recall, as JSON; not set: automatic."""

FILE_STATE = "file_state"
"""The change token of the last change of files or images, and the change token with which that is still true.

Set by changes of nothing else (see `Catalog.file_token`); a change of files only renews the change token.
"""

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
