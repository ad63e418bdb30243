"""A Milvus server and what a collection keeps there. The only import of pymilvus and of Milvus Lite."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simsearch.errors import CollectionError, MissingExtra, StoreOccupied, StoreUnavailable
from simsearch.index import Ids, Vectors
from simsearch.index.milvus import schema as fields
from simsearch.index.milvus.config import TOKEN_VARIABLE, MilvusConfig

_DOTENV = "PYTHON_DOTENV_DISABLED"
_had_dotenv = os.environ.get(_DOTENV)
os.environ[_DOTENV] = "1"  # pymilvus would take settings for everybody from a file called .env
try:
    import grpc
    from pymilvus import DataType, MilvusClient
    from pymilvus.exceptions import MilvusException
except ImportError as error:
    raise MissingExtra("a collection in Milvus", "milvus") from error
finally:
    os.environ.pop(_DOTENV) if _had_dotenv is None else os.environ.update({_DOTENV: _had_dotenv})

for _library in ("pymilvus", "milvus_lite", "grpc"):  # they write tracebacks of errors that are ours to tell
    logging.getLogger(_library).setLevel(logging.CRITICAL + 1)

MAX_HITS = 16384
"""So many answers Milvus gives at once, of a search or of a query."""

_CONNECT_S, _READ_S, _WRITE_S, _LOAD_S = 5.0, 60.0, 120.0, 1800.0
_BATCH_BYTES = 8_000_000  # a server refuses messages of more than 64 MB
_BATCH_ROWS = 1000
_TOKEN_PROPERTY = "simsearch.token"
_METRIC = "IP"  # of unit vectors it is the cosine, and it is what FAISS computes: COSINE would scale them once more
_EXACT_KINDS = ("FLAT", "BRUTE_FORCE")
_GRAPH_PARAMETERS = {"M": 16, "efConstruction": 200}
_RETRY_ADVICE = "the catalog is safe: run the same command again, it goes on from there"

_lite_users: dict[str, int] = {}
_lite_lock = threading.Lock()


class MilvusConnection:
    """A connection to a Milvus. May be used by one thread at a time; any number may be open."""

    def __init__(self, place: MilvusConfig, folder: Path) -> None:
        """Connect, within some seconds. Raises `MissingExtra`, `StoreUnavailable`."""
        self.config = place
        self._folder = folder
        if place.is_lite:
            _check_lite(place, folder)
        with self.translate_errors():
            self._client = MilvusClient(
                place.uri, token=os.environ.get(TOKEN_VARIABLE, ""), timeout=_CONNECT_S, dedicated=True
            )
        if place.is_lite:
            with _lite_lock:
                _lite_users[place.uri] = _lite_users.get(place.uri, 0) + 1
        self._is_open = True

    def close(self) -> None:
        """Close the connection; the last one to Milvus Lite lets other processes in."""
        if not self._is_open:
            return
        self._is_open = False
        with contextlib.suppress(MilvusException, grpc.RpcError):
            self._client.close()
        if self.config.is_lite:
            _release_lite(self.config.uri)

    def open_table(self, name: str, width: int) -> MilvusTable:
        """What is kept under a name, in vectors of that width; made if it is not there, and ready to be searched.

        Raises `StoreOccupied` where something else is kept under it.
        """
        with self.translate_errors():
            if not self._client.has_collection(name, timeout=_READ_S):
                self._create_table(name, width)
        found = MilvusTable(self, self._client, name)
        found.check(width)
        found.prepare()
        return found

    def drop(self, name: str) -> None:
        """Delete what is kept under a name, if anything is. Raises `StoreOccupied` where that is not ours."""
        if self.has_table(name):
            MilvusTable(self, self._client, name).check()
            with self.translate_errors():
                self._client.drop_collection(name, timeout=_WRITE_S)

    def list_tables(self, beginning: str) -> list[str]:
        """The names that begin so, under which anything is kept."""
        with self.translate_errors():
            return [name for name in self._client.list_collections(timeout=_READ_S) if name.startswith(beginning)]

    def has_table(self, name: str) -> bool:
        """Whether anything is kept under a name."""
        with self.translate_errors():
            return bool(self._client.has_collection(name, timeout=_READ_S))

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Errors of Milvus as ours."""
        try:
            yield
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError, ConnectionError) as error:
            raise self._translate_error(error) from error

    def _translate_error(self, error: Exception) -> CollectionError:
        causes = [error, *filter(None, (error.__cause__, error.__context__))]
        told = " ".join(str(getattr(cause, "message", "")) or str(cause) for cause in causes)
        words = " ".join((str(getattr(error, "message", "")) or str(error)).split())[:200]
        if any(word in told.lower() for word in ("unauthenticated", "auth check", "permission", "privilege")):
            advice = f"put user:password, or a token, that may write there into ${TOKEN_VARIABLE}"
            return StoreUnavailable(str(self._folder), f"{self.config.label} refuses access", advice)
        unreachable = ("fail connecting", "unavailable", "failed to connect", "deadline", "timeout", "timed out")
        if any(word in told.lower() for word in unreachable):
            advice = "start it, or say where it is now: simsearch push --milvus-uri URI; the catalog is safe"
            return StoreUnavailable(str(self._folder), f"{self.config.label} cannot be reached", advice)
        return StoreUnavailable(str(self._folder), f"{self.config.label} failed ({words})", _RETRY_ADVICE)

    def _create_table(self, name: str, width: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(fields.KEY, DataType.INT64, is_primary=True)
        for column in fields.INTEGER_FIELDS:
            schema.add_field(column, DataType.INT64)
        for column in fields.REAL_FIELDS:
            schema.add_field(column, DataType.DOUBLE)
        for column in fields.TEXT_FIELDS:
            schema.add_field(column, DataType.VARCHAR, max_length=fields.MAX_TEXT_BYTES)
        for column in (fields.USER_NUMBERS, fields.USER_TEXTS):
            schema.add_field(column, DataType.JSON)
        schema.add_field(fields.COMPLETE, DataType.BOOL)
        schema.add_field(fields.VECTOR, DataType.FLOAT_VECTOR, dim=width)
        self._client.create_collection(
            name, schema=schema, consistency_level="Strong", properties={_TOKEN_PROPERTY: ""}, timeout=_WRITE_S
        )


class MilvusTable:
    """What is kept of a model's views. Reads see all that was written before: the consistency level is Strong."""

    def __init__(self, server: MilvusConnection, client: MilvusClient, name: str) -> None:
        self.connection = server
        self.name = name
        self.kind = ""
        self._client = client

    def prepare(self) -> None:
        """Have it indexed and loaded; `kind` is then that of its index: ours, or the one that its owner made there.

        Ours is exact in Milvus Lite, and a graph in a server.
        """
        with self.connection.translate_errors():
            if not (names := self._client.list_indexes(self.name, field_name=fields.VECTOR)):
                params = self._client.prepare_index_params()
                kind, details = ("FLAT", {}) if self.connection.config.is_lite else ("HNSW", _GRAPH_PARAMETERS)
                params.add_index(fields.VECTOR, index_type=kind, metric_type=_METRIC, params=details)
                self._client.create_index(self.name, params, timeout=_WRITE_S)
                names = self._client.list_indexes(self.name, field_name=fields.VECTOR)
            self.kind = str(self._client.describe_index(self.name, names[0], timeout=_READ_S)["index_type"])
            self._client.load_collection(self.name, timeout=_LOAD_S)

    @property
    def is_exact(self) -> bool:
        """Whether all of the nearest are found, always."""
        return self.kind in _EXACT_KINDS

    def check(self, width: int | None = None) -> None:
        """Raises `StoreOccupied` when it is not what simsearch makes, for vectors of that width where one is given."""
        told = self._describe()
        columns = {field["name"]: field for field in told["fields"]}
        wanted = {fields.KEY, fields.VECTOR, fields.COMPLETE, fields.USER_NUMBERS, fields.USER_TEXTS}
        wanted |= {*fields.INTEGER_FIELDS, *fields.REAL_FIELDS, *fields.TEXT_FIELDS}
        is_ours = _TOKEN_PROPERTY in told.get("properties", {}) and wanted <= columns.keys()
        if not is_ours or width not in (None, int(columns[fields.VECTOR]["params"]["dim"])):
            place = self.connection.config
            problem = f"{place.label} keeps something under the name {self.name} that is not of this collection"
            raise StoreOccupied(place.uri, problem, "rename or drop it there, or use another Milvus or database")

    @property
    def token(self) -> str:
        """What was kept with `keep_token`; empty where nothing was."""
        return str(self._describe().get("properties", {}).get(_TOKEN_PROPERTY, ""))

    def save_token(self, token: str) -> None:
        """Keep a name for the state of all that is here."""
        with self.connection.translate_errors():
            self._client.alter_collection_properties(self.name, {_TOKEN_PROPERTY: token}, timeout=_WRITE_S)

    def flush(self) -> None:
        """Say that writing is over. Milvus Lite is slow to search what is in its log alone; servers see to it."""
        if self.connection.config.is_lite:
            with self.connection.translate_errors():
                self._client.flush(self.name, timeout=_WRITE_S)

    def count(self, where: str = "") -> int:
        """How many rows there are, or of how many an expression is true."""
        with self.connection.translate_errors():
            return int(self._query(where, ["count(*)"])[0]["count(*)"])

    def upsert(self, rows: Sequence[Mapping[str, Any]], vectors: Vectors) -> None:
        """Write rows with their vectors (n, d), in the place of those of the same keys."""
        size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // (4 * vectors.shape[1] + 1000)))
        for start in range(0, len(rows), size):
            some = zip(rows[start : start + size], vectors[start : start + size], strict=True)
            with self.connection.translate_errors():
                self._client.upsert(
                    self.name, [{**row, fields.VECTOR: vector} for row, vector in some], timeout=_WRITE_S
                )

    def delete(self, ids: Sequence[int]) -> None:
        """Take rows out."""
        for start in range(0, len(ids), MAX_HITS):
            with self.connection.translate_errors():
                self._client.delete(self.name, ids=list(ids[start : start + MAX_HITS]), timeout=_WRITE_S)

    def delete_above(self, last: int) -> None:
        """Take out all rows of larger keys."""
        with self.connection.translate_errors():
            self._client.delete(self.name, filter=f"{fields.KEY} > {last}", timeout=_WRITE_S)

    def read_digests(self, where: str) -> dict[int, int]:
        """The digests of rows by key, of which an expression is true; at most `MOST_HITS`."""
        with self.connection.translate_errors():
            rows = self._query(where, [fields.KEY, fields.DIGEST], limit=MAX_HITS)
        return {int(row[fields.KEY]): int(row[fields.DIGEST]) for row in rows}

    def read_image_ids(self, where: str) -> dict[int, int]:
        """The ids of the images of rows by key, of which an expression is true; at most `MOST_HITS`."""
        with self.connection.translate_errors():
            rows = self._query(where, [fields.KEY, fields.IMAGE], limit=MAX_HITS)
        return {int(row[fields.KEY]): int(row[fields.IMAGE]) for row in rows}

    def read_vectors(self, ids: Sequence[int]) -> dict[int, Vectors]:
        """The vectors (d,) of rows by key; those that are not here are absent."""
        with self.connection.translate_errors():
            rows = self._query(f"{fields.KEY} in {list(ids)}", [fields.KEY, fields.VECTOR])
        return {int(row[fields.KEY]): np.asarray(row[fields.VECTOR], np.float32) for row in rows}

    def search(
        self, queries: Vectors, n: int, where: str = "", least: float | None = None
    ) -> list[tuple[Vectors, Ids]]:
        """The n nearest of each query (q, d), n at most `MOST_HITS`: similarities and keys, falling similarity.

        `where`: of which that expression is true; `least`: that are more similar than that.
        """
        ranged = {} if least is None else {"radius": float(least)}
        breadth = {"ef": max(2 * n, 128)} if self.kind.startswith("HNSW") else {}
        with self.connection.translate_errors():
            found = self._client.search(
                self.name, list(np.ascontiguousarray(queries, np.float32)), limit=n, filter=where,
                anns_field=fields.VECTOR, output_fields=[fields.KEY], timeout=_READ_S,
                search_params={"metric_type": _METRIC, "params": {**breadth, **ranged}},
            )  # fmt: skip
        return [
            (
                np.clip(np.array([hit["distance"] for hit in hits], np.float32), -1, 1),
                np.array([hit[fields.KEY] for hit in hits], np.int64),
            )
            for hits in found
        ]

    def _describe(self) -> dict[str, Any]:
        with self.connection.translate_errors():
            told: dict[str, Any] = self._client.describe_collection(self.name, timeout=_READ_S)
        return told

    def _query(self, where: str, columns: list[str], **more: Any) -> Sequence[Mapping[str, Any]]:
        rows: Sequence[Mapping[str, Any]] = self._client.query(
            self.name, filter=where, output_fields=columns, timeout=_READ_S, **more
        )
        return rows


def _check_lite(place: MilvusConfig, folder: Path) -> None:
    """Say why Milvus Lite cannot be opened, which pymilvus keeps to itself."""
    try:
        from milvus_lite.db import MilvusLite
        from milvus_lite.exceptions import DataDirLockedError
    except ImportError as error:
        raise MissingExtra("Milvus Lite", "milvus") from error
    with _lite_lock:
        if _lite_users.get(place.uri):
            return
    advice = "name another with --milvus-uri"
    try:
        if Path(place.uri).is_file():
            raise StoreUnavailable(str(folder), f"{place.uri} is a file, and Milvus Lite keeps a folder", advice)
        Path(place.uri).parent.mkdir(parents=True, exist_ok=True)
        MilvusLite(place.uri).close()
    except DataDirLockedError as error:
        problem = f"{place.label} is in use by another process"
        raise StoreUnavailable(
            str(folder), problem, "stop that one, or use a Milvus server, which serves many at once"
        ) from error
    except OSError as error:
        problem = f"{place.label} cannot be opened ({error.strerror or error})"
        raise StoreUnavailable(str(folder), problem, advice) from error


def _release_lite(uri: str) -> None:
    from milvus_lite.server_manager import server_manager_instance

    with _lite_lock:
        _lite_users[uri] -= 1
        if not _lite_users[uri]:
            server_manager_instance.release_server(uri)
