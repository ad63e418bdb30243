"""List the files of sources: folders, files and list files, local or remote, in a stable order."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from simsearch.errors import SourceError, UnreadableFile
from simsearch.sources.addresses import (
    canonicalize_address,
    canonicalize_path,
    derive_folder_name,
    extract_path,
    find_scheme,
    is_below,
    is_remote,
    join_address,
)
from simsearch.sources.list_files import is_broad_folder, parse_list
from simsearch.sources.remote import FolderListing, look_up, look_up_each, read_content
from simsearch.sources.retry import RemoteNotFound, RemoteState

_COMMON_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff", ".bmp", ".dib"}
)
_RARE_EXTENSIONS = frozenset({".heic", ".heif", ".hif", ".jp2", ".ppm", ".pgm", ".pbm"})
RAW_EXTENSIONS = frozenset({".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef"})
"""Extensions of RAW photos of cameras."""

_UNSUPPORTED_EXTENSIONS = frozenset({".jxl", ".svg", ".psd"})
_TWIN_EXTENSIONS = frozenset({".jpg", ".jpeg", ".heic", ".heif", ".hif"})
"""What a camera writes beside a RAW photo: the same picture, developed by the camera."""

PICTURE_EXTENSIONS = _COMMON_EXTENSIONS | _RARE_EXTENSIONS | RAW_EXTENSIONS | _UNSUPPORTED_EXTENSIONS
"""Extensions of picture files, in lower case. They include formats that cannot be read, so that such files are reported
as skipped. The type of a file is decided by its content."""

LIST_EXTENSIONS = frozenset({".txt", ".lst", ".list"})

_MAX_LIST_BYTES = 256_000_000

_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
"""Folders in which operating systems store thumbnails and metadata."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may hold a picture.

    `path` is an absolute path or an address; bytes that are not valid UTF-8 are Python's surrogate escapes, so that
    `open(path)` works for every name. `etag` is the version of a remote content; None for a local file, for which the
    modification time shows changes. Values that a server does not report are 0.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    etag: str | None = None

    @property
    def has_picture_extension(self) -> bool:
        """Whether the name has the extension of a picture format."""
        return _has_picture_extension(self.path)


@dataclass(frozen=True, slots=True)
class Skip:
    """A file that could not be read, with the reason."""

    path: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """The skip as the commands print it with --json."""
        return {"path": self.path, "reason": self.reason}


@dataclass(slots=True)
class Scan:
    """The files found at sources, in order.

    `folders` were listed completely, local or remote: a known file below one of them that was not found is gone. `gone`
    are listed paths that do not exist. `unreachable` could not be read; nothing is known about the files below them.
    """

    files: list[FoundFile] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    unreachable: list[str] = field(default_factory=list)

    def is_gone(self, path: str) -> bool:
        """Whether a path that was not found is deleted, and not just outside the sources or unreachable."""
        if path in self.gone:
            return True
        return any(_is_below(path, folder) for folder in self.folders) and not any(
            path == other or _is_below(path, other) for other in self.unreachable
        )


def scan_sources(sources: Sequence[str], stdin: bytes = b"", *, safe_links: bool = False) -> Scan:
    """List the files of `sources`: folders, pictures, list files (text files with one path per line), `-` for `stdin`.

    A source may be an address: a folder, an object or a list file in an object store (`s3://`, `gs://`, `az://`), a
    picture or a list file on the web (`http://`, `https://`).

    Entries of a folder are sorted by name, subfolders among the files. A file that is reached twice is listed once.
    Relative paths in a list file start from the current folder, or, for a remote list file, from its own folder.

    Symbolic links below a folder are followed, except one to the root of the file system or to a home folder, and with
    `safe_links` every link that leads out of its source; those are skips.

    Raises `SourceError` when a source does not exist or a list file cannot be used, `MissingExtra` when its store needs
    an optional package.
    """
    found = _Scanner(safe_links=safe_links)
    for source in sources:
        if source == "-":
            found.add_list(stdin, "the list on stdin")
        elif is_remote(source):
            _add_address(found, canonicalize_address(source))
        elif os.path.isdir(source):
            found.add_folder(_resolve_path(source))
        elif _is_list(source) and os.path.isfile(source):
            found.add_list(_read_list(source), source)
        elif os.path.lexists(source):
            found.add_file(_resolve_path(source))
        else:
            raise _make_missing_source_error(source)
    return found.result


