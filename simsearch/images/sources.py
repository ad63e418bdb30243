"""Folders, files and lists, turned into files in a stable order."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from simsearch.errors import SourceError

_READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff", ".bmp", ".dib")
_READ_TOO = (".heic", ".heif", ".hif", ".jp2", ".ppm", ".pgm", ".pbm")
_NOT_READ = (".jxl", ".svg", ".psd", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef")

PICTURE_EXTENSIONS = frozenset((*_READ, *_READ_TOO, *_NOT_READ))
"""Extensions that announce a picture, lower case, those of formats that are not read among them, so that their owner
is told. What a file *is* is decided by its content."""

LIST_EXTENSIONS = frozenset({".txt", ".lst", ".list"})

_FOREIGN_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
"""Folders that systems write their own thumbnails and leftovers into."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may hold a picture.

    `path` is absolute; bytes that are no valid UTF-8 are kept as Python's surrogate escapes, so that
    `open(path)` works on every name. `etag` is what an object store calls the state of the content; None for a file
    on a disk, whose state is its modification time.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    etag: str | None = None

    @property
    def claims_picture(self) -> bool:
        """Whether the name says that this is a picture."""
        return _claims_picture(self.path)


@dataclass(frozen=True, slots=True)
class Skip:
    """A file that could not be read, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Scan:
    """Everything found at some sources, in order.

    A folder that was listed speaks for everything below it: what it no longer holds is gone. Folders that
    could not be opened are `silent`: nothing is known about what they hold.
    """

    files: list[FoundFile] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    silent: list[str] = field(default_factory=list)

    def missed(self, path: str) -> bool:
        """Whether `path`, which was not found, must be gone (and not just out of sight)."""
        if path in self.gone:
            return True
        return any(_below(path, folder) for folder in self.folders) and not any(
            path == place or _below(path, place) for place in self.silent
        )


def scan(sources: Sequence[str], stdin: bytes = b"") -> Scan:
    """List the files at `sources`: folders, pictures, text files that list paths, `-` for `stdin`.

    Within a folder, entries come in the order of their names, folders in their place among the files. A file
    reached twice is listed once. Relative paths in a list are relative to the current folder.

    Raises `SourceError` when a source is not there.
    """
    found = _Walk()
    for source in sources:
        if source == "-":
            found.add_list(stdin)
        elif os.path.isdir(source):
            found.add_folder(_canonical(source))
        elif os.path.splitext(source)[1].lower() in LIST_EXTENSIONS and os.path.isfile(source):
            found.add_list(_read_list(source))
        elif os.path.lexists(source):
            found.add_file(_canonical(source))
        else:
            raise SourceError(source, f"{source} does not exist", "check the path")
    return found.scan


def _read_list(source: str) -> bytes:
    try:
        with open(source, "rb") as file:
            return file.read()
    except OSError as error:
        raise SourceError(source, f"{source} cannot be read ({error.strerror})", "check its rights") from error


def _canonical(path: str) -> str:
    """The path with its folder resolved; a link at the very end stays itself, as it is what was named."""
    if os.path.isdir(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder or "."), name)


def _claims_picture(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in PICTURE_EXTENSIONS


def _below(path: str, folder: str) -> bool:
    return path.startswith(folder if folder.endswith(os.sep) else folder + os.sep)


class _Walk:
    """A scan in the making: remembers what was visited, so that loops of links end."""

    def __init__(self) -> None:
        self.scan = Scan()
        self._paths: set[str] = set()
        self._folders: set[tuple[int, int]] = set()

    def add_list(self, content: bytes) -> None:
        content = content.removeprefix(codecs.BOM_UTF8)  # Windows' editors begin a text with one
        has_nul = b"\0" in content
        for line in content.split(b"\0" if has_nul else b"\n"):
            path = os.fsdecode(line if has_nul else line.rstrip(b"\r"))
            if not path.strip():
                continue
            if os.path.isdir(path):
                self.add_folder(_canonical(path))
            else:
                self.add_file(_canonical(path))

    def add_folder(self, folder: str) -> None:
        self.scan.folders.append(folder)
        for path in self._walk(folder):
            self.add_file(path)

    def add_file(self, path: str) -> None:
        if path in self._paths:
            return
        self._paths.add(path)
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            is_link = os.path.islink(path)
            self.scan.gone.add(path)
            self._skip(
                path,
                "the link points nowhere; mend or remove it" if is_link else "no such file; check the path",
            )
        except OSError as error:
            self.scan.silent.append(path)
            self._skip(path, f"{error.strerror or error}; check the path and its rights")
        else:
            if stat.S_ISREG(status.st_mode):
                self.scan.files.append(FoundFile(path, status.st_size, status.st_mtime_ns))
            elif _claims_picture(path):
                self._skip(path, "not a regular file; remove it from the source")

    def _walk(self, folder: str) -> Iterator[str]:
        entered = [iter(self._entries(folder))]  # a stack of its own, as Python's ends at a thousand folders
        while entered:
            entry = next(entered[-1], None)
            if entry is None:
                entered.pop()
            elif entry.name.startswith("."):
                continue
            elif _is_folder(entry):
                if entry.name not in _FOREIGN_FOLDERS:
                    entered.append(iter(self._entries(entry.path)))
            elif _is_file(entry) or _claims_picture(entry.name):
                yield entry.path

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What a folder holds, by name; nothing where it was visited before or cannot be listed."""
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in self._folders:
                return []
            self._folders.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.scan.silent.append(folder)
            self._skip(folder, f"folder cannot be listed ({error.strerror}); check its rights")
            return []

    def _skip(self, path: str, reason: str) -> None:
        self.scan.skips.append(Skip(path, reason))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed, such as one to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
