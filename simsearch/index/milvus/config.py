"""The setting that selects the vector store: FAISS files or a Milvus server. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import json
import os
import urllib.parse
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from simsearch.errors import UsageError
from simsearch.store import settings
from simsearch.store.catalog import Catalog, StoredModel
from simsearch.store.writer import CatalogWriter

TOKEN_VARIABLE = "MILVUS_TOKEN"

_ROW_VERSION = 1  # increase it when the schema of rows changes: all rows are then compared again
_STORES = ("faiss", "milvus")
_LITE_SUFFIX = ".db"
_SCHEMES = ("http", "https", "tcp", "unix")
_EXAMPLES = "such as http://localhost:19530, or photos.db for Milvus Lite"


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """The store to search: FAISS files in the collection's folder if `uri` is None, else the Milvus at `uri`."""

    uri: str | None = None

    @classmethod
    def from_options(cls, store: str | None, uri: str | None) -> Self | None:
        """Create a choice from the options of a command; None if no option is given.

        A path that ends in .db is Milvus Lite. A URI without a store means Milvus. Raises `UsageError`.
        """
        if store is not None and store not in _STORES:
            raise UsageError(f"unknown store {store!r}", f"choose one of {', '.join(_STORES)}")
        if store == "faiss" and uri is not None:
            raise UsageError("FAISS files have no URI", "omit --milvus-uri, or use --store milvus")
        if store == "milvus" and uri is None:
            raise UsageError("the URI of Milvus is missing", f"add --milvus-uri, {_EXAMPLES}")
        if store is None and uri is None:
            return None
        return cls(None if uri is None else _normalize_uri(uri))


def _normalize_uri(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme in _SCHEMES and (parts.netloc or parts.scheme == "unix"):
        if "@" in parts.netloc:
            problem = "the URI of Milvus contains a password, which would be stored in the collection"
            raise UsageError(problem, f"remove it, and put user:password or a token into ${TOKEN_VARIABLE}")
        return uri
    if _is_lite(uri):
        return os.path.abspath(uri)
    raise UsageError(f"{uri!r} is not a URI of Milvus", f"use a URI {_EXAMPLES}")


@dataclass(frozen=True, slots=True)
class MilvusConfig:
    """The address of the Milvus that holds a collection's vectors."""

    uri: str

    @classmethod
    def from_catalog(cls, catalog: Catalog) -> Self | None:
        """Read the address from the settings of a collection; None if it uses FAISS files."""
        uri = catalog.read_setting(settings.MILVUS)
        if uri is None:
            return None
        return cls(str(catalog.folder.absolute() / uri) if _is_lite(uri) else uri)

    @property
    def is_lite(self) -> bool:
        """Whether it is a folder of Milvus Lite, which one process can use at a time."""
        return _is_lite(self.uri)

    @property
    def label(self) -> str:
        """The name of the store in messages."""
        return f"Milvus Lite at {self.uri}" if self.is_lite else f"Milvus at {self.uri}"


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """The state of the catalog at its last synchronization with Milvus, stored in the catalog; `token` also in Milvus.

    Each synchronization has a new token. If both tokens are equal, Milvus holds the rows that this catalog wrote, not
    those of a copy or an older state of it. `change_token` is that of the model's vectors. `change` is the number of
    the last change of an image that was written.
    """

    token: str
    change_token: int
    change: int
    version: int = _ROW_VERSION

    @classmethod
    def from_catalog(cls, catalog: Catalog, fingerprint: str) -> Self | None:
        """Read the record of a model; None if there is none."""
        try:
            return cls(**json.loads(catalog.read_setting(settings.build_sync_record_name(fingerprint)) or ""))
        except (ValueError, TypeError):
            return None

    @classmethod
    def create(cls, change_token: int, change: int) -> Self:
        """Create a record with a new token."""
        return cls(uuid.uuid4().hex, change_token, change)

    def save(self, writer: CatalogWriter, fingerprint: str) -> None:
        """Write the record to the catalog."""
        with writer.transaction():
            writer.write_setting(settings.build_sync_record_name(fingerprint), json.dumps(dataclasses.asdict(self)))

    def is_current(self, stored: StoredModel, last_change: int) -> bool:
        """Whether the catalog has not changed since."""
        return (self.version, self.change_token, self.change) == (_ROW_VERSION, stored.change_token, last_change)


def set_store(writer: CatalogWriter, choice: StoreChoice) -> None:
    """Write the store to the settings, within a transaction. A path below the collection is stored as relative.

    The catalog records changes only while the store is Milvus. If the store changes and no vectors are copied, call
    `forget_records` too.
    """
    uri = choice.uri
    folder = Path(os.path.abspath(writer.folder))
    if uri is not None and _is_lite(uri) and Path(uri).is_relative_to(folder):
        uri = str(Path(uri).relative_to(folder))
    writer.write_setting(settings.MILVUS, uri)


def switch_store(writer: CatalogWriter, choice: StoreChoice) -> None:
    """Change the store, within a transaction. Vectors are copied to it by the next query."""
    if MilvusConfig.from_catalog(writer) != (None if choice.uri is None else MilvusConfig(choice.uri)):
        forget_records(writer)
        set_store(writer, choice)


def forget_records(writer: CatalogWriter) -> None:
    """Delete the sync records, within a transaction, so that the next synchronization compares all rows."""
    for stored in writer.list_models():
        writer.write_setting(settings.build_sync_record_name(stored.fingerprint), None)


def _is_lite(uri: str) -> bool:
    return uri.endswith(_LITE_SUFFIX) and "://" not in uri
