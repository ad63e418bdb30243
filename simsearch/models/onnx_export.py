"""Write a network, with a map of its vectors, as an ONNX file that this and other programs can run.

The operations are those of convolutional networks, as the built-in backbone and the Keras zoo use them. The only import
of the `onnx` package.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import MissingExtra, ModelError
from simsearch.files import replace_file
from simsearch.models.graph_operations import Operation, read_constant
from simsearch.models.model import NORM_FLOOR, Model

if TYPE_CHECKING:
    from simsearch.models.label_map import LabelMap

_OPSET = 18
_IR_VERSION = 9  # the first one with this operation set; newer ones are not read by older runtimes
_INPUT, _OUTPUT = "pixels", "vectors"


def write_onnx(file: Path, operations: list[Operation], model: Model, label_map: LabelMap) -> None:
    """Write the network and the map: float32 pixels (n, side, side, 3) from 0 to 255, to unit rows (n, width).

    Beside it a JSON file of the same name states the input, so that `--backbone FILE` works as it is. Raises
    `MissingExtra`, or `ModelError` where the network has an operation that cannot be written.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("writing an ONNX file", "onnx") from error
    graph = _GraphWriter(operations)
    try:
        vectors = graph.write_operations()
    except (KeyError, ValueError) as error:
        problem = f"the network of {model.backbone} cannot be written as ONNX ({error})"
        raise ModelError(problem, "learn with another backbone, or leave out --export") from error
    graph.write_label_map(vectors, label_map)
    pixels = onnx.helper.make_tensor_value_info(
        _INPUT, onnx.TensorProto.FLOAT, ["batch", model.side_px, model.side_px, 3]
    )
    rows = onnx.helper.make_tensor_value_info(_OUTPUT, onnx.TensorProto.FLOAT, ["batch", label_map.width])
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, model.backbone, [pixels], [rows], graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="simsearch",
    )
    settings: dict[str, Any] = {"side": model.side_px, "resize": model.resize, "scaling": "none"}
    settings["interpolation"] = model.interpolation
    if model.shortest_px is not None:
        settings["shortest"] = model.shortest_px
    with replace_file(file) as temporary:
        temporary.write_bytes(proto.SerializeToString())
    with replace_file(file.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


class _GraphWriter:
    """Collects ONNX nodes and constants. A tensor has the position of its operation as its name."""

    def __init__(self, operations: list[Operation]) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._operations = operations

    def write_operations(self) -> str:
        """Write all operations, and return the name of the network's result."""
        result = ""
        for position, operation in enumerate(self._operations):
            if operation.type == "Parameter":
                self._add("Identity", [_INPUT], str(position))
            elif operation.type == "Constant":
                self._add_constant(str(position), read_constant(self._operations, position))
            elif operation.type == "Result":
                result = str(operation.inputs[0])
            else:
                _WRITERS[operation.type](self, operation, str(position))
        return result

    def write_label_map(self, vectors: str, label_map: LabelMap) -> None:
        """Write what `LabelMap.apply` computes."""
        rows = np.array([1])
        self._add("Sub", [vectors, self.add_value(label_map.whitening.mean)], "centered")
        self._add("MatMul", ["centered", self.add_value(label_map.whitening.axes)], "mapped")
        if label_map.class_weight <= 0:
            self._normalize("mapped", _OUTPUT, NORM_FLOOR**2, "max", rows)
            return
        self._normalize("mapped", "whitened", NORM_FLOOR**2, "max", rows)
        self._add("MatMul", ["centered", self.add_value(label_map.class_weights)], "scores")
        self._add("Softmax", ["scores"], "probabilities", axis=1)
        scale = label_map.probability_scale * label_map.class_weight**0.5
        shares = {"whitened": (1 - label_map.class_weight) ** 0.5, "probabilities": scale}
        for name, share in shares.items():
            self._add("Mul", [name, self.add_value(np.float32(share))], f"{name}_share")
        self._add("Concat", [f"{name}_share" for name in shares], "joined", axis=1)
        self._normalize("joined", _OUTPUT, NORM_FLOOR**2, "max", rows)

    # Operations, by the names of OpenVINO

    def write_same(self, name: str, operation: Operation, output: str, **attributes: Any) -> None:
        """Write an operation that ONNX has with the same operands."""
        self._add(name, [str(at) for at in operation.inputs], output, **attributes)

    def write_convert(self, operation: Operation, output: str) -> None:
        """Write a conversion of the element type. The input holds float32 already."""
        import onnx

        target = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(operation.element_type))
        self.write_same("Cast", operation, output, to=target)

    def write_convolution(self, operation: Operation, output: str) -> None:
        """Write a convolution; the kernel of a grouped one (g, o, i, h, w) becomes (g * o, i, h, w)."""
        data, kernel = operation.inputs
        name, attributes = str(kernel), _read_window(operation)
        shape = self._operations[kernel].shape
        if operation.type == "GroupConvolution":
            name = f"{output}_kernel"
            target = np.array([shape[0] * shape[1], *shape[2:]], np.int64)
            self._add("Reshape", [str(kernel), self.add_value(target)], name)
            attributes["group"] = shape[0]
            shape = tuple(target.tolist())
        attributes["kernel_shape"] = list(shape[2:])
        self._add("Conv", [str(data), name], output, dilations=list(operation.attributes["dilations"]), **attributes)

    def write_pool(self, name: str, operation: Operation, output: str) -> None:
        """Write an average or maximum over a sliding window."""
        attributes = _read_window(operation) | {"kernel_shape": list(operation.attributes["kernel"])}
        if name == "AveragePool":
            attributes["count_include_pad"] = int(not operation.attributes["exclude-pad"])
        attributes["ceil_mode"] = int("ceil" in operation.attributes["rounding_type"])
        self._add(name, [str(operation.inputs[0])], output, **attributes)

    def write_clamp(self, operation: Operation, output: str) -> None:
        """Write a restriction to a range."""
        bounds = [self.add_value(np.float32(operation.attributes[name])) for name in ("min", "max")]
        self._add("Clip", [str(operation.inputs[0]), *bounds], output)

    def write_transpose(self, operation: Operation, output: str) -> None:
        """Write a transposition whose order is constant."""
        order = read_constant(self._operations, operation.inputs[1])
        self._add("Transpose", [str(operation.inputs[0])], output, perm=order.tolist())

    def write_reduction(self, name: str, operation: Operation, output: str) -> None:
        """Write a reduction over constant axes."""
        axes = self.add_value(self._read_axes(operation))
        keeps = int(operation.attributes["keep_dims"])
        self._add(name, [str(operation.inputs[0]), axes], output, keepdims=keeps)

    def write_reshaping(self, name: str, operation: Operation, output: str) -> None:
        """Write an operation that takes integers as its second operand: Reshape, Squeeze, Unsqueeze."""
        numbers = self.add_value(np.atleast_1d(read_constant(self._operations, operation.inputs[1])).astype(np.int64))
        self._add(name, [str(operation.inputs[0]), numbers], output)

    def write_matmul(self, operation: Operation, output: str) -> None:
        """Write a matrix product; transposed operands are transposed before."""
        names = []
        for at, flag in zip(operation.inputs, ("transpose_a", "transpose_b"), strict=True):
            name = str(at)
            if operation.attributes[flag]:
                rank = self._operations[at].rank
                order = [*range(rank - 2), rank - 1, rank - 2]
                self._add("Transpose", [name], f"{output}_{flag}", perm=order)
                name = f"{output}_{flag}"
            names.append(name)
        self._add("MatMul", names, output)

    def write_swish(self, operation: Operation, output: str) -> None:
        """Write x * sigmoid(b * x); b is 1 where there is no second operand."""
        data, *factor = map(str, operation.inputs)
        gate = data
        if factor:
            gate = f"{output}_gate"
            self._add("Mul", [data, *factor], gate)
        self._add("Sigmoid", [gate], f"{output}_sigmoid")
        self._add("Mul", [data, f"{output}_sigmoid"], output)

    def write_pad(self, operation: Operation, output: str) -> None:
        """Write padding with a constant."""
        if operation.attributes["pad_mode"] != "constant":
            raise ValueError(f"Pad with mode {operation.attributes['pad_mode']}")
        begins, ends = (read_constant(self._operations, at) for at in operation.inputs[1:3])
        pads = self.add_value(np.concatenate([begins, ends]).astype(np.int64))
        self._add("Pad", [str(operation.inputs[0]), pads, *map(str, operation.inputs[3:])], output, mode="constant")

    def write_normalization(self, operation: Operation, output: str) -> None:
        """Write the division of each row by its length."""
        attributes = operation.attributes
        axes = self._read_axes(operation)
        self._normalize(str(operation.inputs[0]), output, attributes["eps"], attributes["eps_mode"], axes)

    # Helpers

    def add_value(self, value: NDArray[Any] | np.generic) -> str:
        """Add a constant, and return its name."""
        name = f"constant_{len(self.constants)}"
        self._add_constant(name, np.asarray(value))
        return name

    def _normalize(self, data: str, output: str, eps: float, mode: str, axes: NDArray[np.int64]) -> None:
        self._add("ReduceSumSquare", [data, self.add_value(axes)], f"{output}_square", keepdims=1)
        floor = self.add_value(np.float32(eps))
        self._add("Max" if mode == "max" else "Add", [f"{output}_square", floor], f"{output}_floored")
        self._add("Sqrt", [f"{output}_floored"], f"{output}_length")
        self._add("Div", [data, f"{output}_length"], output)

    def _read_axes(self, operation: Operation) -> NDArray[np.int64]:
        return np.atleast_1d(read_constant(self._operations, operation.inputs[1])).astype(np.int64)

    def _add(self, name: str, inputs: list[str], output: str, **attributes: Any) -> None:
        import onnx

        self.nodes.append(onnx.helper.make_node(name, inputs, [output], **attributes))

    def _add_constant(self, name: str, value: NDArray[Any]) -> None:
        import onnx

        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))


