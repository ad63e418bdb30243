"""Addresses of what is not on this machine: which texts are one, and what they are called and hold by their form alone.

In `s3://bucket/key` the key is taken as it is: `%`, `+`, `#`, `?` and `//` in it mean themselves. An http address is
escaped as the web has it, so that two spellings of one are one.
"""

from __future__ import annotations

import itertools
import os
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

_SCHEMES = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "az"),
    **dict.fromkeys(("http",), "http"),
    **dict.fromkeys(("https",), "https"),
}
"""Every scheme that is read, and how a catalog spells it."""

_ADDRESS_PATTERN = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_URL_SAFE_CHARACTERS = "%/:=&?~#+!$,;'@()*[]"
_UNSAFE_NAME_CHARACTERS = re.compile(r"[^\w.,()@+=~ -]")


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """Where something is in an object store; a `key` that is empty or ends in `/` is a folder's."""

    scheme: str
    bucket: str
    key: str

    @property
    def bucket_address(self) -> str:
        """The address of the bucket."""
        return f"{self.scheme}://{self.bucket}"

    @property
    def address(self) -> str:
        """The address, as a catalog holds it."""
        return f"{self.bucket_address}/{self.key}" if self.key else self.bucket_address

    @classmethod
    def parse(cls, address: str) -> ObjectAddress:
        """The parts of a canonical address in an object store."""
        scheme, _, rest = address.partition("://")
        bucket, _, key = rest.partition("/")
        return cls(scheme, bucket, key)


def is_remote(text: str) -> bool:
    """Whether a text is meant as an address in an object store or on the web, of a kind that is read."""
    return (scheme := find_scheme(text)) is not None and scheme in _SCHEMES


def is_url(text: str) -> bool:
    """Whether a text is meant as an address on the web, http or https."""
    return text.lower().startswith(("http://", "https://"))


def find_scheme(text: str) -> str | None:
    """What stands before `://`, in lower case; None where nothing does."""
    found = _ADDRESS_PATTERN.fullmatch(text)
    return None if found is None else found[1].lower()


def canonicalize_address(address: str) -> str:
    """The one spelling of an address under which a catalog knows it."""
    scheme, _, rest = address.partition("://")
    scheme = _SCHEMES[scheme.lower()]
    if scheme not in ("http", "https"):
        place = ObjectAddress.parse(f"{scheme}://{rest}")
        return place.address
    parts = urllib.parse.urlsplit(escape_url(f"{scheme}://{rest}"))
    return urllib.parse.urlunsplit((scheme, parts.netloc.lower(), parts.path or "/", parts.query, ""))


def canonicalize_path(path: str) -> str:
    """A path with its folder resolved, or the canonical spelling of an address: what a catalog knows either by.

    A link at the very end stays itself, as it is what was named.
    """
    if is_remote(path):
        return canonicalize_address(path)
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder or "."), name)


def escape_url(url: str) -> str:
    """A URL as it is sent: blanks and letters beyond ASCII escaped, what has a meaning in a URL left as it is."""
    return urllib.parse.quote(url, _URL_SAFE_CHARACTERS)


def extract_path(text: str) -> str:
    """What of a path or an address may end in an extension: all of it, without the query of a URL."""
    return urllib.parse.unquote(urllib.parse.urlsplit(text).path) if is_url(text) and _is_parsable_url(text) else text


def join_address(base: str, line: str) -> str:
    """Where a line of a list leads that lies at the address `base`, from which relative ones start."""
    if find_scheme(line) is not None:
        return line
    if is_url(base):
        return urllib.parse.urljoin(base, escape_url(line))
    place = ObjectAddress.parse(base)
    if line.startswith("/"):
        return f"{place.bucket_address}{line}"
    return f"{place.bucket_address}/{place.key[: place.key.rfind('/') + 1]}{line}"


def is_below(address: str, folder: str) -> bool:
    """Whether what is at an address lies in a folder of an object store, or is it."""
    inner = folder if folder.endswith("/") else f"{folder}/"
    return address == folder or address.startswith(inner)


def derive_folder_name(address: str) -> str:
    """What a folder on a disk may be called that is made after an address: its last part, or the bucket or host."""
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
    except ValueError:  # a bracket that is no part of an address
        return False
    return True


def find_common_folder(paths: Sequence[str]) -> str:
    """The innermost folder that all of these paths lie in, or all of these addresses, which end in its separator.

    Empty where there is none: of no paths, of such as lie on other drives, of paths and addresses.
    """
    if any(is_remote(path) for path in paths):
        folders = sorted(path[: path.rfind("/") + 1] for path in paths)
        alike = itertools.takewhile(lambda signs: signs[0] == signs[1], zip(folders[0], folders[-1], strict=False))
        shared = "".join(sign for sign, _ in alike)
        return shared[: shared.rfind("/") + 1]
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:
        return ""
