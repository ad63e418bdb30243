"""Which Milvus a collection is searched in: a setting of the collection. Imports nothing heavy."""

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

_ROW_VERSION = 1  # raise it when rows are made otherwise of the same catalog: they are then all compared anew
_STORES = ("faiss", "milvus")
_LITE_SUFFIX = ".db"
_SCHEMES = ("http", "https", "tcp", "unix")
_EXAMPLES = "such as http://localhost:19530, or photos.db for Milvus Lite"


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """What is to be searched: FAISS files in the collection's folder where `uri` is None, else that Milvus."""

    uri: str | None = None

    @classmethod
    def from_options(cls, store: str | None, uri: str | None) -> Self | None:
        """From what a user says; None where nothing is said, and all stays as it is.

        A path that ends in .db is Milvus Lite; a URI alone says Milvus. Raises `UsageError`.
        """
        if store is not None and store not in _STORES:
            raise UsageError(f"there is no store {store!r}", f"choose one of {', '.join(_STORES)}")
        if store == "faiss" and uri is not None:
            raise UsageError("FAISS files have no URI", "leave --milvus-uri out, or say --store milvus")
        if store == "milvus" and uri is None:
            raise UsageError("it is not said where Milvus is", f"add --milvus-uri, {_EXAMPLES}")
        if store is None and uri is None:
            return None
        return cls(None if uri is None else _normalize_uri(uri))


def _normalize_uri(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme in _SCHEMES and (parts.netloc or parts.scheme == "unix"):
        if "@" in parts.netloc:
            problem = "the URI of Milvus holds a password, which would be kept in the collection"
            raise UsageError(problem, f"leave it out, and put user:password, or a token, into ${TOKEN_VARIABLE}")
        return uri
    if _is_lite(uri):
        return os.path.abspath(uri)
    raise UsageError(f"{uri!r} is no URI of Milvus", f"write one {_EXAMPLES}")


@dataclass(frozen=True, slots=True)
class MilvusConfig:
    """The Milvus of a collection."""

    uri: str

    @classmethod
    def from_catalog(cls, catalog: Catalog) -> Self | None:
        """Where a collection is searched, or None where FAISS files are."""
        uri = catalog.read_setting(settings.MILVUS)
        if uri is None:
            return None
        return cls(str(catalog.folder.absolute() / uri) if _is_lite(uri) else uri)

    @property
    def is_lite(self) -> bool:
        """Whether it is a folder of Milvus Lite, which one process may use at a time."""
        return _is_lite(self.uri)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Milvus Lite at {self.uri}" if self.is_lite else f"Milvus at {self.uri}"


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """What state of the catalog was last brought into Milvus. It is kept in the catalog, its `token` in Milvus too.

    Each time has a token of its own. As long as both have the same, Milvus holds what this catalog, and no copy or
    older state of it, brought there; `change` is the number of the last change of an image that was.
    """

    token: str
    generation: int
    change: int
    version: int = _ROW_VERSION

    @classmethod
    def from_catalog(cls, catalog: Catalog, fingerprint: str) -> Self | None:
        """The record that a catalog has of a model, or None where it has none."""
        try:
            return cls(**json.loads(catalog.read_setting(settings.build_sync_record_name(fingerprint)) or ""))
        except (ValueError, TypeError):
            return None

    @classmethod
    def create(cls, generation: int, change: int) -> Self:
        """A record with a token that no other has."""
        return cls(uuid.uuid4().hex, generation, change)

    def save(self, writer: CatalogWriter, fingerprint: str) -> None:
        """Keep it in the catalog."""
        with writer.transaction():
            writer.write_setting(settings.build_sync_record_name(fingerprint), json.dumps(dataclasses.asdict(self)))

    def is_current(self, stored: StoredModel, last_change: int) -> bool:
        """Whether nothing has changed since."""
        return (self.version, self.generation, self.change) == (_ROW_VERSION, stored.generation, last_change)


def set_store(writer: CatalogWriter, choice: StoreChoice) -> None:
    """Keep, within a transaction, what is searched from now on. What lies below the collection moves with it.

    Changes are counted while Milvus is searched alone: moving to another, and no copying, needs `forget_records`.
    """
    uri = choice.uri
    folder = Path(os.path.abspath(writer.folder))
    if uri is not None and _is_lite(uri) and Path(uri).is_relative_to(folder):
        uri = str(Path(uri).relative_to(folder))
    writer.write_setting(settings.MILVUS, uri)


def switch_store(writer: CatalogWriter, choice: StoreChoice) -> None:
    """Say, within a transaction, what is searched from now on; what is not there yet is copied when it is asked."""
    if MilvusConfig.from_catalog(writer) != (None if choice.uri is None else MilvusConfig(choice.uri)):
        forget_records(writer)
        set_store(writer, choice)


def forget_records(writer: CatalogWriter) -> None:
    """Forget, within a transaction, what was brought into Milvus: all is compared before it is believed again."""
    for stored in writer.list_models():
        writer.write_setting(settings.build_sync_record_name(stored.fingerprint), None)


def _is_lite(uri: str) -> bool:
    return uri.endswith(_LITE_SUFFIX) and "://" not in uri