def _read_window(operation: Operation) -> dict[str, Any]:
    """Strides and padding of a sliding window, as ONNX attributes."""
    attributes = operation.attributes
    if attributes["auto_pad"] in ("same_upper", "same_lower"):
        return {"strides": list(attributes["strides"]), "auto_pad": attributes["auto_pad"].upper()}
    if attributes["auto_pad"] == "valid":
        return {"strides": list(attributes["strides"]), "auto_pad": "VALID"}
    return {"strides": list(attributes["strides"]), "pads": [*attributes["pads_begin"], *attributes["pads_end"]]}


def _same(name: str, **attributes: Any) -> Callable[[_GraphWriter, Operation, str], None]:
    return lambda graph, operation, output: graph.write_same(name, operation, output, **attributes)


def _reduce(name: str) -> Callable[[_GraphWriter, Operation, str], None]:
    return lambda graph, operation, output: graph.write_reduction(name, operation, output)


def _reshape(name: str) -> Callable[[_GraphWriter, Operation, str], None]:
    return lambda graph, operation, output: graph.write_reshaping(name, operation, output)


def _pool(name: str) -> Callable[[_GraphWriter, Operation, str], None]:
    return lambda graph, operation, output: graph.write_pool(name, operation, output)


_WRITERS: dict[str, Callable[[_GraphWriter, Operation, str], None]] = {
    "Add": _same("Add"),
    "Subtract": _same("Sub"),
    "Multiply": _same("Mul"),
    "Divide": _same("Div"),
    "Maximum": _same("Max"),
    "Minimum": _same("Min"),
    "Power": _same("Pow"),
    "Sqrt": _same("Sqrt"),
    "Relu": _same("Relu"),
    "Sigmoid": _same("Sigmoid"),
    "Tanh": _same("Tanh"),
    "HSwish": _same("HardSwish"),
    "HSigmoid": _same("HardSigmoid", alpha=1 / 6, beta=0.5),
    "Convert": _GraphWriter.write_convert,
    "Convolution": _GraphWriter.write_convolution,
    "GroupConvolution": _GraphWriter.write_convolution,
    "AvgPool": _pool("AveragePool"),
    "MaxPool": _pool("MaxPool"),
    "Clamp": _GraphWriter.write_clamp,
    "Concat": lambda graph, operation, output: graph.write_same(
        "Concat", operation, output, axis=operation.attributes["axis"]
    ),
    "Softmax": lambda graph, operation, output: graph.write_same(
        "Softmax", operation, output, axis=operation.attributes["axis"]
    ),
    "Transpose": _GraphWriter.write_transpose,
    "ReduceMean": _reduce("ReduceMean"),
    "ReduceMax": _reduce("ReduceMax"),
    "ReduceSum": _reduce("ReduceSum"),
    "Reshape": _reshape("Reshape"),
    "Squeeze": _reshape("Squeeze"),
    "Unsqueeze": _reshape("Unsqueeze"),
    "MatMul": _GraphWriter.write_matmul,
    "Swish": _GraphWriter.write_swish,
    "Pad": _GraphWriter.write_pad,
    "NormalizeL2": _GraphWriter.write_normalization,
}
