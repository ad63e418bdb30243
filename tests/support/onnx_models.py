"""Small ONNX models of the forms that exporters write, and an evaluator that is not the product's."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

WIDTH, PATCH_PX, N_WORDS, CONTEXT_LENGTH = 8, 4, 50, 7


@dataclass(frozen=True, kw_only=True)
class TinyEncoder:
    """A transformer-like encoder: patches of 4 px, `n_prefix` tokens before them, mixing, and one layer.

    `outputs` are in the order of the file. `axes` are the fixed ones: none, all, or all but the batch. `has_texts` adds
    a text encoder, as combined files have it. `is_external` writes the weights into a data file.
    """

    outputs: tuple[str, ...] = ("last_hidden_state", "pooler_output")
    n_prefix: int = 1
    side_px: int = 24
    layout: str = "NCHW"
    fixed: str = "none"
    input_type: str = "float32"
    weights_type: str = "float32"
    has_texts: bool = False
    is_external: bool = False
    input_name: str = "pixel_values"
    seed: int = 0

    @property
    def n_patches(self) -> int:
        return (self.side_px // PATCH_PX) ** 2

    def save(self, path: Path) -> Path:
        """Write the file, and its data file where the weights are external."""
        path.parent.mkdir(parents=True, exist_ok=True)
        model = self._build()
        onnx.checker.check_model(model)
        options = {"save_as_external_data": True, "location": f"{path.name}_data", "size_threshold": 0}
        onnx.save(model, str(path), **(options if self.is_external else {}))
        return path

    def _build(self) -> onnx.ModelProto:
        nodes, constants = self._build_image_encoder()
        inputs = [helper.make_tensor_value_info(self.input_name, _type(self.input_type), self._list_axes())]
        if self.has_texts:
            more_nodes, more_constants = self._build_text_encoder()
            nodes, constants = nodes + more_nodes, constants | more_constants
            names = ("input_ids", "attention_mask")
            ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "length"]) for name in names]
            inputs = [ids[0], *inputs, ids[1]]
        ranks = {"last_hidden_state": 3, "tokens": 3, "maps": 4}
        made = [
            helper.make_tensor_value_info(name, _type(self.weights_type), [None] * ranks.get(name, 2))
            for name in self.outputs
        ]
        tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        graph = helper.make_graph(nodes, "tiny", inputs, made, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def _list_axes(self) -> list[int | str]:
        names: list[int | str] = ["batch", "num_channels", "height", "width"]
        lengths: list[int | str] = [1, 3, self.side_px, self.side_px]
        axes = {
            "none": names,
            "all": lengths,
            "picture": names[:1] + lengths[1:],
            "channels": [names[0], 3, *names[2:]],
        }
        chosen = axes[self.fixed]
        return chosen if self.layout == "NCHW" else [chosen[0], *chosen[2:], chosen[1]]

    def _build_image_encoder(self) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
        random = np.random.default_rng(self.seed)
        dtype = np.dtype(self.weights_type)
        draw = lambda *shape: random.normal(size=shape).astype(dtype)  # noqa: E731
        constants = {
            "kernel": draw(WIDTH, 3, PATCH_PX, PATCH_PX) / 8,
            "prefix": draw(1, self.n_prefix, WIDTH) * 2,
            "mix": draw(WIDTH, WIDTH),
            "pool": draw(WIDTH, WIDTH),
            "project": draw(WIDTH, WIDTH - 2),
            "row_shape": np.array([0, WIDTH, -1]),
            "start": np.array([0]),
            "end": np.array([1]),
            "ones": np.array([1, 1]),
            "first": np.array(0),
            "scale": np.array(1 / 127.5 if self.input_type == "uint8" else 1, dtype=dtype),
        }
        node = helper.make_node
        nodes = [
            node("Cast", [self.input_name], ["cast"], to=_type(self.weights_type)),
            node("Mul", ["cast", "scale"], ["values"]),
            node("Transpose", ["values"], ["planes"], perm=[0, 3, 1, 2])
            if self.layout == "NHWC"
            else node("Identity", ["values"], ["planes"]),
            node("Conv", ["planes", "kernel"], ["maps"], strides=[PATCH_PX, PATCH_PX]),
            node("Reshape", ["maps", "row_shape"], ["rows"]),
            node("Transpose", ["rows"], ["patches"], perm=[0, 2, 1]),
            node("Shape", ["patches"], ["size"]),
            node("Slice", ["size", "start", "end"], ["n"]),
            node("Concat", ["n", "ones"], ["prefix_shape"], axis=0),
            node("Expand", ["prefix", "prefix_shape"], ["prefixes"]),
            node("Concat", ["prefixes", "patches"], ["all_tokens"], axis=1)
            if self.n_prefix
            else node("Identity", ["patches"], ["all_tokens"]),
            node("ReduceMean", ["all_tokens"], ["mean"], axes=[1], keepdims=1),
            node("Add", ["all_tokens", "mean"], ["mixed"]),
            node("MatMul", ["mixed", "mix"], ["sums"]),
            node("Tanh", ["sums"], ["last_hidden_state"]),
            node("Identity", ["last_hidden_state"], ["tokens"]),
            node("Gather", ["last_hidden_state", "first"], ["class_token"], axis=1),
            node("MatMul", ["class_token", "pool"], ["pooler_output"]),
            node("MatMul", ["pooler_output", "project"], ["image_embeds"]),
        ]
        return nodes, constants

    def _build_text_encoder(self) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
        random = np.random.default_rng(self.seed + 1)
        dtype = np.dtype(self.weights_type)
        constants = {"words": random.normal(size=(N_WORDS, WIDTH - 2)).astype(dtype)}
        node = helper.make_node
        nodes = [
            node("Gather", ["words", "input_ids"], ["embedded"]),
            node("ReduceMean", ["embedded"], ["text_embeds"], axes=[1], keepdims=0),
            node("Transpose", ["text_embeds"], ["columns"], perm=[1, 0]),
            node("MatMul", ["image_embeds", "columns"], ["logits_per_image"]),
        ]
        return nodes, constants


def _type(name: str) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(name))


def evaluate(path: Path, values: np.ndarray, output: str, **texts: np.ndarray) -> np.ndarray:
    """Evaluate an ONNX file by the reference evaluator of the `onnx` package.

    `values` (n, h, w, 3) are as the model gets them; they are converted to the type and layout of the input. Pictures
    go one by one where the batch size is fixed.
    """
    model = onnx.load(str(path))
    evaluator = ReferenceEvaluator(model)
    picture = next(each for each in model.graph.input if len(each.type.tensor_type.shape.dim) == 4)
    axes = picture.type.tensor_type.shape.dim
    dtype = helper.tensor_dtype_to_np_dtype(picture.type.tensor_type.elem_type)
    fed = values if axes[3].dim_value == 3 or axes[3].dim_param == "num_channels" else np.moveaxis(values, 3, 1)
    fed = np.round(fed).astype(dtype) if dtype == np.uint8 else fed.astype(dtype)
    size = axes[0].dim_value or len(fed)
    texts = texts or {
        each.name: np.ones((1, 3), dtype=np.int64) for each in model.graph.input if each.name != picture.name
    }
    rows = [
        evaluator.run([output], {picture.name: fed[start : start + size], **texts})[0]
        for start in range(0, len(fed), size)
    ]
    return np.concatenate(rows).astype(np.float64)


def write_json(path: Path, **fields: object) -> Path:
    """Write a settings file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(fields), encoding="utf-8")
    return path


