"""Step 2. Export MobileNetV2 as an OpenVINO graph, to measure the built-in network against it.

Writes `mobilenet_v2.xml` into --run: uint8 (n, 224, 224, 3) RGB in, pooled features (n, 1280) out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import openvino as ov

SIDE_PX = 224


def build_reference(weights: Path) -> keras.Model:
    """Build the network up to its average-pooled features, including pre-processing."""
    shape = (SIDE_PX, SIDE_PX, 3)
    network = keras.applications.MobileNetV2(weights=None, input_shape=shape)
    network.load_weights(weights)
    trunk = keras.Model(network.input, network.get_layer("global_average_pooling2d").output)
    pixels = keras.Input(shape, dtype="uint8", name="pixels")
    return keras.Model(pixels, trunk(keras.ops.cast(pixels, "float32") / 127.5 - 1.0), name="mobilenet_v2")


def main() -> None:
    """Run this step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="mobilenet_v2.weights.h5")
    parser.add_argument("--run", type=Path, required=True, help="folder for the graph")
    arguments = parser.parse_args()
    arguments.run.mkdir(parents=True, exist_ok=True)
    graph: Any = ov.convert_model(build_reference(arguments.weights))
    graph.reshape([-1, SIDE_PX, SIDE_PX, 3])
    ov.save_model(graph, arguments.run / "mobilenet_v2.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
