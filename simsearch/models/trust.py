"""Which model files may run as programs: those that this user has named on this machine.

The graph of a SavedModel can read and write files, and a `.keras` file can name code. The catalog of a collection holds
the path of its model file, so a collection of somebody else could run a program. A model file is trusted once the user
names it (`--backbone FILE`, or a `ModelChoice`); the digest of its content is kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from simsearch.errors import ModelError, UntrustedModel
from simsearch.files import open_regular_file, replace_file
from simsearch.models.model import Model, Runtime
from simsearch.models.weights import find_cache_folder

PROGRAM_RUNTIMES: frozenset[Runtime] = frozenset({"saved-model", "keras-file"})
"""The kinds of model files that are programs. OpenVINO runs `.onnx` files and its own graphs as data."""

_BLOCK_BYTES = 1 << 22

_trusted_in_process: set[str] = set()  # where the cache folder cannot be written, trust ends with the process


def trust_model(model: Model) -> None:
    """Trust the file of a model that the user has named. Raises `ModelError` when the file cannot be read."""
    if model.runtime in PROGRAM_RUNTIMES and model.file is not None:
        trust_file(model.file)


def trust_file(file: str) -> None:
    """Trust a model file, or folder, for all later runs of this user on this machine.

    Raises `ModelError` when it cannot be read.
    """
    digest = _compute_digest(file)
    _trusted_in_process.add(digest)
    record = _locate_record(digest)
    with contextlib.suppress(OSError):  # a read-only home
        if not record.exists():
            record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replace_file(record) as temporary:
                temporary.write_text(f"{file}\n", encoding="utf-8", errors="backslashreplace")


def check_is_trusted(model: Model) -> None:
    """Check that a model of a catalog is data, or a program that this user has named on this machine.

    Raises `UntrustedModel`, or `ModelError` when the file cannot be read.
    """
    if model.runtime not in PROGRAM_RUNTIMES or model.file is None:
        return
    digest = _compute_digest(model.file)
    if digest not in _trusted_in_process and not _locate_record(digest).is_file():
        raise UntrustedModel(model.file)


def _locate_record(digest: str) -> Path:
    return find_cache_folder() / "trusted-models" / digest


def _compute_digest(path: str) -> str:
    """The SHA-256 digest of a model file, or of the names and contents of all files in a model folder.

    The other digests of the package (xxh3) find changes; they do not withstand somebody who wants two files to agree.
    """
    hasher = hashlib.sha256()
    try:
        for name, file in _list_files(path):
            with open_regular_file(file) as content:
                part = hashlib.sha256()
                while block := content.read(_BLOCK_BYTES):
                    part.update(block)
            hasher.update(len(name).to_bytes(8, "big") + name + part.digest())
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"cannot read {path} ({cause})", "check the path and its permissions") from error
    return hasher.hexdigest()


def _list_files(path: str) -> Iterator[tuple[bytes, str]]:
    """List the files of a model with their names relative to it. Linked folders count, as TensorFlow reads them too."""
    if os.path.isfile(path):
        yield b"", path
        return
    found, seen = [], set()
    for folder, inner, names in os.walk(path, followlinks=True, onerror=_raise):
        seen.add(os.path.realpath(folder))
        inner[:] = [name for name in inner if os.path.realpath(os.path.join(folder, name)) not in seen]  # no circles
        found += [os.path.join(folder, name) for name in names]
    yield from sorted((os.fsencode(os.path.relpath(file, path)), file) for file in found)


def _raise(error: OSError) -> None:
    raise error
