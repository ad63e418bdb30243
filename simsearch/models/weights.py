"""Search for weights files: local folders first, then a download.

Search order: the file given by the user, the folder `$SIMSEARCH_WEIGHTS`, the user's cache, Keras's cache, and last a
download through Keras. `$SIMSEARCH_WEIGHTS_URL` is the base URL of a mirror that serves the files by their Keras names.
An error lists every place that was searched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import xxhash

from simsearch.errors import WeightsMismatch, WeightsMissing
from simsearch.files import open_regular_file
from simsearch.models.zoo import Backbone, WeightsFile

RANDOM_WEIGHTS = "random"
"""`--weights random`: seeded random numbers, to measure speed without weights."""

FOLDER_VARIABLE = "SIMSEARCH_WEIGHTS"
MIRROR_VARIABLE = "SIMSEARCH_WEIGHTS_URL"
CACHE_VARIABLE = "SIMSEARCH_CACHE"

Download = Callable[[WeightsFile, str, Path], None]
"""(file, URL, target folder): downloads a complete file or raises `OSError`."""


@dataclass(frozen=True, slots=True)
class WeightsOptions:
    """Where weights may come from: the path of a file, and whether downloads are forbidden.

    `accept_license` states that the user accepts a license with limits on use; without it, no such model is downloaded.
    """

    path: str | None = None
    offline: bool = False
    accept_license: bool = False


def find_cache_folder() -> Path:
    """The user's cache folder: `$SIMSEARCH_CACHE`, else the cache folder of the platform."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("simsearch"))


def has_head(file: str) -> bool:
    """Whether a weights file contains the classification head, judged by its name."""
    return re.search("no[-_]?top", Path(file).name.lower()) is None


def hash_file(path: str) -> str:
    """The xxh3_128 digest of a file's bytes, 32 hexadecimal digits.

    Raises `WeightsMismatch` when the file cannot be read.
    """
    hasher = xxhash.xxh3_128()
    try:
        with open_regular_file(path) as file:
            while block := file.read(1 << 22):
                hasher.update(block)
    except OSError as error:
        raise WeightsMismatch(f"cannot read {path} ({error.strerror})", "check the path and its permissions") from error
    return hasher.hexdigest()


def find(backbone: Backbone, options: WeightsOptions, *, with_head: bool, download: Download) -> str:
    """Find the weights of a backbone; download them if necessary and allowed. Returns the path of the file.

    Without `with_head`, a file without the classification head is preferred; a file with the head is accepted.

    Raises `WeightsMissing` when no file is found and none can be downloaded.
    """
    wanted = backbone.top if with_head else backbone.notop
    if options.path is not None:
        if os.path.isfile(options.path):
            return os.path.abspath(options.path)
        problem = "is a folder" if os.path.isdir(options.path) else "does not exist"
        raise _make_missing_error(backbone, wanted, f"{options.path} {problem}")
    if found := find_local(backbone, with_head=with_head):
        return found
    searched = ", ".join(str(folder) for folder in _list_search_folders())
    if options.offline:
        raise _make_missing_error(backbone, wanted, f"none in {searched}, and --offline forbids a download")
    try:
        download(wanted, _make_url(wanted), _find_download_folder())
    except OSError as error:
        raise _make_missing_error(backbone, wanted, f"none in {searched}, and the download failed ({error})") from error
    return str((_find_download_folder() / wanted.name).absolute())


def find_local(backbone: Backbone, *, with_head: bool) -> str | None:
    """Find the weights of a backbone on this machine; None where there are none."""
    return next(list_local(backbone, with_head=with_head), None)


def list_local(backbone: Backbone, *, with_head: bool) -> Iterator[str]:
    """All files on this machine that may be the weights of a backbone, the preferred one first."""
    for folder in _list_search_folders():
        for name in _list_file_names(backbone, with_head=with_head):
            if (folder / name).is_file():
                yield str((folder / name).absolute())


def _list_file_names(backbone: Backbone, *, with_head: bool) -> list[str]:
    top = [f"{backbone.name}.weights.h5", backbone.top.name]
    notop = [f"{backbone.name}_notop.weights.h5", backbone.notop.name]
    return top if with_head else notop + top


def _list_search_folders() -> list[Path]:
    named = os.environ.get(FOLDER_VARIABLE)
    keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    return [*([Path(named)] if named else []), _find_download_folder(), keras_home / "models"]


def _find_download_folder() -> Path:
    return find_cache_folder() / "weights"


def _make_url(wanted: WeightsFile) -> str:
    mirror = os.environ.get(MIRROR_VARIABLE)
    return f"{mirror.rstrip('/')}/{wanted.name}" if mirror else wanted.url


def _make_missing_error(backbone: Backbone, wanted: WeightsFile, detail: str) -> WeightsMissing:
    return WeightsMissing(
        backbone.name, file=wanted.name, url=_make_url(wanted), place=str(_find_download_folder()), detail=detail
    )
