"""Feature maps of the layers of a network for an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError, UsageError
from simsearch.images.decode import Pixels, compute_default_max_pixels
from simsearch.ingest.prepare import decode_input
from simsearch.models.choice import ModelChoice, resolve_model
from simsearch.models.layers import LayerMaps, make_no_maps_error
from simsearch.models.model import Model
from simsearch.models.weights import RANDOM_WEIGHTS
from simsearch.models.zoo import BACKBONES
from simsearch.study.vectors import ImagePath

DEFAULT_MAX_MAPS = 64


@dataclass(frozen=True, slots=True)
class LayerFeatures:
    """Some feature maps of one layer.

    `index` is the position of the layer in the network (0 is the input). `maps` (h, w, n) float32 are those of the
    channels `channels` out of `n_maps`, in that order; `activations` (n,) are their means over all positions.
    """

    layer: str
    index: int
    n_maps: int
    channels: tuple[int, ...]
    maps: NDArray[np.float32]
    activations: NDArray[np.float32]

    def to_dict(self) -> dict[str, Any]:
        """The layer in the JSON of `features` and `study`, without the values of the maps."""
        height, width, _ = self.maps.shape
        return {
            "name": self.layer,
            "index": self.index,
            "height": height,
            "width": width,
            "maps": self.n_maps,
            "channels": list(self.channels),
            "mean_activations": [float(mean) for mean in self.activations],
        }


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Feature maps of one image: `pixels` (side, side, 3) uint8 are the input, `layers` the outputs.

    `by_activation`: the maps are those of the highest mean activation, in that order, instead of the first channels.
    """

    path: str
    model: Model
    pixels: Pixels
    layers: tuple[LayerFeatures, ...]
    by_activation: bool
    notes: tuple[str, ...]

    def to_dict(self, *, picture: str) -> dict[str, Any]:
        """The JSON of `simsearch features --json`; `picture` is the file with the drawn maps."""
        return {
            "image": self.path,
            "backbone": self.model.backbone,
            "resize": self.model.resize,
            "layers": [layer.to_dict() for layer in self.layers],
            "picture": picture,
            "notes": list(self.notes),
        }


def extract_features(
    paths: Sequence[ImagePath],
    choice: ModelChoice | None = None,
    *,
    layers: Sequence[str | int] = (),
    max_maps: int = DEFAULT_MAX_MAPS,
    by_activation: bool = False,
    max_pixels: int | None = None,
) -> tuple[ImageFeatures, ...]:
    """Extract feature maps of each image, all layers in one pass; the network is loaded once.

    `layers` are names or indexes (0 is the input); default: the last convolution of each map size. Of each layer the
    first `max_maps` maps are kept or, `by_activation`, those of the highest mean, in descending order; equal ones in
    the order of channels.

    Raises `UsageError`, `ImageError`, `UnknownLayer`, or another `ModelError`.
    """
    if max_maps < 1:
        raise UsageError(f"the number of maps is {max_maps}", "give 1 or more")
    model = resolve_model(choice or ModelChoice())
    _check_has_layers(model, layers)
    limit = max_pixels or compute_default_max_pixels()
    squares = [decode_input(str(path), model, max_pixels=limit) for path in paths]
    from simsearch.models.keras_runtime import FeatureMapExtractor

    network = FeatureMapExtractor(model, layers)
    note = f"{model.backbone} has random weights: its maps show the architecture, not learned features"
    notes = (note,) if model.weights == RANDOM_WEIGHTS else ()
    features = []
    for path, pixels in zip(paths, squares, strict=True):
        selected = tuple(_select_maps(maps, max_maps, by_activation) for maps in network.extract(pixels))
        features.append(ImageFeatures(str(path), model, pixels, selected, by_activation, notes))
    return tuple(features)


def _check_has_layers(model: Model, layers: Sequence[str | int]) -> None:
    """Refuse, before a network is loaded, models without accessible layers and layers without maps.

    Only Keras models give access to their layers, and the layers of a classification head have no maps.
    """
    if model.runtime not in ("builtin", "keras-zoo", "keras-file"):
        raise ModelError(f"{model.backbone} gives no access to its layers", "name a Keras backbone or a .keras file")
    if model.runtime == "keras-zoo":
        for name in layers:
            if name in BACKBONES[model.backbone].head_layers:
                raise make_no_maps_error(model.backbone, str(name))


def _select_maps(output: LayerMaps, max_maps: int, by_activation: bool) -> LayerFeatures:
    means = output.maps.mean(axis=(0, 1))
    order = np.argsort(-means, kind="stable") if by_activation else np.arange(len(means))
    selected = order[:max_maps]
    channels = tuple(selected.tolist())
    layer = output.layer
    return LayerFeatures(layer.name, layer.index, len(means), channels, output.maps[..., selected], means[selected])
