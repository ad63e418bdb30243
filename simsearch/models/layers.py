"""Select layers of a network: by name, by index, or the last convolution of each block."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, UnknownLayer
from simsearch.models.model import Model


@dataclass(frozen=True, slots=True)
class Layer:
    """The description of a network layer.

    `index` is the position in Keras's order, 0 is the input. `shape` is (h, w, n_maps) where the layer outputs feature
    maps, None for any other output: a vector, tokens, one value per channel.
    """

    index: int
    name: str
    shape: tuple[int, int, int] | None
    is_convolution: bool


@dataclass(frozen=True, slots=True)
class LayerMaps:
    """The output of a layer for one picture: `maps` (h, w, n_maps) float32."""

    layer: Layer
    maps: NDArray[np.float32]


def select_layers(layers: Sequence[Layer], wanted: Sequence[str | int], backbone: str) -> list[Layer]:
    """Select the wanted layers, in the given order and without repeats; by default `find_last_convolutions`.

    A string of digits is an index, unless a layer has that name. Raises `UnknownLayer`, or `ModelError` where a layer
    outputs no feature maps.
    """
    if not wanted:
        if found := find_last_convolutions(layers):
            return found
        raise ModelError(f"{backbone} has no convolution layer", "choose the layers with --layer")
    return list(dict.fromkeys(_find_layer(layers, name, backbone) for name in wanted))


def find_last_convolutions(layers: Sequence[Layer]) -> list[Layer]:
    """The last convolution for each map size, in network order.

    A block is the part of a network between two changes of the map size, as in VGG (Simonyan & Zisserman 2015,
    table 1), whatever the layers are called. Maps of a single pixel, as in squeeze-and-excitation (Hu et al. 2018), are
    not a block.
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
            raise ModelError(
                f"{backbone} has no layer {name}", f"give an index from 0 (the input) to {len(layers) - 1}"
            )
        layer = layers[int(name)]
    if layer is None:
        raise make_unknown_layer_error(backbone, name, by_name)
    if layer.shape is None:
        raise make_no_maps_error(backbone, layer.name)
    return layer


def make_no_maps_error(backbone: str, layer: str) -> ModelError:
    """Build the error for a layer whose output is not a feature map."""
    return ModelError(
        f"layer {layer} of {backbone} outputs no feature maps", "choose a convolution layer, or remove --layer"
    )


def make_unknown_layer_error(backbone: str, layer: str, known: Iterable[str]) -> UnknownLayer:
    """Build the error for an unknown layer name, with up to three similar names."""
    return UnknownLayer(backbone, layer, difflib.get_close_matches(layer, list(known), n=3, cutoff=0.4))


def make_pooling_error(model: Model) -> ModelError:
    """Build the error for an output that is neither a vector nor a map nor tokens."""
    layer = f"layer {model.layer}" if model.layer else "output"
    return ModelError(f"the {layer} of {model.backbone} is not a vector or a map", "choose another layer with --layer")


def make_class_token_error(model: Model) -> ModelError:
    """Build the error for `--pooling cls` on an output without a class token."""
    layer = f"layer {model.layer}" if model.layer else "output"
    return ModelError(f"the {layer} of {model.backbone} has no class token", "choose --pooling avg, max or gem")
