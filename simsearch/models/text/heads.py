"""Read the ImageNet classification head of a model: the weights that turn its vectors into the scores of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import ModelError
from simsearch.models import weights
from simsearch.models.builtin import network, versions
from simsearch.models.model import Model
from simsearch.models.weights import RANDOM_WEIGHTS, WeightsOptions
from simsearch.models.zoo import BACKBONES, WeightsFile

N_CLASSES = 1000
_POOLINGS_AND_HEADS = frozenset({"avg_pool", "global_average_pooling2d", "top_dropout", "dropout", "conv_preds"})
_OUTPUTS = frozenset({"predictions", "reshape_2"})

Head = NDArray[np.float32]
"""The weights (1000, d) of a linear layer on a model's vectors, without its bias."""


def has_head(model: Model) -> bool:
    """Whether a model's vectors are the input of a linear ImageNet classification head."""
    if model.learned is not None:
        return False
    if model.runtime == "builtin":
        return model.layer is None and not versions.is_former(model)
    if model.runtime != "keras-zoo" or model.weights == RANDOM_WEIGHTS:
        return False
    row = BACKBONES[model.backbone]
    is_linear = set(row.head_layers) <= _POOLINGS_AND_HEADS | _OUTPUTS
    return is_linear and model.layer == row.layer and model.pooling == "avg"


def read_head(model: Model, options: WeightsOptions) -> Head:
    """Read the head of a model that has one; published weights are downloaded if necessary and allowed.

    Raises `WeightsMissing`, `WeightsMismatch` or another `ModelError`.
    """
    if model.runtime != "builtin":
        return _read_keras_head(_find_file(model, options), model)
    versions.find_graph(model)  # raises for another version
    return network.read_head().weight


def _find_file(model: Model, options: WeightsOptions) -> str:
    """Find weights with the head: the given or stored file if it has one, else the published file."""
    for file in (options.path, model.file):
        if file is not None and weights.has_head(file) and Path(file).exists():
            return file
    row = BACKBONES[model.backbone]
    return weights.find(row, WeightsOptions(offline=options.offline), with_head=True, download=_download)


def _download(wanted: WeightsFile, url: str, folder: Path) -> None:
    from simsearch.models.keras_runtime import download

    download(wanted, url, folder)


def _read_keras_head(file: str, model: Model) -> Head:
    """Find the kernel of the head in a Keras weights file: the only one from the model's width to 1,000 classes."""
    import h5py  # a part of Keras

    width = BACKBONES[model.backbone].width
    kernels: list[Head] = []

    def collect(_: str, stored: object) -> None:
        if isinstance(stored, h5py.Dataset) and stored.shape in ((width, N_CLASSES), (1, 1, width, N_CLASSES)):
            kernels.append(np.asarray(stored[()], np.float32).reshape(width, N_CLASSES).T)

    try:
        with h5py.File(file) as opened:
            opened.visititems(collect)
    except OSError as error:
        raise ModelError(f"cannot read the weights in {file} ({error})", "give a Keras weights file") from error
    if len(kernels) != 1:
        raise ModelError(
            f"{file} has no classification head for {N_CLASSES} classes",
            f"give weights of {model.backbone} with the head: {BACKBONES[model.backbone].top.name}",
        )
    return kernels[0]
