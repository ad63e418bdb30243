"""What a caller of the library may search with: pictures in every form that a notebook has, vectors, ids, texts."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simsearch.errors import UnsupportedInput, UsageError
from simsearch.images.encode import encode_picture, encode_pixels
from simsearch.search.examples import AnyExample, Example, QueryVector, TextExample

_MIN_LENGTH = 1e-6
_FORMS = (
    "give a path, an address, bytes, an open file, a Pillow image, an array (h, w, 3) of uint8, a vector of floats, "
    "the id of a stored image, or a list of these"
)


class BinaryFile(Protocol):
    """A file that was opened in binary mode, or an object such as `io.BytesIO`."""

    def read(self) -> bytes:
        """Read all bytes."""
        ...


SingleInput = (
    str | os.PathLike[str] | int | np.integer[Any] | bytes | bytearray | memoryview | BinaryFile | Image.Image
    | NDArray[Any] | Example | TextExample
)  # fmt: skip
"""One query: see `make_examples`."""

ExampleInput = SingleInput | Iterable[SingleInput]
"""One query or several."""


def make_examples(inputs: ExampleInput) -> tuple[AnyExample, ...]:
    """Make examples of one query or several; pictures without a weight have the weight 1.

    | input | meaning |
    |---|---|
    | `str`, `os.PathLike` | a path, or an address of an object store or of the web |
    | `int`, NumPy integer | the id of a stored image; an array (n,) of integers: several |
    | `bytes`, open binary file | the content of a picture file |
    | Pillow image | a picture; its EXIF orientation is applied, transparency is put on white |
    | array (h, w, 3) of uint8 | the pixels of an RGB picture; (n, h, w, 3): several pictures |
    | array (d,) of floats, list of floats | a vector of the model, of any length but 0; (n, d): several vectors |
    | `Example`, `TextExample` | a picture with a weight or a crop; a text |

    Raises `UnsupportedInput`, a TypeError, for anything else, and `UsageError`, a ValueError, for an array of another
    shape or a vector without a direction.
    """
    return read_inputs(inputs)[0]


def read_inputs(inputs: ExampleInput) -> tuple[tuple[AnyExample, ...], bool]:
    """Make the examples of `make_examples`, and say whether the input is a single query rather than a list of them."""
    if (single := _make_example(inputs)) is not None:
        return (single,), True
    if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable):
        raise UnsupportedInput(f"an object of type {type(inputs).__name__} is not a query", _FORMS)
    values = list(inputs)
    if values and all(isinstance(value, float | np.floating) for value in values):
        return (Example(QueryVector(normalize_vector(np.asarray(values)))),), True
    return tuple(_make_each(value) for value in values), False


def _make_each(value: object) -> AnyExample:
    if (example := _make_example(value)) is None:
        raise UnsupportedInput(f"an object of type {type(value).__name__} is not a query", _FORMS)
    return example


def _make_example(value: object) -> AnyExample | None:
    """Make an example of a single input; None for several inputs, or an object of another type."""
    if isinstance(value, Example | TextExample):
        return value
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | np.integer):
        return Example(int(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return Example(bytes(value))
    if isinstance(value, str | os.PathLike):
        return Example(value)
    return _make_object_example(value)


def _make_object_example(value: object) -> Example | None:
    if isinstance(value, Image.Image):
        name = getattr(value, "filename", "") or f"a picture of {value.width} x {value.height} px"
        return Example(encode_picture(value), name=os.fsdecode(name))
    if hasattr(value, "__array__"):
        return _make_array_example(np.asarray(value))
    return _read_open_file(value) if hasattr(value, "read") else None


def _read_open_file(file: Any) -> Example:
    data = file.read()
    if not isinstance(data, bytes):
        raise UnsupportedInput("the open file gives text", 'open it in binary mode: open(path, "rb")')
    if not data and _is_at_end(file):
        raise UsageError("the open file has been read to its end", "call its seek(0) first")
    name = getattr(file, "name", None)
    return Example(data, name=name if isinstance(name, str) else None)


def _is_at_end(file: Any) -> bool:
    """Whether a file can tell that bytes have been read from it before."""
    try:
        return bool(file.seekable() and file.tell() > 0)
    except (AttributeError, OSError):
        return False


def _make_array_example(array: NDArray[Any]) -> Example | None:
    """Make an example of pixels or of a vector; None for an array of several."""
    kind, shape = array.dtype.kind, array.shape
    if kind not in "fiu" or (kind, array.ndim) in {("i", 1), ("u", 1), ("f", 2)} or array.ndim == 4:
        return None
    if kind == "f" and array.ndim == 1:
        return Example(QueryVector(normalize_vector(array)))
    if array.dtype == np.uint8 and array.ndim == 3 and shape[2] == 3 and min(shape) > 0:
        return Example(encode_pixels(array), name=f"a picture of {shape[1]} x {shape[0]} px")
    problem = f"an array {shape} of {array.dtype} is neither a picture nor a vector"
    raise UsageError(problem, "give pixels as (h, w, 3) of uint8, RGB from 0 to 255, or a vector as (d,) of floats")


def normalize_vector(vector: NDArray[Any]) -> NDArray[np.float32]:
    """Normalize a vector (d,) to unit length. Raises `UsageError` where it has no direction."""
    wide = np.asarray(vector, np.float64)
    length = math.sqrt(wide @ wide)
    if not _MIN_LENGTH < length < math.inf:
        problem = "a vector to search with has only zeros, or a number that is not finite"
        raise UsageError(problem, "give the vector of a picture, as the model or `Collection.embed` returns it")
    return np.asarray(wide / length, np.float32)
