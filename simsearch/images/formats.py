"""Picture formats: which formats are decoded, and how a file is recognized by its first bytes."""

from __future__ import annotations

import contextlib
import ctypes

from PIL import _imaging

from simsearch.errors import ImageError, MissingExtra, NotAPicture

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "DIB", "JPEG2000", "PPM")
"""The formats that Pillow may try. Others are left out because some of them start other programs."""

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*")
_WEAK_SIGNATURES = (b"BM", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf", b"PF", b"Py", b"\0\0\0\x0cjP")
_FOREIGN_SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<svg", "an SVG drawing"),
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\0\0\0\0\0", "zeros"),
)


def silence_libtiff() -> None:
    """Stop libtiff from writing to stderr: its lines do not name the file, and what fails is an error anyway."""
    with contextlib.suppress(OSError, AttributeError):  # a Pillow without libtiff, or with one that exports nothing
        pillow = ctypes.CDLL(_imaging.__file__)  # loaded already; its functions include those of its libraries
        for set_handler in (pillow.TIFFSetErrorHandler, pillow.TIFFSetWarningHandler):
            set_handler.restype, set_handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            set_handler(None)


def register_heif(head: bytes, path: str) -> tuple[str, ...]:
    """Register the HEIF decoder for a file that starts as HEIF, and return the format names to add."""
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return ()
    try:
        import pillow_heif
    except ImportError as error:
        missing = MissingExtra("HEIC", "heif")
        raise ImageError(path, missing.problem, missing.advice) from error
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def make_unidentified_error(path: str, head: bytes) -> ImageError:
    """Build the error for a file that Pillow cannot identify, from its first bytes."""
    for magic, name in _FOREIGN_SIGNATURES:
        if head.startswith(magic):
            return NotAPicture(path, f"the content is {name}, not a picture", "fetch or export the picture again")
    if has_picture_signature(head):
        return ImageError(path, "damaged header", "restore it from a copy")
    if head.startswith(_TIFF_SIGNATURES):  # raw files of cameras among them
        problem = "damaged header, or an unsupported kind of TIFF"
        return ImageError(path, problem, "restore it from a copy, or convert it to JPEG or PNG")
    return NotAPicture(path, "the content is not a picture in a supported format", "convert it to JPEG or PNG")


def has_picture_signature(head: bytes) -> bool:
    """Whether only a picture in a supported format begins with these bytes."""
    in_container = head[8:12] == b"WEBP" or (head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS | _AVIF_BRANDS)
    return in_container or head.startswith(_SIGNATURES)


def can_be_picture(head: bytes) -> bool:
    """Whether a file with this beginning may be a picture; some formats are recognized by two bytes only."""
    return has_picture_signature(head) or head.startswith((*_TIFF_SIGNATURES, *_WEAK_SIGNATURES))
