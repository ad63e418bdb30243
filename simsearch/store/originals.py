"""The picture files of stored images, which may have changed or gone since they were indexed."""

from __future__ import annotations

from simsearch.errors import ImageError, UnreadableFile
from simsearch.images.decode import RawFile, read_raw_file
from simsearch.sources.addresses import is_url
from simsearch.store.snapshot import StoredFile, StoredImage


def read_original(image: StoredImage, max_pixels: int) -> RawFile:
    """Read the bytes of an image from the first of its files whose content is unchanged.

    The content of an image that was imported without its picture is not known, so that any content is its own.

    Raises `ImageError` if no file can be read, or if all files have another content now.
    """
    failure: ImageError | None = None
    for file in image.files:
        if image.is_unread and is_url(file.path):  # whoever made the vectors chose it; a server must not fetch it
            failure = UnreadableFile(file.path, "its picture was not read", "open the address in a browser")
            continue
        try:
            raw = read_raw_file(file.path, has_picture_extension=True, max_pixels=max_pixels)
        except ImageError as error:
            failure = error
            continue
        if raw.digest == image.digest or image.is_unread:
            return raw
        failure = _make_changed_error(file, raw)
    assert failure is not None  # a stored image has a file
    raise failure


def _make_changed_error(file: StoredFile, raw: RawFile) -> UnreadableFile:
    problem = "the file has changed since it was indexed"
    if (raw.size_bytes, raw.mtime_ns) == (file.size_bytes, file.mtime_ns):
        problem += ", with the same size and modification time"
        return UnreadableFile(file.path, problem, "run `simsearch index --rehash` on its folder")
    return UnreadableFile(file.path, problem, "run `simsearch index` again")