def _add_address(found: _Scanner, address: str) -> None:
    try:
        remote = look_up(address)
        if isinstance(remote, RemoteState) and _is_list(address):
            found.add_list(read_content(address, max_bytes=_MAX_LIST_BYTES).data, address, base=address)
        else:
            found.add_remote(address, remote)
    except UnreadableFile as failure:
        raise SourceError(address, f"{address} cannot be read: {failure.problem}", failure.advice) from failure


def _make_missing_source_error(source: str) -> SourceError:
    if (scheme := find_scheme(source)) is None:
        return SourceError(source, f"{source} does not exist", "check the path")
    advice = "give an address with s3://, gs://, az://, http:// or https://, or download the files"
    return SourceError(source, f"{source} does not exist, and {scheme}:// is not a supported kind of address", advice)


def _is_list(source: str) -> bool:
    return os.path.splitext(extract_path(source))[1].lower() in LIST_EXTENSIONS


def derive_source_name(address: str) -> str:
    """Derive a folder name from the address of a source, as from a local folder or file."""
    stem, extension = os.path.splitext(name := derive_folder_name(address))
    return stem if extension.lower() in LIST_EXTENSIONS | PICTURE_EXTENSIONS else name


def _read_list(source: str) -> bytes:
    try:
        with open(source, "rb") as file:
            return file.read()
    except OSError as error:
        raise SourceError(source, f"{source} cannot be read ({error.strerror})", "check its permissions") from error


def _resolve_path(path: str) -> str:
    """Resolve a path; for a file only its folder, because a link in the last part is what the user named."""
    if os.path.isdir(path):
        return os.path.realpath(path)
    return canonicalize_path(path)


def _has_picture_extension(path: str) -> bool:
    return os.path.splitext(extract_path(path))[1].lower() in PICTURE_EXTENSIONS


def _is_below(path: str, folder: str) -> bool:
    if is_remote(folder):
        return path != folder and is_below(path, folder)
    return path.startswith(folder if folder.endswith(os.sep) else folder + os.sep)


