"""Find the files of published models on this machine, or download them from a hub of repositories.

A model is searched as a whole, in this order: `$SIMSEARCH_WEIGHTS` (a folder named as the backbone, or as the
repository), the user's cache, and Hugging Face's cache (`$HF_HUB_CACHE`). A download goes to the user's cache; it comes
from `$HF_ENDPOINT`, or Hugging Face. `--offline` and `$HF_HUB_OFFLINE` forbid it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simsearch.errors import ModelError, SimsearchError, UnreadableFile, WeightsMissing
from simsearch.files import replace_file, translate_write_errors
from simsearch.models.onnx_file import read_onnx_outline
from simsearch.models.onnx_folder import detect_onnx_folder, list_model_paths
from simsearch.models.published import HubFile
from simsearch.models.weights import FOLDER_VARIABLE, find_cache_folder
from simsearch.sources.download import download_file
from simsearch.sources.progress import find_listener
from simsearch.sources.retry import AccessDenied, RemoteNotFound
from simsearch.sources.web import fetch

PREFIX = "hf:"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
_DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = frozenset({"1", "true", "yes", "on"})
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[A-Za-z0-9][\w.-]*")
_SMALL_BYTES = 16_000_000
_SETTINGS = re.compile(r"(.*/)?(preprocessor_config|processor_config|preprocess_cfg|open_clip_config|config)\.json")
_LICENSES = re.compile(r"(LICENSE|LICENCE|COPYING|NOTICE)(\.(md|txt))?", re.IGNORECASE)
_TEXT_SETTINGS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_PINS, _COMMIT, _COMPLETE = "pins.json", "commit.json", "complete"


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a hub at a revision: a commit, a branch or a tag. `alias` is the name of its row, if any."""

    name: str
    revision: str = "main"
    alias: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}" + ("" if self.revision == "main" else f"@{self.revision}")

    @property
    def cache_folder(self) -> Path:
        """Where the downloaded files lie, with their paths in the repository."""
        return find_cache_folder() / "weights" / self.name.replace("/", "--") / self.revision


def parse_repository(name: str) -> Repository:
    """Parse `hf:owner/repository` or `hf:owner/repository@revision`. Raises `ModelError`."""
    path, _, revision = name.removeprefix(PREFIX).partition("@")
    if not _REPOSITORY.fullmatch(path) or not _REVISION.fullmatch(revision or "main"):
        raise ModelError(f"{name!r} is no repository", "write hf:owner/repository or hf:owner/repository@revision")
    return Repository(path, revision or "main")


def is_offline(offline: bool) -> bool:
    """Whether downloads are forbidden, by the option or by `$HF_HUB_OFFLINE`."""
    return offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE


def find_folder(repository: Repository, files: Sequence[HubFile]) -> Path | None:
    """Find the folder on this machine that has all these files of a repository; None where there is none.

    A file of another size than the published one does not count.
    """
    for folder in _list_folders(repository):
        if folder.is_dir() and all(_is_there(folder / file.path, file) for file in files):
            return folder
    return None


def find_any_folder(repository: Repository) -> Path | None:
    """Find the first folder on this machine with the image encoder of a repository, whatever its files are called."""
    for folder in _list_folders(repository):
        is_own = folder == repository.cache_folder
        if folder.is_dir() and ((folder / _COMPLETE).is_file() if is_own else _has_image_encoder(folder)):
            return folder
    return None


def _has_image_encoder(folder: Path) -> bool:
    try:
        graph = folder / detect_onnx_folder(list_model_paths(folder), str(folder)).image
        return all((graph.parent / name).is_file() for name in read_onnx_outline(str(graph)).external_files)
    except ModelError:
        return False


def fetch_files(repository: Repository, files: Sequence[HubFile], *, offline: bool) -> Path:
    """Find the folder with these files of a repository, and download what is missing. Returns the folder.

    Raises `WeightsMissing` or another `ModelError`.
    """
    if folder := find_folder(repository, files):
        return folder
    name = repository.alias or str(repository)
    missing = [file for file in files if not _is_there(repository.cache_folder / file.path, file)]
    if is_offline(offline):
        why = "--offline" if offline else "HF_HUB_OFFLINE"
        detail = f"none in {_describe_folders(repository)}, and {why} forbids a download"
        raise _make_missing_error(repository, missing[0], name, detail)
    for file in missing:
        _download(repository, file, name)
    return repository.cache_folder


