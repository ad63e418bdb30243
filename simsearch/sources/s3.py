"""S3 and what speaks its protocol. The only import of botocore.

Asked through the client that s3fs sets up, one request at a time: file systems of fsspec tell neither the ETag of what
they read nor one page of a listing after the other, so that one page that fails would cost all pages before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp
import botocore.exceptions as failures

from simsearch.errors import Unreadable
from simsearch.sources.addresses import Place
from simsearch.sources.retry import Content, Denied, Missing, Passing, State, TooLarge, cause_of

T = TypeVar("T")

N_CONNECTIONS = 64
_CONNECT_S = 10.0
_SILENT_S = 15.0
_WHOLE_S = 120.0
"""What one request may take: to be connected, between two pieces, and altogether."""

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
_ARCHIVED = "InvalidObjectState"
_NO_BUCKET = "NoSuchBucket"
_EMPTY_RANGE = "InvalidRange"

NO_CREDENTIALS = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`"
_LOOK_AT_RIGHTS = "ask its owner for the right to list and read it, or use other credentials (AWS_PROFILE)"
_LOOK_AT_NETWORK = "check the network, AWS_ENDPOINT_URL and the region, and try again"


def settings() -> dict[str, Any]:
    """How s3fs is to set its client up: no waiting for long, and no asking again, which is decided elsewhere."""
    return {
        "connect_timeout": _CONNECT_S,
        "read_timeout": _SILENT_S,
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": N_CONNECTIONS,
    }


class S3Store:
    """One bucket. Every call is one attempt, and may be made from any thread.

    With the credentials that botocore finds; where there are none at all, as somebody unknown, who may read what is
    public.
    """

    def __init__(self, bucket: str, open_files: Callable[..., Any], whole_s: float = _WHOLE_S) -> None:
        """`open_files()` makes an `S3FileSystem`, `open_files(anon=True)` one that asks without credentials."""
        self._bucket, self._whole_s = bucket, whole_s
        self._place = Place("s3", bucket, "")
        self.is_anonymous = False
        with self._translated(self._place.address):
            self._files = open_files()
            self._client = self._wait(self._files.set_session, self._files.loop)
            if not self._files.key and not self._files.anon and not self._has_credentials():
                self.is_anonymous = True
                self._files = open_files(anon=True)
                self._client = self._wait(self._files.set_session, self._files.loop)

    def head(self, key: str) -> State:
        """The state of an object. Raises `Unreadable`."""
        answer = self._ask(key, lambda: self._client.head_object(**self._named(key)))
        return _state(answer, answer["ContentLength"])

    def page(self, prefix: str, after: str | None) -> tuple[list[tuple[str, State]], str | None]:
        """Up to a thousand keys below a prefix, and what to ask for those after them. Raises `Unreadable`."""
        more = {} if after is None else {"ContinuationToken": after}
        named = {"Bucket": self._bucket, "Prefix": prefix, **self._files.req_kw, **more}
        answer = self._ask(prefix, lambda: self._client.list_objects_v2(**named))
        entries = [(entry["Key"], _state(entry, entry["Size"])) for entry in answer.get("Contents", ())]
        return entries, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None

    def read(self, key: str, *, first: int | None, most_bytes: int) -> Content:
        """An object whole, or its first bytes. Raises `Unreadable`, `TooLarge`."""
        part = {} if first is None else {"Range": f"bytes=0-{first - 1}"}
        address = Place("s3", self._bucket, key).address

        async def whole() -> Content:
            answer = await self._client.get_object(**self._named(key), **part)
            async with answer["Body"] as body:
                n_bytes = answer["ContentLength"]
                if first is None and n_bytes > most_bytes:
                    raise TooLarge(address, n_bytes)
                data = await body.read()
            if len(data) != n_bytes:
                raise Passing(address, "it ends before its end", _LOOK_AT_NETWORK)
            _, _, size = answer.get("ContentRange", "").rpartition("/")
            return Content(data, _state(answer, int(size or n_bytes)))

        try:
            return self._ask(key, whole)
        except _NoSuchPart:
            return self.read(key, first=None, most_bytes=most_bytes)

    def _has_credentials(self) -> bool:
        return self._wait(self._files.session.get_credentials, self._files.loop) is not None

    def _named(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": key, **self._files.req_kw}

    def _ask(self, key: str, request: Callable[[], Awaitable[T]]) -> T:
        with self._translated(Place("s3", self._bucket, key).address):
            return self._wait(request, self._files.loop)

    def _wait(self, request: Callable[[], Awaitable[T]], loop: asyncio.AbstractEventLoop) -> T:
        async def in_time() -> T:
            async with asyncio.timeout(self._whole_s):
                return await request()

        return asyncio.run_coroutine_threadsafe(in_time(), loop).result()

    @contextmanager
    def _translated(self, address: str) -> Iterator[None]:
        """The errors of botocore and of the connection as ours."""
        try:
            yield
        except failures.ClientError as error:
            raise self._refusal(error, address) from error
        except (failures.NoCredentialsError, failures.PartialCredentialsError, failures.ProfileNotFound) as error:
            raise Denied(address, str(error), NO_CREDENTIALS) from error
        except (failures.TokenRetrievalError, failures.SSOError, failures.CredentialRetrievalError) as error:
            raise Denied(address, str(error), "sign in again, such as with `aws sso login`") from error
        except (TimeoutError, failures.ConnectTimeoutError, failures.ReadTimeoutError) as error:
            raise Passing(address, "it takes too long", _LOOK_AT_NETWORK) from error
        except failures.SSLError as error:
            raise Unreadable(
                address, f"the connection is not safe ({cause_of(error)})", "check AWS_CA_BUNDLE"
            ) from error
        except _CONNECTION_FAILURES as error:
            raise Passing(address, f"the connection failed ({cause_of(error)})", _LOOK_AT_NETWORK) from error
        except (failures.BotoCoreError, ValueError) as error:
            raise Unreadable(address, cause_of(error), "check the address and the settings of AWS") from error

    def _refusal(self, error: failures.ClientError, address: str) -> Unreadable:
        answer = error.response
        code = str(answer.get("Error", {}).get("Code", ""))
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        said = f"{status} {code}" if code != str(status) else code
        if code == _NO_BUCKET:
            return Missing(address, f"there is no bucket {self._bucket}", "check its name, and AWS_ENDPOINT_URL")
        if status == 404:
            return Missing(address, "there is no such object", "check the address")
        if code == _ARCHIVED:
            return Unreadable(address, "it is in an archive", "restore it there first")
        if status >= 500 or status == 429 or code in _BUSY_CODES:
            return Passing(address, f"the store answers {said}", "try again later")
        if status in (401, 403) or code in _DENIED_CODES:
            return self._denial(address, said)
        kind = _NoSuchPart if code == _EMPTY_RANGE else Unreadable
        why = " ".join(str(answer.get("Error", {}).get("Message", "")).split())
        return kind(address, f"the store answers {said} ({why})", "check the address and the credentials")

    def _denial(self, address: str, said: str) -> Denied:
        if self.is_anonymous:
            return Denied(address, f"no credentials were found, and it is not public ({said})", NO_CREDENTIALS)
        return Denied(address, f"access is denied ({said})", _LOOK_AT_RIGHTS)


class _NoSuchPart(Unreadable):
    """What is empty has no first bytes."""


def _state(answer: dict[str, Any], size_bytes: int) -> State:
    etag = answer.get("ETag")
    return State(size_bytes, round(answer["LastModified"].timestamp() * 1e9), etag and etag.strip('"'))