class _Scanner:
    """Build a `Scan`; visited folders are recorded, so that cycles of symbolic links end."""

    def __init__(self, *, safe_links: bool = False) -> None:
        self.result = Scan()
        self._seen_paths: set[str] = set()
        self._visited_folders: set[tuple[int, int]] = set()
        self._safe_links = safe_links

    def add_list(self, content: bytes, name: str, base: str | None = None) -> None:
        """Add the entries of the list file `name`, in order. One at an address, its `base`, names no local files.

        Raises `SourceError` for an entry that is the root of the file system or a home folder: it is more likely a
        fault of the list than meant.
        """
        lines = parse_list(content, name)
        if base is not None:
            lines = [join_address(base, line) for line in lines]
        addresses = [canonicalize_address(line) for line in lines if is_remote(line)]
        looked_up = zip(addresses, look_up_each(addresses) if addresses else (), strict=True)
        for line in lines:
            if is_remote(line):
                self.add_remote(*next(looked_up))
            elif base is not None:
                self._skip(line, "not a supported kind of address; correct the list")
            elif os.path.isdir(line):
                if is_broad_folder(folder := _resolve_path(line)):
                    problem = f"{name} names {folder}, which holds a whole disk or home folder"
                    raise SourceError(name, problem, "correct the list, or give that folder itself as a source")
                self.add_folder(folder)
            else:
                self.add_file(_resolve_path(line))

    def add_remote(self, address: str, found: RemoteState | FolderListing | UnreadableFile) -> None:
        """Add an object, the objects of a folder, or the error of the look-up."""
        if isinstance(found, FolderListing):
            self.result.folders.append(found.folder)
            twins = find_raw_twins(inner for inner, _ in found.objects)
            for inner, state in found.objects:
                if inner not in twins and _is_visible(inner.removeprefix(found.folder)):
                    self._add_object(inner, state)
        elif isinstance(found, RemoteState):
            self._add_object(address, found)
        else:
            if isinstance(found, RemoteNotFound):
                self.result.gone.add(address)
            else:
                self.result.unreachable.append(address)
            self._skip(address, found.reason)

    def _add_object(self, address: str, state: RemoteState) -> None:
        if address not in self._seen_paths:
            self._seen_paths.add(address)
            self.result.files.append(FoundFile(address, state.size_bytes, state.mtime_ns, state.etag))

    def add_folder(self, folder: str) -> None:
        self.result.folders.append(folder)
        for path in self._walk_folder(folder):
            self.add_file(path)

    def _refuse_link(self, path: str, root: str) -> bool:
        """Whether a symbolic link below the source `root` is not followed, which is recorded as a skip."""
        target = os.path.realpath(path)
        if self._safe_links and not _is_below(target, root) and target != root:
            self._skip(path, "symbolic link that leads out of the source; leave out --safe-links to follow it")
            return True
        if os.path.isdir(path) and is_broad_folder(target) and not self._is_visited(path):
            advice = "give that folder itself as a source"
            self._skip(path, f"symbolic link to {target}, which holds a whole disk or home folder; {advice}")
            return True
        return False

    def _is_visited(self, folder: str) -> bool:
        status = os.stat(folder)
        return (status.st_dev, status.st_ino) in self._visited_folders

    def add_file(self, path: str) -> None:
        if path in self._seen_paths:
            return
        self._seen_paths.add(path)
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            is_link = os.path.islink(path)
            self.result.gone.add(path)
            self._skip(
                path,
                "broken symbolic link; fix or remove it" if is_link else "no such file; check the path",
            )
        except OSError as error:
            self.result.unreachable.append(path)
            advice = "shorten the path" if error.errno == errno.ENAMETOOLONG else "check the path and its permissions"
            self._skip(path, f"{error.strerror or error}; {advice}")
        else:
            if stat.S_ISREG(status.st_mode):
                self.result.files.append(FoundFile(path, status.st_size, status.st_mtime_ns))
            elif _has_picture_extension(path):
                self._skip(path, "not a regular file; remove it from the source")

    def _walk_folder(self, folder: str) -> Iterator[str]:
        entered = [iter(self._list_entries(folder))]  # an explicit stack: Python's recursion ends at 1,000 levels
        while entered:
            entry = next(entered[-1], None)
            if entry is None:
                entered.pop()
            elif entry.name.startswith(".") or (entry.is_symlink() and self._refuse_link(entry.path, folder)):
                continue
            elif _is_folder(entry):
                if entry.name not in _SYSTEM_FOLDERS:
                    entered.append(iter(self._list_entries(entry.path)))
            elif _is_file(entry) or _has_picture_extension(entry.name):
                yield entry.path

    def _list_entries(self, folder: str) -> list[os.DirEntry[str]]:
        """The entries of a folder, sorted by name; none where it was visited before or cannot be listed."""
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in self._visited_folders:
                return []
            self._visited_folders.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
            twins = find_raw_twins(entry.name for entry in listed)
            return [entry for entry in listed if entry.name not in twins] if twins else listed
        except OSError as error:
            self.result.unreachable.append(folder)
            self._skip(folder, f"the folder cannot be listed ({error.strerror}); check its permissions")
            return []

    def _skip(self, path: str, reason: str) -> None:
        self.result.skips.append(Skip(path, reason))


def find_raw_twins(names: Iterable[str]) -> set[str]:
    """Find the RAW photos among file names that have a JPEG or HEIC of the same name beside them: one picture."""
    split = [(name, *os.path.splitext(extract_path(name))) for name in names]
    raws = {name: stem for name, stem, extension in split if extension.lower() in RAW_EXTENSIONS}
    if not raws:
        return set()
    developed = {stem for _, stem, extension in split if extension.lower() in _TWIN_EXTENSIONS}
    return {name for name, stem in raws.items() if stem in developed}


def _is_visible(inner: str) -> bool:
    """Whether neither an object nor one of its parent folders is hidden or a system folder."""
    *folders, name = inner.split("/")
    return not name.startswith(".") and not any(
        folder.startswith(".") or folder in _SYSTEM_FOLDERS for folder in folders
    )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed, such as a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
