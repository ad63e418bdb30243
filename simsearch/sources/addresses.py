"""Remote addresses: recognize, parse, join and canonicalize `s3://`, `gs://`, `az://`, `http://` and `https://`.

In `s3://bucket/key` the key is literal: `%`, `+`, `#`, `?` and `//` have no special meaning. A web address is
percent-escaped, so that two spellings of an address become one.
"""

from __future__ import annotations

import itertools
import os
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SCHEMES = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "az"),
    **dict.fromkeys(("http",), "http"),
    **dict.fromkeys(("https",), "https"),
}
"""The supported schemes, and the spelling of each in a catalog."""

_ADDRESS_PATTERN = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_URL_SAFE_CHARACTERS = "%/:=&?~#+!$,;'@()*[]"
_UNSAFE_NAME_CHARACTERS = re.compile(r"[^\w.,()@+=~ -]")


Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""One path or address, or several."""


def list_paths(paths: Paths) -> list[str]:
    """The paths as texts, in a list; a single one is a list of one."""
    return [os.fspath(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """An address in an object store. A `key` that is empty or ends in `/` is a folder."""

    scheme: str
    bucket: str
    key: str

    @property
    def bucket_address(self) -> str:
        """The address of the bucket."""
        return f"{self.scheme}://{self.bucket}"

    @property
    def address(self) -> str:
        """The address as stored in a catalog."""
        return f"{self.bucket_address}/{self.key}" if self.key else self.bucket_address

    @classmethod
    def parse(cls, address: str) -> ObjectAddress:
        """Split a canonical address in an object store."""
        scheme, _, rest = address.partition("://")
        bucket, _, key = rest.partition("/")
        return cls(scheme, bucket, key)


def is_remote(text: str) -> bool:
    """Whether a text is an address with a supported scheme."""
    return (scheme := find_scheme(text)) is not None and scheme in _SCHEMES


def is_url(text: str) -> bool:
    """Whether a text is a web address, http or https."""
    return text.lower().startswith(("http://", "https://"))


def find_scheme(text: str) -> str | None:
    """Find the scheme, the part before `://` in lower case; None where there is none."""
    found = _ADDRESS_PATTERN.fullmatch(text)
    return None if found is None else found[1].lower()


def canonicalize_address(address: str) -> str:
    """Convert an address to the spelling that catalogs use."""
    scheme, _, rest = address.partition("://")
    scheme = _SCHEMES[scheme.lower()]
    if scheme not in ("http", "https"):
        return ObjectAddress.parse(f"{scheme}://{rest}").address
    parts = urllib.parse.urlsplit(escape_url(f"{scheme}://{rest}"))
    return urllib.parse.urlunsplit((scheme, parts.netloc.lower(), parts.path or "/", parts.query, ""))


def canonicalize_path(path: str) -> str:
    """Convert a path or an address to the form that catalogs use: the folder of a path is resolved.

    A symbolic link in the last part of a path is kept, because the link is what the user named.
    """
    if is_remote(path):
        return canonicalize_address(path)
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder or "."), name)


def escape_url(url: str) -> str:
    """Percent-escape spaces and non-ASCII characters of a URL; keep characters that have a meaning in URLs."""
    return urllib.parse.quote(url, _URL_SAFE_CHARACTERS)


def extract_path(text: str) -> str:
    """Extract the part that may end in a file extension: everything, but without the query of a URL."""
    return urllib.parse.unquote(urllib.parse.urlsplit(text).path) if is_url(text) and _is_parsable_url(text) else text


def join_address(base: str, line: str) -> str:
    """Resolve a line of a list file at the address `base`; relative lines start from its folder."""
    if find_scheme(line) is not None:
        return line
    if is_url(base):
        return urllib.parse.urljoin(base, escape_url(line))
    list_address = ObjectAddress.parse(base)
    if line.startswith("/"):
        return f"{list_address.bucket_address}{line}"
    folder = list_address.key[: list_address.key.rfind("/") + 1]
    return f"{list_address.bucket_address}/{folder}{line}"


def is_below(address: str, folder: str) -> bool:
    """Whether an address is a folder of an object store, or lies in it."""
    inner = folder if folder.endswith("/") else f"{folder}/"
    return address == folder or address.startswith(inner)


def derive_folder_name(address: str) -> str:
    """Derive a folder name for the disk from an address: its last part, else the bucket or host."""
    parts = (
        urllib.parse.unquote(urllib.parse.urlsplit(address).path)
        if is_url(address)
        else ObjectAddress.parse(address).key
    )
    store = urllib.parse.urlsplit(address).netloc if is_url(address) else ObjectAddress.parse(address).bucket
    for part in (*reversed(parts.split("/")), store):
        if name := _UNSAFE_NAME_CHARACTERS.sub("_", part).strip(". "):
            return name
    return "images"


def _is_parsable_url(url: str) -> bool:
    try:
        urllib.parse.urlsplit(url)
    except ValueError:  # such as unbalanced brackets
        return False
    return True


def find_common_folder(paths: Sequence[str]) -> str:
    """Find the innermost common folder of paths, or of addresses; the folder of addresses ends in `/`.

    Empty where there is none: for no paths, for paths on different drives, for a mix of paths and addresses.
    """
    if any(is_remote(path) for path in paths):
        folders = sorted(path[: path.rfind("/") + 1] for path in paths)
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(folders[0], folders[-1], strict=False))
        shared = "".join(character for character, _ in alike)
        return shared[: shared.rfind("/") + 1]
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:
        return ""