def fetch_repository(repository: Repository, *, offline: bool) -> tuple[Repository, Path]:
    """Find or download the image encoder, the settings and the license of any repository.

    Returns the repository at its commit, and the folder. Raises `ModelError`.
    """
    known = _read_commit(repository)
    if folder := find_any_folder(known):
        return known, folder
    if is_offline(offline):
        why = "--offline" if offline else "HF_HUB_OFFLINE"
        detail = f"none in {_describe_folders(known)}, and {why} forbids a download"
        raise _make_missing_error(known, HubFile("onnx/model.onnx"), str(repository), detail)
    pinned, listed = _list_files(repository)
    layout = detect_onnx_folder(listed, str(repository))
    wanted = [listed[path] for path in listed if _SETTINGS.fullmatch(path) or _LICENSES.fullmatch(path)]
    for file in (*wanted, listed[layout.image]):
        _download(pinned, file, str(repository))
    for path in read_onnx_outline(str(pinned.cache_folder / layout.image)).external_files:
        inner = (Path(layout.image).parent / path).as_posix()
        _download(pinned, listed.get(inner, HubFile(inner)), str(repository))
    _write_json(pinned.cache_folder / _COMPLETE, {"commit": pinned.revision})
    if pinned != repository:
        _write_json(repository.cache_folder / _COMMIT, {"commit": pinned.revision})
        find_listener().on_note(f"{repository} is pinned to its commit {pinned.revision}")
    return pinned, pinned.cache_folder


