"""Read the outline of an ONNX file without a library: inputs, outputs, and the files that hold its weights.

An ONNX file is one Protocol Buffers message (github.com/onnx/onnx, onnx.proto). Only the fields that are needed here
are decoded; weights are stepped over, so a file of a gigabyte is read in milliseconds.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simsearch.errors import ModelError

ElementType = Literal["float32", "float16", "uint8", "int64", "int32", "other"]
_ELEMENT_TYPES: dict[int, ElementType] = {1: "float32", 2: "uint8", 6: "int32", 7: "int64", 10: "float16"}

# Numbers of the fields in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_TENSOR_NAME, _TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 8, 13, 14
_NODE_ATTRIBUTE, _ATTRIBUTE_TENSOR = 5, 5
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _TENSOR_TYPE_ELEMENT, _TENSOR_TYPE_SHAPE = 1, 1, 2
_SHAPE_AXIS, _AXIS_LENGTH = 1, 1

_MAX_OUTLINE_FIELDS = 5_000_000


@dataclass(frozen=True, slots=True)
class OnnxTensor:
    """An input or output of a graph. `shape` is None where it is unknown, and has None for axes of variable length."""

    name: str
    element_type: ElementType
    shape: tuple[int | None, ...] | None

    @property
    def rank(self) -> int | None:
        """The number of axes, where it is known."""
        return None if self.shape is None else len(self.shape)


@dataclass(frozen=True, slots=True)
class OnnxOutline:
    """The inputs and outputs of an ONNX file in their order, and its external data files, relative to its folder."""

    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]
    external_files: tuple[str, ...]


def read_onnx_outline(path: str) -> OnnxOutline:
    """Read the outline of an ONNX file.

    Raises `ModelError` when the file cannot be read, is no ONNX file, or names data files outside of its folder.
    """
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("the file is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                outline = _parse_model(_Message(content, 0, len(content)))
    except OSError as error:
        raise ModelError(f"cannot read {path} ({error.strerror})", "check the path and its permissions") from error
    except ValueError as error:
        advice = "export it again with one input and a variable batch size"
        raise ModelError(f"{path} cannot be read as ONNX ({error})", advice) from error
    for name in outline.external_files:
        if os.path.isabs(name) or ".." in Path(name).parts:
            advice = "export it again with its data file beside it"
            raise ModelError(f"{path} names the data file {name}, which is outside of its folder", advice)
    return outline


@dataclass(frozen=True, slots=True)
class _Message:
    """A message within the mapped file, from `start` to `end`."""

    content: mmap.mmap
    start: int
    end: int

    def fields(self) -> Iterator[tuple[int, int | _Message]]:
        """The fields as (number, value): an integer, or a part of the file. Raises `ValueError` for other content."""
        position, n_fields = self.start, 0
        while position < self.end:
            n_fields += 1
            key, position = _read_varint(self.content, position, self.end)
            number, kind = key >> 3, key & 7
            if number == 0 or n_fields > _MAX_OUTLINE_FIELDS:
                raise ValueError("it is not a Protocol Buffers message")
            if kind == 0:
                value, position = _read_varint(self.content, position, self.end)
                yield number, value
                continue
            if kind == 2:
                length, position = _read_varint(self.content, position, self.end)
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise ValueError("it is not a Protocol Buffers message")
            if length > self.end - position:
                raise ValueError("it is truncated")
            if kind == 2:
                yield number, _Message(self.content, position, position + length)
            position += length

    def messages(self, wanted: int) -> Iterator[_Message]:
        """The fields with this number that are messages, or bytes."""
        return (value for number, value in self.fields() if number == wanted and isinstance(value, _Message))

    def integer(self, wanted: int) -> int | None:
        """The last integer field with this number; None where there is none."""
        found = [value for number, value in self.fields() if number == wanted and isinstance(value, int)]
        return found[-1] if found else None

    def text(self, wanted: int) -> str:
        """The last text field with this number; empty where there is none."""
        found = [self.content[part.start : part.end] for part in self.messages(wanted)]
        return found[-1].decode("utf-8", "replace") if found else ""


def _read_varint(content: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = content[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise ValueError("it is truncated")


def _parse_model(model: _Message) -> OnnxOutline:
    graphs = list(model.messages(_MODEL_GRAPH))
    if not graphs:
        raise ValueError("it has no graph")
    graph = graphs[-1]
    initializers: set[str] = set()
    external: dict[str, None] = {}
    inputs, outputs = [], []
    for number, value in graph.fields():
        if not isinstance(value, _Message):
            continue
        if number == _GRAPH_INITIALIZER:
            initializers.add(value.text(_TENSOR_NAME))
            external |= dict.fromkeys(_list_external_files(value))
        elif number == _GRAPH_NODE:
            for attribute in value.messages(_NODE_ATTRIBUTE):
                for tensor in attribute.messages(_ATTRIBUTE_TENSOR):
                    external |= dict.fromkeys(_list_external_files(tensor))
        elif number == _GRAPH_INPUT:
            inputs.append(_parse_tensor(value))
        elif number == _GRAPH_OUTPUT:
            outputs.append(_parse_tensor(value))
    if not outputs:
        raise ValueError("it has no output")
    # Old exporters list the weights as inputs, too.
    return OnnxOutline(tuple(x for x in inputs if x.name not in initializers), tuple(outputs), tuple(external))


def _list_external_files(tensor: _Message) -> Iterator[str]:
    if tensor.integer(_TENSOR_DATA_LOCATION) == 1:
        for entry in tensor.messages(_TENSOR_EXTERNAL_DATA):
            if entry.text(1) == "location":
                yield entry.text(2)


def _parse_tensor(value: _Message) -> OnnxTensor:
    element_type: ElementType = "other"
    shape: tuple[int | None, ...] | None = None
    for kind in value.messages(_VALUE_TYPE):
        for tensor in kind.messages(_TYPE_TENSOR):
            element_type = _ELEMENT_TYPES.get(tensor.integer(_TENSOR_TYPE_ELEMENT) or 0, "other")
            for axes in tensor.messages(_TENSOR_TYPE_SHAPE):
                # A negative length, which some exporters write for a variable axis, is a large number here.
                lengths = [axis.integer(_AXIS_LENGTH) for axis in axes.messages(_SHAPE_AXIS)]
                shape = tuple(x if x is not None and 0 < x < 1 << 31 else None for x in lengths)
    return OnnxTensor(value.text(_VALUE_NAME), element_type, shape)
