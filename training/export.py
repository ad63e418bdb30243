"""Step 1. Write the built-in network: `builtin.xml`, `builtin-int8.xml`, `builtin.bin` and `head.npz`.

The published network gets a projection to the principal directions of its classification head. NNCF calibrates int8 on
photographs of the pool. Both graphs read the same int8 weights: `builtin.xml` calculates in floating point,
`builtin-int8.xml` quantizes the maps between the layers too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openvino as ov
from efficientnet import PublishedNetwork, load_network
from graphs import StoredLayer, build_graph, store_in_int8
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pool import PicturePool, unpack_pool

from simsearch.models.builtin.network import PROJECTION, SIDE_PX, WIDTH

N_CALIBRATION = 300
ALIGNMENT = 64


def project_on_head(network: PublishedNetwork, width: int) -> tuple[StoredLayer, NDArray[np.float32]]:
    """Compute the projection of the pooled features, and the weights (1000, width) of the head behind it.

    Adding the same number to all logits changes no probability, so the head's rows may be centered. The right singular
    vectors of the centered matrix are the directions that distinguish classes, the most important first.
    """
    centered = network.head.kernel.astype(np.float64)
    centered -= centered.mean(0)
    directions = np.linalg.svd(centered, full_matrices=False)[2][:width]
    kernel = directions.astype(np.float32)[:, :, None, None]
    return StoredLayer(kernel, np.zeros(width, np.float32)), (centered @ directions.T).astype(np.float32)


def list_layers(network: PublishedNetwork, projection: StoredLayer) -> dict[str, StoredLayer]:
    """List the float32 layers in the shapes of the graph."""
    layers = {
        name: StoredLayer(layer.kernel[:, None] if "depthwise" in name else layer.kernel, layer.bias)
        for name, layer in network.layers.items()
    }
    return layers | {PROJECTION: projection}


def sample_pictures(pool: PicturePool, n: int, side_px: int) -> NDArray[np.uint8]:
    """Sample pictures (n, side, side, 3) of the pool, squashed: the same number of each source where possible.

    Every second one is sharpened: pictures of 144 px that are enlarged have smaller values in the first maps than
    photographs of a camera that are reduced.
    """
    random = np.random.default_rng(0)
    sources = np.unique(pool.sources)
    per_source = -(-n // len(sources))
    indexes = np.concatenate(
        [random.permutation(np.flatnonzero(pool.sources == source))[:per_source] for source in sources]
    )
    pictures = (Image.fromarray(pool.load_pixels(index)) for index in random.permutation(indexes)[:n])
    squares = [each.resize((side_px, side_px), Image.Resampling.BILINEAR) for each in pictures]
    sharpened = [square.filter(ImageFilter.UnsharpMask(1.5, 150, 0)) for square in squares[::2]]
    return np.stack([np.asarray(square) for square in (*sharpened, *squares[1::2])])


def quantize(graph: ov.Model, pictures: NDArray[np.uint8]) -> ov.Model:
    """Quantize a graph, but not its projection, with NNCF's mixed preset."""
    import nncf

    return nncf.quantize(
        graph, nncf.Dataset([picture[None] for picture in pictures]), preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(pictures), ignored_scope=nncf.IgnoredScope(names=[f"{PROJECTION}/convolution"]),
    )  # fmt: skip


def correct_ranges(graph: ov.Model) -> None:
    """Correct three kinds of ranges that NNCF estimates from pictures although they are known.

    The input has 256 values, which int8 holds exactly; ReLU6 ends at 0 and 6; the embedding is not quantized.
    """
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        source = node.input_value(0).get_node()
        if source.get_friendly_name() == PROJECTION:
            for user in node.output(0).get_target_inputs():
                user.replace_source_output(source.output(0))
        elif source.get_type_name() == "Clamp":
            set_range(node, 0.0, 6.0)
        elif source.get_type_name() == "Multiply":
            set_range(node, -127 / 128, 1.0)


def set_range(node: Any, low: float, high: float) -> None:
    """Set the range of a quantizer, before and after rounding."""
    from openvino import opset13 as ops

    for position, value in zip(range(1, 5), (low, high, low, high), strict=True):
        constant = ops.constant(np.full((1, 1, 1, 1), value, np.float32))
        node.input(position).replace_source_output(constant.output(0))