def _read_commit(repository: Repository) -> Repository:
    """The commit that a branch or tag was pinned to by its first download; the repository as it is without one."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        commit = json.loads((repository.cache_folder / _COMMIT).read_text(encoding="utf-8"))["commit"]
        return replace(repository, revision=str(commit))
    return repository


def fetch_text_files(repository: Repository, folder: Path) -> None:
    """Download the text encoder and the tokenizer of a repository, whose image encoder was downloaded to `folder`.

    Nothing is done for a folder that was not downloaded by this package. Raises `ModelError`.
    """
    if folder != repository.cache_folder:
        return
    _, listed = _list_files(repository)
    layout = detect_onnx_folder(listed, str(repository))
    graph = layout.text
    wanted = [path for path in listed if graph is not None and path in (graph, f"{graph}_data", f"{graph}.data")]
    if layout.tokenizer is not None:
        beside = Path(layout.tokenizer).parent
        wanted += [path for path in ((beside / name).as_posix() for name in _TEXT_SETTINGS) if path in listed]
    for path in wanted:
        _download(repository, listed[path], str(repository))


def make_url(repository: Repository, path: str) -> str:
    """The URL of a file of a repository."""
    return f"{_find_endpoint()}/{repository.name}/resolve/{repository.revision}/{path}"


def _find_endpoint() -> str:
    return (os.environ.get(ENDPOINT_VARIABLE) or _DEFAULT_ENDPOINT).rstrip("/")


def _list_folders(repository: Repository) -> list[Path]:
    """The folders that may have the files of a repository, in search order."""
    folders = []
    if named := os.environ.get(FOLDER_VARIABLE):
        names = [repository.alias, repository.name, repository.name.partition("/")[2]]
        folders += [Path(named) / name for name in names if name]
    folders.append(repository.cache_folder)
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cached = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{repository.name.replace('/', '--')}"
    revision = repository.revision
    reference = cached / "refs" / revision
    with contextlib.suppress(OSError, ValueError):
        revision = reference.read_text(encoding="utf-8").strip() or revision
    folders.append(cached / "snapshots" / revision)
    return folders


def _describe_folders(repository: Repository) -> str:
    return ", ".join(map(str, _list_folders(repository)))


def _is_there(path: Path, file: HubFile) -> bool:
    return path.is_file() and file.size_bytes in (0, path.stat().st_size)


def _download(repository: Repository, file: HubFile, name: str) -> None:
    """Download a file to the cache. A file of unknown digest is pinned: a later download must have the same content."""
    origin = Repository(file.repository or repository.name, file.revision or repository.revision)
    target = repository.cache_folder / file.path
    listener = find_listener()
    pinned = file.sha256 or _read_pins(repository).get(file.path, "")
    try:
        digest = download_file(
            make_url(origin, file.path),
            target,
            size_bytes=file.size_bytes,
            sha256=pinned,
            on_bytes=lambda n_done, n_total: listener.on_progress(f"{name} {target.name}", n_done, n_total),
        )
    except AccessDenied as error:
        problem = f"{origin.name} is not open to everybody ({error.problem})"
        advice = (
            f"accept its terms on {_find_endpoint()}/{origin.name}, download {file.path} there, and save it as {target}"
        )
        raise ModelError(f"no weights for {name}: {problem}", advice) from error
    except UnreadableFile as error:
        raise _make_missing_error(repository, file, name, f"the download failed ({error.problem})") from error
    except SimsearchError as error:
        raise ModelError(f"no weights for {name}: {error.problem}", error.advice) from error
    if not pinned and target.suffix in (".onnx", ".json") and not _SETTINGS.fullmatch(file.path):
        _write_pins(repository, {file.path: digest})
        listener.on_note(f"{file.path} of {origin.name} has no published digest; it is pinned to SHA-256 {digest}")


def _read_pins(repository: Repository) -> dict[str, str]:
    try:
        pins = json.loads((repository.cache_folder / _PINS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(path): str(digest) for path, digest in pins.items()} if isinstance(pins, dict) else {}


def _write_pins(repository: Repository, digests: dict[str, str]) -> None:
    _write_json(repository.cache_folder / _PINS, _read_pins(repository) | digests)


def _write_json(file: Path, fields: dict[str, str]) -> None:
    with translate_write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(file) as temporary:
            temporary.write_text(json.dumps(fields, indent=1), encoding="utf-8")


def _list_files(repository: Repository) -> tuple[Repository, dict[str, HubFile]]:
    """Ask the hub for the commit of a revision and its files, with sizes and digests where the hub has them."""
    url = f"{_find_endpoint()}/api/models/{repository.name}/revision/{repository.revision}?blobs=true"
    try:
        answer: Any = json.loads(fetch(url, max_bytes=_SMALL_BYTES))
        files = {}
        for entry in answer["siblings"]:
            path, stored = str(entry["rfilename"]), entry.get("lfs") or {}
            if path.startswith("/") or ".." in Path(path).parts:
                raise ValueError(f"the path {path} is outside of the repository")
            files[path] = HubFile(
                path, int(entry.get("size") or stored.get("size") or 0), str(stored.get("sha256") or "")
            )
        commit = str(answer.get("sha") or repository.revision)
        if not _REVISION.fullmatch(commit):
            raise ValueError("the commit has no valid name")
    except RemoteNotFound as error:
        advice = "check its name and revision"
        raise ModelError(f"the hub has no repository {repository} ({error.problem})", advice) from error
    except AccessDenied as error:
        problem = f"{repository} does not exist, or is not open to everybody ({error.problem})"
        raise ModelError(problem, f"check its name, and its terms on {_find_endpoint()}/{repository.name}") from error
    except UnreadableFile as error:
        raise ModelError(f"the files of {repository} cannot be listed ({error.problem})", error.advice) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"the hub sent no valid list of the files of {repository} ({error})"
        raise ModelError(problem, f"check ${ENDPOINT_VARIABLE}") from error
    return replace(repository, revision=commit), files


def _make_missing_error(repository: Repository, file: HubFile, name: str, detail: str) -> ModelError:
    if not repository.alias:  # a single file is not enough
        advice = "download the repository with another tool, and give its folder with --backbone"
        return ModelError(f"no weights for {name}: {detail}", advice)
    origin = Repository(file.repository or repository.name, file.revision or repository.revision)
    place = (repository.cache_folder / file.path).parent
    return WeightsMissing(
        name, file=Path(file.path).name, url=make_url(origin, file.path), place=str(place), detail=detail
    )
