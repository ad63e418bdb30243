"""S3 and compatible stores. No other module imports botocore.

Requests go through the client that s3fs creates, one call per request. fsspec's own file system interface returns no
ETag with a read, and no listing page by page: one page that fails would discard all pages before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp
import botocore.exceptions as failures

from simsearch.errors import UnreadableFile
from simsearch.sources.addresses import ObjectAddress
from simsearch.sources.retry import (
    AccessDenied,
    RemoteContent,
    RemoteNotFound,
    RemoteState,
    RemoteTooLarge,
    TemporaryFailure,
)
from simsearch.text import summarize_error

T = TypeVar("T")

N_CONNECTIONS = 64
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 15.0
_REQUEST_TIMEOUT_S = 120.0
"""Limits of one request: to connect, between two chunks, and in total."""

_CONNECTION_FAILURES = (
    failures.HTTPClientError,
    failures.ConnectionError,
    failures.IncompleteReadError,
    aiohttp.ClientError,
    OSError,
)
_BUSY_CODES = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout", "InternalError",
     "RequestTimeoutException", "BandwidthLimitExceeded", "TooManyRequests", "503", "429"}
)  # fmt: skip
_DENIED_CODES = frozenset({"ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_ARCHIVED_CODE = "InvalidObjectState"
_NO_BUCKET_CODE = "NoSuchBucket"
_EMPTY_RANGE_CODE = "InvalidRange"

CREDENTIALS_ADVICE = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`"
_ACCESS_ADVICE = (
    "ask the owner of the bucket for permission to list and read it, or use other credentials (AWS_PROFILE)"
)
_NETWORK_ADVICE = "check the network, AWS_ENDPOINT_URL and the region, and try again"


CLIENT_CONFIG: Mapping[str, Any] = {
    "connect_timeout": _CONNECT_TIMEOUT_S,
    "read_timeout": _READ_TIMEOUT_S,
    "retries": {"total_max_attempts": 1},
    "max_pool_connections": N_CONNECTIONS,
}
"""The configuration of the client: short timeouts, and one attempt, because `retry.Retrier` decides on retries."""


class S3Store:
    """One bucket. Each call sends one request. Thread-safe.

    Uses the credentials that botocore finds. Without any credentials, requests are anonymous and reach public objects.
    """

    def __init__(self, bucket: str, open_files: Callable[..., Any], timeout_s: float = _REQUEST_TIMEOUT_S) -> None:
        """`open_files()` creates an `S3FileSystem`, `open_files(anon=True)` one without credentials."""
        self._bucket, self._timeout_s = bucket, timeout_s
        self._bucket_address = ObjectAddress("s3", bucket, "")
        self.is_anonymous = False
        with self._translate_errors(self._bucket_address.address):
            self._file_system = open_files()
            self._client = self._run(self._file_system.set_session, self._file_system.loop)
            if not self._file_system.key and not self._file_system.anon and not self._has_credentials():
                self.is_anonymous = True
                self._file_system = open_files(anon=True)
                self._client = self._run(self._file_system.set_session, self._file_system.loop)

    def fetch_state(self, key: str) -> RemoteState:
        """Fetch the state of an object. Raises `UnreadableFile`."""
        response = self._send(key, lambda: self._client.head_object(**self._make_request_arguments(key)))
        return _parse_state(response, response["ContentLength"])

    def list_page(self, prefix: str, token: str | None) -> tuple[list[tuple[str, RemoteState]], str | None]:
        """List up to 1,000 keys with a prefix, and the token of the next page. Raises `UnreadableFile`."""
        more = {} if token is None else {"ContinuationToken": token}
        named = {"Bucket": self._bucket, "Prefix": prefix, **self._file_system.req_kw, **more}
        response = self._send(prefix, lambda: self._client.list_objects_v2(**named))
        entries = [(entry["Key"], _parse_state(entry, entry["Size"])) for entry in response.get("Contents", ())]
        return entries, response.get("NextContinuationToken") if response.get("IsTruncated") else None

    def read(self, key: str, *, head_bytes: int | None, max_bytes: int) -> RemoteContent:
        """Read an object whole, or its first `head_bytes` bytes. Raises `UnreadableFile`, `RemoteTooLarge`."""
        part = {} if head_bytes is None else {"Range": f"bytes=0-{head_bytes - 1}"}
        address = ObjectAddress("s3", self._bucket, key).address

        async def get_object() -> RemoteContent:
            response = await self._client.get_object(**self._make_request_arguments(key), **part)
            async with response["Body"] as body:
                n_bytes = response["ContentLength"]
                if head_bytes is None and n_bytes > max_bytes:
                    raise RemoteTooLarge(address, n_bytes)
                data = await body.read()
            if len(data) != n_bytes:
                raise TemporaryFailure(address, "the response was truncated", _NETWORK_ADVICE)
            _, _, size = response.get("ContentRange", "").rpartition("/")
            return RemoteContent(data, _parse_state(response, int(size or n_bytes)))

        try:
            return self._send(key, get_object)
        except _EmptyRange:
            return self.read(key, head_bytes=None, max_bytes=max_bytes)

    def _has_credentials(self) -> bool:
        return self._run(self._file_system.session.get_credentials, self._file_system.loop) is not None

    def _make_request_arguments(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": key, **self._file_system.req_kw}

    def _send(self, key: str, request: Callable[[], Awaitable[T]]) -> T:
        with self._translate_errors(ObjectAddress("s3", self._bucket, key).address):
            return self._run(request, self._file_system.loop)

    def _run(self, request: Callable[[], Awaitable[T]], loop: asyncio.AbstractEventLoop) -> T:
        async def run_with_timeout() -> T:
            async with asyncio.timeout(self._timeout_s):
                return await request()

        return asyncio.run_coroutine_threadsafe(run_with_timeout(), loop).result()

    @contextmanager
    def _translate_errors(self, address: str) -> Iterator[None]:
        """Translate errors of botocore and of the connection."""
        try:
            yield
        except failures.ClientError as error:
            raise self._translate_client_error(error, address) from error
        except (failures.NoCredentialsError, failures.PartialCredentialsError, failures.ProfileNotFound) as error:
            raise AccessDenied(address, str(error), CREDENTIALS_ADVICE) from error
        except (failures.TokenRetrievalError, failures.SSOError, failures.CredentialRetrievalError) as error:
            raise AccessDenied(address, str(error), "sign in again, such as with `aws sso login`") from error
        except (TimeoutError, failures.ConnectTimeoutError, failures.ReadTimeoutError) as error:
            raise TemporaryFailure(address, "the request timed out", _NETWORK_ADVICE) from error
        except failures.SSLError as error:
            raise UnreadableFile(
                address, f"the TLS connection failed ({summarize_error(error)})", "check AWS_CA_BUNDLE"
            ) from error
        except _CONNECTION_FAILURES as error:
            raise TemporaryFailure(
                address, f"the connection failed ({summarize_error(error)})", _NETWORK_ADVICE
            ) from error
        except (failures.BotoCoreError, ValueError) as error:
            raise UnreadableFile(address, summarize_error(error), "check the address and the AWS settings") from error

    def _translate_client_error(self, error: failures.ClientError, address: str) -> UnreadableFile:
        response = error.response
        code = str(response.get("Error", {}).get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        answer_code = f"{status} {code}" if code != str(status) else code
        if code == _NO_BUCKET_CODE:
            return RemoteNotFound(address, f"there is no bucket {self._bucket}", "check its name, and AWS_ENDPOINT_URL")
        if status == 404:
            return RemoteNotFound(address, "there is no such object", "check the address")
        if code == _ARCHIVED_CODE:
            return UnreadableFile(address, "the object is archived", "restore it from the archive first")
        if status >= 500 or status == 429 or code in _BUSY_CODES:
            return TemporaryFailure(address, f"the store answers {answer_code}", "try again later")
        if status in (401, 403) or code in _DENIED_CODES:
            return self._make_denied_error(address, answer_code)
        kind = _EmptyRange if code == _EMPTY_RANGE_CODE else UnreadableFile
        why = " ".join(str(response.get("Error", {}).get("Message", "")).split())
        return kind(address, f"the store answers {answer_code} ({why})", "check the address and the credentials")

    def _make_denied_error(self, address: str, answer_code: str) -> AccessDenied:
        if self.is_anonymous:
            return AccessDenied(
                address, f"no credentials were found, and the object is not public ({answer_code})", CREDENTIALS_ADVICE
            )
        return AccessDenied(address, f"access is denied ({answer_code})", _ACCESS_ADVICE)


class _EmptyRange(UnreadableFile):
    """An empty object has no first bytes."""


def _parse_state(response: dict[str, Any], size_bytes: int) -> RemoteState:
    etag = response.get("ETag")
    return RemoteState(size_bytes, round(response["LastModified"].timestamp() * 1e9), etag and etag.strip('"'))
