"""What the layers of a network make of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, UsageError
from simsearch.images.decode import Pixels, decode_square, default_max_pixels, read
from simsearch.models.choice import ModelChoice, resolve
from simsearch.models.layers import LayerMaps, without_maps
from simsearch.models.model import Model
from simsearch.models.weights import RANDOM
from simsearch.models.zoo import BACKBONES
from simsearch.study.vectors import ImagePath

DEFAULT_MOST_MAPS = 64


@dataclass(frozen=True, slots=True)
class Block:
    """Some maps of one layer; `index` counts the layers of the network, the input is 0.

    `maps` (h, w, n) float32 are those of the channels `channels` out of `n_maps`, in that order; `activations` (n,)
    are their means over all positions.
    """

    layer: str
    index: int
    n_maps: int
    channels: tuple[int, ...]
    maps: NDArray[np.float32]
    activations: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Features:
    """What the network sees of one image: `pixels` (side, side, 3) uint8 go in, a block for each layer comes out.

    `by_activation`: maps are the most active ones, the most active first, and not the first ones.
    """

    path: str
    model: Model
    pixels: Pixels
    blocks: tuple[Block, ...]
    by_activation: bool
    notes: tuple[str, ...]


def features(
    paths: Sequence[ImagePath],
    choice: ModelChoice | None = None,
    *,
    layers: Sequence[str | int] = (),
    most_maps: int = DEFAULT_MOST_MAPS,
    by_activation: bool = False,
    max_pixels: int | None = None,
) -> tuple[Features, ...]:
    """Feature maps of each picture, all layers in one pass; the network is loaded once.

    `layers` are names or indexes (0 is the input); default: the last convolution of each size of map. Of each layer
    the first `most_maps` maps are kept or, `by_activation`, those of the highest mean, the highest first; equal ones
    in the order of channels.

    Raises `UsageError`, `ImageError`, `UnknownLayer`, or another `ModelError`.
    """
    if most_maps < 1:
        raise UsageError(f"the number of maps is {most_maps}", "ask for one at least")
    model = resolve(choice or ModelChoice())
    _check_can_be_looked_into(model, layers)
    limit = max_pixels or default_max_pixels()
    raws = [read(str(path), claims_picture=True, max_pixels=limit) for path in paths]
    squares = [decode_square(raw, model.side_px, model.resize, max_pixels=limit)[1] for raw in raws]
    from simsearch.models.keras_runtime import FeatureMaps

    network = FeatureMaps(model, layers)
    note = f"{model.backbone} has random weights: its maps show how it is built, not what it has learnt"
    notes = (note,) if model.weights == RANDOM else ()
    found = []
    for raw, pixels in zip(raws, squares, strict=True):
        blocks = tuple(_block(maps, most_maps, by_activation) for maps in network.of(pixels))
        found.append(Features(raw.path, model, pixels, blocks, by_activation, notes))
    return tuple(found)


def _check_can_be_looked_into(model: Model, layers: Sequence[str | int]) -> None:
    """Before anything is loaded: only Keras shows its layers, and the layers of a head have no maps."""
    if model.runtime not in ("builtin", "keras-zoo", "keras-file"):
        raise ModelError(f"{model.backbone} shows no layers", "name a network of the zoo, builtin, or a .keras file")
    if model.runtime == "keras-zoo":
        for name in layers:
            if name in BACKBONES[model.backbone].head_layers:
                raise without_maps(model.backbone, str(name))


def _block(of: LayerMaps, most_maps: int, by_activation: bool) -> Block:
    means = of.maps.mean(axis=(0, 1))
    order = np.argsort(-means, kind="stable") if by_activation else np.arange(len(means))
    channels = order[:most_maps]
    shown = tuple(channels.tolist())
    return Block(of.layer.name, of.layer.index, len(means), shown, of.maps[..., channels], means[channels])
