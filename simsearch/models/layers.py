"""Which layers of a network to look into: by name, by index, or the last convolution of each block."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, UnknownLayer


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a network, without its numbers.

    `index` counts the network's layers in Keras's order, the input is 0. `shape` is (h, w, n_maps) where the layer
    gives maps, None where it gives anything else: a vector, tokens, one value a channel.
    """

    index: int
    name: str
    shape: tuple[int, int, int] | None
    is_convolution: bool


@dataclass(frozen=True, slots=True)
class LayerMaps:
    """What a layer makes of one picture: `maps` (h, w, n_maps) float32."""

    layer: Layer
    maps: NDArray[np.float32]


def select_layers(layers: Sequence[Layer], wanted: Sequence[str | int], backbone: str) -> list[Layer]:
    """The layers asked for, in that order, each once; without any, `last_convolutions`.

    A text of digits is an index, unless a layer is called so. Raises `UnknownLayer`, or `ModelError` where a layer
    gives no maps.
    """
    if not wanted:
        if found := find_last_convolutions(layers):
            return found
        raise ModelError(f"{backbone} has no convolution", "name the layers to draw with --layer")
    return list(dict.fromkeys(_find_layer(layers, name, backbone) for name in wanted))


def find_last_convolutions(layers: Sequence[Layer]) -> list[Layer]:
    """For each size of map, the last convolution that gives it, in the order of the network.

    A block is what lies between two changes of size, as in VGG (Simonyan & Zisserman 2015, table 1), whatever a
    network calls its layers. Squeezed maps of a single pixel (Hu et al. 2018) are no block.
    """
    last: dict[tuple[int, int], Layer] = {}
    for layer in layers:
        if layer.is_convolution and layer.shape:
            last[layer.shape[:2]] = layer
    return sorted(last.values(), key=lambda layer: layer.index)


def _find_layer(layers: Sequence[Layer], wanted: str | int, backbone: str) -> Layer:
    by_name = {layer.name: layer for layer in layers}
    name = str(wanted)
    layer = by_name.get(name) if isinstance(wanted, str) else None
    if layer is None and re.fullmatch(r"-?[0-9]+", name):
        if not 0 <= int(name) < len(layers):
            raise ModelError(f"{backbone} has no layer {name}", f"indexes go from 0, the input, to {len(layers) - 1}")
        layer = layers[int(name)]
    if layer is None:
        raise UnknownLayer(backbone, name, difflib.get_close_matches(name, by_name, n=3, cutoff=0.4))
    if layer.shape is None:
        raise make_no_maps_error(backbone, layer.name)
    return layer


def make_no_maps_error(backbone: str, layer: str) -> ModelError:
    """The error of a layer that gives something else than maps."""
    return ModelError(f"layer {layer} of {backbone} gives no maps", "name a convolution, or leave --layer out")
