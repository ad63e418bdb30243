"""Step 1. Export the two ImageNet teachers as OpenVINO graphs, and the student's starting weights.

Writes into --run: `teacher_mobilenet_v2.xml` and `teacher_mobilenet.xml` (uint8 (n, 224, 224, 3) RGB in, pooled
features (n, 1280) and (n, 1024) out) and `start.npz` (MobileNetV2's convolutions with folded batch norms).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
import openvino as ov

TEACHER_SIDE_PX = 224


def build_teacher(name: str, weights: Path) -> keras.Model:
    """Build the network up to its average-pooled features, including pre-processing."""
    shape = (TEACHER_SIDE_PX, TEACHER_SIDE_PX, 3)
    if name == "mobilenet_v2":
        network = keras.applications.MobileNetV2(weights=None, input_shape=shape)
        network.load_weights(weights / "mobilenet_v2.weights.h5")
        features = network.get_layer("global_average_pooling2d").output
    else:
        network = keras.applications.MobileNet(weights=None, include_top=False, pooling="avg", input_shape=shape)
        network.load_weights(weights / "mobilenet_notop.weights.h5")
        features = network.output
    trunk = keras.Model(network.input, features)
    pixels = keras.Input(shape, dtype="uint8", name="pixels")
    scaled = keras.ops.cast(pixels, "float32") / 127.5 - 1.0
    return keras.Model(pixels, trunk(scaled), name=name)


def fold_batch_norms(network: keras.Model) -> dict[str, np.ndarray]:
    """Fold the batch norms: each convolution as `<layer>/kernel` (Keras layout) and `<layer>/bias`."""
    folded: dict[str, np.ndarray] = {}
    for layer in network.layers:
        if not isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            continue
        norm = network.get_layer(make_norm_name(layer.name))
        gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in norm.get_weights())
        scale = gamma / np.sqrt(variance + norm.epsilon)
        kernel = np.asarray(layer.get_weights()[0], np.float64)
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        folded[f"{layer.name}/kernel"] = (kernel * (scale[:, None] if depthwise else scale)).astype(np.float32)
        folded[f"{layer.name}/bias"] = (beta - mean * scale).astype(np.float32)
    return folded


def make_norm_name(convolution: str) -> str:
    """`Conv1` -> `bn_Conv1`, `Conv_1` -> `Conv_1_bn`, `block_3_expand` -> `block_3_expand_BN`."""
    if convolution == "Conv1":
        return "bn_Conv1"
    if convolution == "Conv_1":
        return "Conv_1_bn"
    return f"{convolution}_BN"


def export(model: keras.Model, path: Path) -> None:
    """Write a model as OpenVINO IR."""
    graph: Any = ov.convert_model(model)
    graph.reshape([-1, TEACHER_SIDE_PX, TEACHER_SIDE_PX, 3])
    ov.save_model(graph, path, compress_to_fp16=False)


def main() -> None:
    """Run this step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder with the teachers' .weights.h5 files")
    parser.add_argument("--run", type=Path, required=True, help="folder for everything this training writes")
    arguments = parser.parse_args()
    arguments.run.mkdir(parents=True, exist_ok=True)
    for name in ("mobilenet_v2", "mobilenet"):
        export(build_teacher(name, arguments.weights), arguments.run / f"teacher_{name}.xml")
    start = keras.applications.MobileNetV2(weights=None)
    start.load_weights(arguments.weights / "mobilenet_v2.weights.h5")
    np.savez(arguments.run / "start.npz", **fold_batch_norms(start))


if __name__ == "__main__":
    main()
