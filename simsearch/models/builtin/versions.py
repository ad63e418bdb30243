"""The versions of the built-in network: the current one, and the former one of collections that were made with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from simsearch.errors import WeightsMismatch
from simsearch.models.builtin import network
from simsearch.models.model import Model
from simsearch.models.weights import hash_file

_FORMER_GRAPHS: Mapping[str, Path] = MappingProxyType(
    {"f68f38fd3af5b66c8e301e5bc4296c7a": Path(__file__).parents[1] / "builtin_v1" / "builtin.xml"}
)
"""Graphs by the digest of their weights: of version 0.1."""


def hash_weights() -> str:
    """The digest of the weights of the current built-in network."""
    return hash_file(str(network.WEIGHTS))


def is_former(model: Model) -> bool:
    """Whether the model is a former version of the built-in network."""
    return model.runtime == "builtin" and model.weights in _FORMER_GRAPHS


def has_int8_graph(model: Model) -> bool:
    """Whether the package has an int8 graph of the model, so that it need not be calibrated."""
    return model.runtime == "builtin" and not is_former(model)


def find_graph(model: Model) -> tuple[Path, Path]:
    """Find the graph of a built-in model at its precision, and the file of its weights.

    Raises `WeightsMismatch` when the model is a version that this package does not have.
    """
    if (former := _FORMER_GRAPHS.get(model.weights)) is not None:
        return former, former.with_suffix(".bin")
    if model.weights != hash_weights():
        raise WeightsMismatch(
            f"the collection was indexed with another version of the backbone {model.backbone}",
            f"index again: simsearch index ... --backbone {model.backbone}",
        )
    return network.INT8_GRAPH if model.precision == "int8" else network.GRAPH, network.WEIGHTS


def list_notes(model: Model) -> tuple[str, ...]:
    """Sentences for the user about the version of a stored model; empty for a current one."""
    if not is_former(model):
        return ()
    return (f"a newer version of the backbone {model.backbone} is available; `simsearch upgrade` moves to it",)