CLIP_PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 24},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 24, "width": 24},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
"""A `preprocessor_config.json` as transformers writes it, for pictures of 24 px."""


def make_two_towers(folder: Path, **options: object) -> Path:
    """Write the folder of a two-tower model in the layout of transformers.js; the tokenizer is not read here."""
    encoder = dataclasses.replace(TinyEncoder(has_texts=True, outputs=("text_embeds", "image_embeds")), **options)
    text = encoder.save(folder / "onnx" / "text_model.onnx")
    _keep_part(text, ["input_ids"], "text_embeds")
    image = encoder.save(folder / "onnx" / "vision_model.onnx")
    _keep_part(image, ["pixel_values"], "image_embeds")
    write_json(folder / "preprocessor_config.json", **CLIP_PROCESSOR)
    write_json(folder / "config.json", model_type="clip", text_config={"max_position_embeddings": CONTEXT_LENGTH})
    write_json(folder / "tokenizer.json", model={"type": "BPE"})
    write_json(folder / "tokenizer_config.json", pad_token="<|endoftext|>", model_max_length=CONTEXT_LENGTH)
    return folder


def _keep_part(path: Path, inputs: list[str], output: str) -> None:
    model = onnx.load(str(path))
    onnx.save(onnx.utils.Extractor(model).extract_model(inputs, [output]), str(path))