def name_constants(graph: ov.Model) -> dict[str, StoredLayer]:
    """Name the constants of a quantized graph `<layer>/kernel`, `/scale` and `/bias`, and return the layers."""
    layers = {}
    for node in graph.get_ordered_ops():
        name, _, kind = node.get_friendly_name().rpartition("/")
        if kind != "convolution":
            continue
        (addition,) = (each.get_node() for each in node.output(0).get_target_inputs())
        bias = find_constant(addition.input_value(1))
        bias.set_friendly_name(f"{name}/bias")
        weights = node.input_value(1).get_node()
        if weights.get_type_name() == "Constant":
            layers[name] = StoredLayer(weights.data.copy(), bias.data.copy())
            continue
        scale, kernel = find_constant(weights.input_value(1)), find_constant(weights.input_value(0))
        scale.set_friendly_name(f"{name}/scale")
        kernel.set_friendly_name(f"{name}/kernel")
        layers[name] = StoredLayer(kernel.data.copy(), bias.data.copy(), scale.data.copy())
    return layers


def find_constant(output: Any) -> Any:
    """Find the constant behind conversions and reshapes."""
    node = output.get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    return node


def replace_projection(graph: ov.Model, projection: StoredLayer) -> None:
    """Replace the projection of a quantized graph by one with an int8 kernel, which is scaled after its use."""
    from openvino import opset13 as ops

    (node,) = (each for each in graph.get_ops() if each.get_friendly_name() == f"{PROJECTION}/convolution")
    kernel = ops.convert(ops.constant(projection.kernel, name=f"{PROJECTION}/kernel"), "f32")
    node.input(1).replace_source_output(kernel.output(0))
    (user,) = node.output(0).get_target_inputs()
    scale = ops.constant(projection.scale.reshape(1, -1, 1, 1), name=f"{PROJECTION}/scale")  # type: ignore[union-attr]
    user.replace_source_output(ops.multiply(node.output(0), scale).output(0))


def save_with_shared_weights(graph: ov.Model, int8_graph: ov.Model, into: Path) -> None:
    """Save both graphs with one file of weights: constants of the same name and content are stored once."""
    into.mkdir(parents=True, exist_ok=True)
    ov.save_model(int8_graph, into / "builtin-int8.xml", compress_to_fp16=False)
    ov.save_model(graph, into / "float.xml", compress_to_fp16=False)
    weights = bytearray((into / "builtin-int8.bin").read_bytes())
    own = (into / "float.bin").read_bytes()
    shared = {
        layer.attrib["name"]: layer.find("data").attrib  # type: ignore[union-attr]
        for layer in ElementTree.parse(into / "builtin-int8.xml").iter("layer")
        if layer.get("type") == "Const"
    }
    tree = ElementTree.parse(into / "float.xml")
    for layer in tree.iter("layer"):
        if layer.get("type") != "Const":
            continue
        place = layer.find("data").attrib  # type: ignore[union-attr]
        content = own[int(place["offset"]) : int(place["offset"]) + int(place["size"])]
        other = shared.get(layer.attrib["name"], {"offset": "0", "size": "0"})
        start = int(other["offset"])
        if weights[start : start + int(other["size"])] != content:
            weights += bytes(-len(weights) % ALIGNMENT)
            start = len(weights)
            weights += content
        place["offset"] = str(start)
    tree.write(into / "builtin.xml", encoding="utf-8", xml_declaration=True)
    (into / "builtin.bin").write_bytes(weights)
    for name in ("float.xml", "float.bin", "builtin-int8.bin"):
        (into / name).unlink()


def main() -> None:
    """Run this step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="pool.tar")
    parser.add_argument("--run", type=Path, required=True, help="folder for the unpacked pool")
    parser.add_argument("--into", type=Path, required=True, help="folder for the four files")
    parser.add_argument("--network", default="lite0", choices=["lite0", "lite2"])
    parser.add_argument("--side", type=int, default=SIDE_PX)
    parser.add_argument("--width", type=int, default=WIDTH)
    arguments = parser.parse_args()
    network = load_network(arguments.network)
    projection, head = project_on_head(network, arguments.width)
    plain = build_graph(list_layers(network, projection), network.blocks, arguments.side)
    pictures = sample_pictures(unpack_pool(arguments.pool, arguments.run), N_CALIBRATION, arguments.side)
    int8_graph = quantize(plain, pictures)
    correct_ranges(int8_graph)
    layers = name_constants(int8_graph)
    layers[PROJECTION] = store_in_int8(layers[PROJECTION].kernel, layers[PROJECTION].bias.reshape(-1))
    replace_projection(int8_graph, layers[PROJECTION])
    save_with_shared_weights(build_graph(layers, network.blocks, arguments.side), int8_graph, arguments.into)
    classifier = store_in_int8(*network.head)
    np.savez(
        arguments.into / "head.npz", weight=head.astype(np.float16), bias=network.head.bias,
        pooled_weight=classifier.kernel, pooled_scale=classifier.scale.reshape(-1),  # type: ignore[union-attr]
    )  # fmt: skip


if __name__ == "__main__":
    main()
