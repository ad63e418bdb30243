"""A connection to Milvus and the tables of a collection there. The only import of pymilvus and of Milvus Lite."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simsearch.errors import CollectionError, MissingExtra, StoreOccupied, StoreUnavailable
from simsearch.index.milvus.config import TOKEN_VARIABLE, MilvusConfig
from simsearch.index.milvus.schema import (
    COMPLETE,
    DIGEST,
    IMAGE,
    INTEGER_FIELDS,
    KEY,
    MAX_TEXT_BYTES,
    REAL_FIELDS,
    TEXT_FIELDS,
    USER_NUMBERS,
    USER_TEXTS,
    VECTOR,
)
from simsearch.index.protocol import Ids, Vectors

_DOTENV = "PYTHON_DOTENV_DISABLED"
_had_dotenv = os.environ.get(_DOTENV)
os.environ[_DOTENV] = "1"  # else pymilvus would read the file .env into the environment
try:
    import grpc
    from pymilvus import DataType, MilvusClient
    from pymilvus.exceptions import MilvusException
except ImportError as error:
    raise MissingExtra("a collection in Milvus", "milvus") from error
finally:
    os.environ.pop(_DOTENV) if _had_dotenv is None else os.environ.update({_DOTENV: _had_dotenv})

for _library in ("pymilvus", "milvus_lite", "grpc"):  # they log tracebacks of errors that we report
    logging.getLogger(_library).setLevel(logging.CRITICAL + 1)

MAX_HITS = 16384
"""The largest number of results of one search or query."""

_CONNECT_S, _READ_S, _WRITE_S, _LOAD_S = 5.0, 60.0, 120.0, 1800.0
_SETTLE_S = 10.0
"""So long after a change searches are of the level Strong, which takes a server up to 0.4 s each; then Bounded. A
server answers those from a state that is at most 5 seconds old, unless its `common.gracefulTime` says otherwise."""

_BATCH_BYTES = 8_000_000  # a server refuses messages of more than 64 MB
_BATCH_ROWS = 1000
_TOKEN_PROPERTY = "simsearch.token"
_METRIC = "IP"  # the cosine of unit vectors, as FAISS computes it; COSINE would normalize again
_EXACT_KINDS = ("FLAT", "BRUTE_FORCE")
_GRAPH_PARAMETERS = {"M": 16, "efConstruction": 200}
_RETRY_ADVICE = "run the same command again to continue; the catalog is not affected"

_lite_users: dict[str, int] = {}
_lite_lock = threading.Lock()


class MilvusConnection:
    """A connection to Milvus, for one thread at a time. Any number of connections can be open."""

    def __init__(self, config: MilvusConfig, folder: Path) -> None:
        """Connect within 5 seconds. Raises `MissingExtra`, `StoreUnavailable`."""
        self.config = config
        self._folder = folder
        if config.is_lite:
            _check_lite(config, folder)
        with self.translate_errors():
            self._client = MilvusClient(
                config.uri, token=os.environ.get(TOKEN_VARIABLE, ""), timeout=_CONNECT_S, dedicated=True
            )
        if config.is_lite:
            with _lite_lock:
                _lite_users[config.uri] = _lite_users.get(config.uri, 0) + 1
        self._is_open = True

    def close(self) -> None:
        """Close the connection. Closing the last one to Milvus Lite unlocks its folder for other processes."""
        if not self._is_open:
            return
        self._is_open = False
        with contextlib.suppress(MilvusException, grpc.RpcError):
            self._client.close()
        if self.config.is_lite:
            _release_lite(self.config.uri)

    def open_table(self, name: str, width: int) -> MilvusTable:
        """Open a table of vectors with this width, ready to search. It is created if it does not exist.

        Raises `StoreOccupied` if the name is used by something else.
        """
        with self.translate_errors():
            if not self._client.has_collection(name, timeout=_READ_S):
                self._create_table(name, width)
        table = MilvusTable(self, self._client, name)
        table.check(width)
        table.prepare()
        return table

    def drop(self, name: str) -> None:
        """Delete a table if it exists. Raises `StoreOccupied` if simsearch did not create it."""
        if self.has_table(name):
            MilvusTable(self, self._client, name).check()
            with self.translate_errors():
                self._client.drop_collection(name, timeout=_WRITE_S)

    def list_tables(self, prefix: str) -> list[str]:
        """List the names that begin with a prefix."""
        with self.translate_errors():
            return [name for name in self._client.list_collections(timeout=_READ_S) if name.startswith(prefix)]

    def has_table(self, name: str) -> bool:
        """Whether a table with this name exists."""
        with self.translate_errors():
            return bool(self._client.has_collection(name, timeout=_READ_S))

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Translate errors of Milvus to `CollectionError`s."""
        try:
            yield
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError, ConnectionError) as error:
            raise self._translate_error(error) from error

    def _translate_error(self, error: Exception) -> CollectionError:
        causes = [error, *filter(None, (error.__cause__, error.__context__))]
        text = " ".join(str(getattr(cause, "message", "")) or str(cause) for cause in causes)
        words = " ".join((str(getattr(error, "message", "")) or str(error)).split())[:200]
        if any(word in text.lower() for word in ("unauthenticated", "auth check", "permission", "privilege")):
            advice = f"put user:password, or a token with write access, into ${TOKEN_VARIABLE}"
            return StoreUnavailable(str(self._folder), f"{self.config.label} refuses access", advice)
        unreachable = ("fail connecting", "unavailable", "failed to connect", "deadline", "timeout", "timed out")
        if any(word in text.lower() for word in unreachable):
            advice = "start it, or set its new address: simsearch push --milvus-uri URI; the catalog is not affected"
            return StoreUnavailable(str(self._folder), f"{self.config.label} cannot be reached", advice)
        return StoreUnavailable(str(self._folder), f"{self.config.label} failed ({words})", _RETRY_ADVICE)

    def _create_table(self, name: str, width: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(KEY, DataType.INT64, is_primary=True)
        for column in INTEGER_FIELDS:
            schema.add_field(column, DataType.INT64)
        for column in REAL_FIELDS:
            schema.add_field(column, DataType.DOUBLE)
        for column in TEXT_FIELDS:
            schema.add_field(column, DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
        for column in (USER_NUMBERS, USER_TEXTS):
            schema.add_field(column, DataType.JSON)
        schema.add_field(COMPLETE, DataType.BOOL)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=width)
        self._client.create_collection(
            name, schema=schema, consistency_level="Strong", properties={_TOKEN_PROPERTY: ""}, timeout=_WRITE_S
        )


class MilvusTable:
    """The rows of a model's views. Reads see all earlier writes of this process, and those that it was told of."""

    def __init__(self, server: MilvusConnection, client: MilvusClient, name: str) -> None:
        self.connection = server
        self.name = name
        self.kind = ""
        self._client = client
        self._changed_at = time.monotonic()

    def prepare(self) -> None:
        """Create an index if there is none, and load the table. `kind` is then the kind of the index.

        The index is exact in Milvus Lite and an HNSW graph in a server. An index that the user created is kept.
        """
        with self.connection.translate_errors():
            if not (names := self._client.list_indexes(self.name, field_name=VECTOR)):
                params = self._client.prepare_index_params()
                kind, details = ("FLAT", {}) if self.connection.config.is_lite else ("HNSW", _GRAPH_PARAMETERS)
                params.add_index(VECTOR, index_type=kind, metric_type=_METRIC, params=details)
                self._client.create_index(self.name, params, timeout=_WRITE_S)
                names = self._client.list_indexes(self.name, field_name=VECTOR)
            self.kind = str(self._client.describe_index(self.name, names[0], timeout=_READ_S)["index_type"])
            self._client.load_collection(self.name, timeout=_LOAD_S)

    def note_change(self, at: float | None = None) -> None:
        """Note that the rows may have changed, perhaps by another process: just now, or at a time of the clock."""
        self._changed_at = time.monotonic() if at is None else at

    @property
    def search_level(self) -> str:
        """The consistency level of a search now."""
        return "Strong" if time.monotonic() - self._changed_at < _SETTLE_S else "Bounded"

    @property
    def is_exact(self) -> bool:
        """Whether the index is exact."""
        return self.kind in _EXACT_KINDS

    def check(self, width: int | None = None) -> None:
        """Raise `StoreOccupied` if the table does not have our schema, or its vectors another width than given."""
        description = self._describe()
        columns = {field["name"]: field for field in description["fields"]}
        wanted = {KEY, VECTOR, COMPLETE, USER_NUMBERS, USER_TEXTS}
        wanted |= {*INTEGER_FIELDS, *REAL_FIELDS, *TEXT_FIELDS}
        is_ours = _TOKEN_PROPERTY in description.get("properties", {}) and wanted <= columns.keys()
        if not is_ours or width not in (None, int(columns[VECTOR]["params"]["dim"])):
            config = self.connection.config
            problem = f"{config.label} uses the name {self.name} for something else"
            raise StoreOccupied(config.uri, problem, "rename or drop it there, or use another Milvus or database")

    @property
    def token(self) -> str:
        """The token of the last `save_token`; empty if there is none."""
        return str(self._describe().get("properties", {}).get(_TOKEN_PROPERTY, ""))

    def save_token(self, token: str) -> None:
        """Store a token that identifies the current state of the table."""
        with self.connection.translate_errors():
            self._client.alter_collection_properties(self.name, {_TOKEN_PROPERTY: token}, timeout=_WRITE_S)

    def flush(self) -> None:
        """Flush writes in Milvus Lite, which is slow to search rows in its log. Servers flush by themselves."""
        if self.connection.config.is_lite:
            with self.connection.translate_errors():
                self._client.flush(self.name, timeout=_WRITE_S)

    def count(self, where: str = "") -> int:
        """Count all rows, or those that match a filter."""
        with self.connection.translate_errors():
            return int(self._query(where, ["count(*)"])[0]["count(*)"])

    def upsert(self, rows: Sequence[Mapping[str, Any]], vectors: Vectors) -> None:
        """Insert rows with their vectors (n, d), or replace those with the same keys."""
        size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // (4 * vectors.shape[1] + 1000)))
        for start in range(0, len(rows), size):
            some = zip(rows[start : start + size], vectors[start : start + size], strict=True)
            with self._change():
                self._client.upsert(self.name, [{**row, VECTOR: vector} for row, vector in some], timeout=_WRITE_S)

    def delete(self, ids: Sequence[int]) -> None:
        """Delete rows by key."""
        for start in range(0, len(ids), MAX_HITS):
            with self._change():
                self._client.delete(self.name, ids=list(ids[start : start + MAX_HITS]), timeout=_WRITE_S)

    def delete_above(self, last: int) -> None:
        """Delete all rows with larger keys."""
        with self._change():
            self._client.delete(self.name, filter=f"{KEY} > {last}", timeout=_WRITE_S)

    def read_digests(self, where: str) -> dict[int, int]:
        """Read the digests by key of the rows that match a filter; at most `MAX_HITS`."""
        with self.connection.translate_errors():
            rows = self._query(where, [KEY, DIGEST], limit=MAX_HITS)
        return {int(row[KEY]): int(row[DIGEST]) for row in rows}

    def read_image_ids(self, where: str) -> dict[int, int]:
        """Read the image ids by key of the rows that match a filter; at most `MAX_HITS`."""
        with self.connection.translate_errors():
            rows = self._query(where, [KEY, IMAGE], limit=MAX_HITS)
        return {int(row[KEY]): int(row[IMAGE]) for row in rows}

    def read_vectors(self, ids: Sequence[int]) -> dict[int, Vectors]:
        """Read vectors (d,) by key; missing rows are left out."""
        with self.connection.translate_errors():
            rows = self._query(f"{KEY} in {list(ids)}", [KEY, VECTOR])
        return {int(row[KEY]): np.asarray(row[VECTOR], np.float32) for row in rows}

    def search(
        self, queries: Vectors, n: int, where: str = "", least: float | None = None
    ) -> list[tuple[Vectors, Ids]]:
        """Find the n <= `MAX_HITS` nearest rows of each query (q, d): similarities and keys, most similar first.

        `where` is a filter; `least` returns only rows with a larger similarity.
        """
        ranged = {} if least is None else {"radius": float(least)}
        breadth = {"ef": max(2 * n, 128)} if self.kind.startswith("HNSW") else {}
        with self.connection.translate_errors():
            found = self._client.search(
                self.name, list(np.ascontiguousarray(queries, np.float32)), limit=n, filter=where,
                anns_field=VECTOR, output_fields=[KEY], timeout=_READ_S, consistency_level=self.search_level,
                search_params={"metric_type": _METRIC, "params": {**breadth, **ranged}},
            )  # fmt: skip
        return [
            (
                np.clip(np.array([hit["distance"] for hit in hits], np.float32), -1, 1),
                np.array([hit[KEY] for hit in hits], np.int64),
            )
            for hits in found
        ]

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        try:
            with self.connection.translate_errors():
                yield
        finally:
            self.note_change()

    def _describe(self) -> dict[str, Any]:
        with self.connection.translate_errors():
            description: dict[str, Any] = self._client.describe_collection(self.name, timeout=_READ_S)
        return description

    def _query(self, where: str, columns: list[str], **more: Any) -> Sequence[Mapping[str, Any]]:
        rows: Sequence[Mapping[str, Any]] = self._client.query(
            self.name, filter=where, output_fields=columns, timeout=_READ_S, **more
        )
        return rows


def _check_lite(config: MilvusConfig, folder: Path) -> None:
    """Raise an error with the reason if Milvus Lite cannot be opened, because pymilvus does not report it."""
    try:
        from milvus_lite.db import MilvusLite
        from milvus_lite.exceptions import DataDirLockedError
    except ImportError as error:
        raise MissingExtra("Milvus Lite", "milvus") from error
    with _lite_lock:
        if _lite_users.get(config.uri):
            return
    advice = "choose another folder with --milvus-uri"
    try:
        if Path(config.uri).is_file():
            raise StoreUnavailable(str(folder), f"{config.uri} is a file, but Milvus Lite needs a folder", advice)
        Path(config.uri).parent.mkdir(parents=True, exist_ok=True)
        MilvusLite(config.uri).close()
    except DataDirLockedError as error:
        problem = f"{config.label} is in use by another process"
        raise StoreUnavailable(
            str(folder), problem, "stop that process, or use a Milvus server, which several processes can use"
        ) from error
    except OSError as error:
        problem = f"{config.label} cannot be opened ({error.strerror or error})"
        raise StoreUnavailable(str(folder), problem, advice) from error


def _release_lite(uri: str) -> None:
    from milvus_lite.server_manager import server_manager_instance

    with _lite_lock:
        _lite_users[uri] -= 1
        if not _lite_users[uri]:
            server_manager_instance.release_server(uri)
