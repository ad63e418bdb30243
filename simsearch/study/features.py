"""What the layers of a network make of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, UsageError
from simsearch.images.decode import Pixels, compute_default_max_pixels, decode_square, read_raw_file
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.layers import LayerMaps, make_no_maps_error
from simsearch.models.model import Model
from simsearch.models.weights import RANDOM_WEIGHTS
from simsearch.models.zoo import BACKBONES
from simsearch.study.vectors import ImagePath

DEFAULT_MAX_MAPS = 64


@dataclass(frozen=True, slots=True)
class LayerFeatures:
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
class ImageFeatures:
    """What the network sees of one image: `pixels` (side, side, 3) uint8 go in, a block for each layer comes out.

    `by_activation`: maps are the most active ones, the most active first, and not the first ones.
    """

    path: str
    model: Model
    pixels: Pixels
    layers: tuple[LayerFeatures, ...]
    by_activation: bool
    notes: tuple[str, ...]


def extract_features(
    paths: Sequence[ImagePath],
    choice: ModelChoice | None = None,
    *,
    layers: Sequence[str | int] = (),
    max_maps: int = DEFAULT_MAX_MAPS,
    by_activation: bool = False,
    max_pixels: int | None = None,
) -> tuple[ImageFeatures, ...]:
    """Feature maps of each picture, all layers in one pass; the network is loaded once.

    `layers` are names or indexes (0 is the input); default: the last convolution of each size of map. Of each layer
    the first `most_maps` maps are kept or, `by_activation`, those of the highest mean, the highest first; equal ones
    in the order of channels.

    Raises `UsageError`, `ImageError`, `UnknownLayer`, or another `ModelError`.
    """
    if max_maps < 1:
        raise UsageError(f"the number of maps is {max_maps}", "ask for one at least")
    model = resolve_model(choice or ModelChoice())
    _check_has_layers(model, layers)
    limit = max_pixels or compute_default_max_pixels()
    raws = [read_raw_file(str(path), has_picture_extension=True, max_pixels=limit) for path in paths]
    squares = [decode_square(raw, model.side_px, model.resize, max_pixels=limit)[1] for raw in raws]
    from simsearch.models.keras_runtime import FeatureMapExtractor

    network = FeatureMapExtractor(model, layers)
    note = f"{model.backbone} has random weights: its maps show how it is built, not what it has learnt"
    notes = (note,) if model.weights == RANDOM_WEIGHTS else ()
    found = []
    for raw, pixels in zip(raws, squares, strict=True):
        blocks = tuple(_select_maps(maps, max_maps, by_activation) for maps in network.extract(pixels))
        found.append(ImageFeatures(raw.path, model, pixels, blocks, by_activation, notes))
    return tuple(found)


def _check_has_layers(model: Model, layers: Sequence[str | int]) -> None:
    """Before anything is loaded: only Keras shows its layers, and the layers of a head have no maps."""
    if model.runtime not in ("builtin", "keras-zoo", "keras-file"):
        raise ModelError(f"{model.backbone} shows no layers", "name a network of the zoo, builtin, or a .keras file")
    if model.runtime == "keras-zoo":
        for name in layers:
            if name in BACKBONES[model.backbone].head_layers:
                raise make_no_maps_error(model.backbone, str(name))


def _select_maps(of: LayerMaps, max_maps: int, by_activation: bool) -> LayerFeatures:
    means = of.maps.mean(axis=(0, 1))
    order = np.argsort(-means, kind="stable") if by_activation else np.arange(len(means))
    channels = order[:max_maps]
    shown = tuple(channels.tolist())
    return LayerFeatures(of.layer.name, of.layer.index, len(means), shown, of.maps[..., channels], means[channels])
