"""Resolve the user's choice of backbone and options to a complete model, without loading a network."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simsearch.errors import ModelError, UnknownBackbone, UsageError, WeightsMismatch
from simsearch.images.resize import Resize
from simsearch.models import histogram, hub, weights
from simsearch.models.builtin import network, versions
from simsearch.models.custom_model import hash_model, is_model_file, read_model_file
from simsearch.models.fusion import parse_fusion
from simsearch.models.hub_models import (
    build_hub_model,
    build_published_model,
    find_repository,
    locate_hub_text_tower,
    relocate_hub_model,
)
from simsearch.models.loader import ENGINES, Engine
from simsearch.models.model import POOLINGS, RESIZES, SCALINGS, Model, Pooling, Runtime
from simsearch.models.precision import PRECISION_OPTIONS, PrecisionOption
from simsearch.models.published import PUBLISHED, PublishedBackbone
from simsearch.models.text_tower import TextTower, find_local_text_tower
from simsearch.models.trust import check_is_trusted, trust_model
from simsearch.models.weights import RANDOM_WEIGHTS, WeightsOptions
from simsearch.models.zoo import BACKBONES, VERIFIED_BACKBONES, Backbone, WeightsFile

BUILTIN = "builtin"
DEFAULT_BACKBONE = BUILTIN
_ALLOWED_VALUES = {"pooling": POOLINGS, "resize": RESIZES, "precision": PRECISION_OPTIONS, "engine": ENGINES}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A backbone and its options, as a user gives them. None means the default of the backbone.

    `backbone` is a name from `list_backbones`, the path of a model file or folder, or `hf:owner/repository[@revision]`
    for any repository with an ONNX export. `weights` is the path of a weights file, or `random`. `layer` is the name of
    any layer of the network. `accept_license` accepts a license with limits on use, where the model has one.
    """

    backbone: str | None = None
    weights: str | None = None
    layer: str | None = None
    pooling: Pooling | None = None
    resize: Resize | None = None
    precision: PrecisionOption = "auto"
    engine: Engine = "auto"
    offline: bool = False
    accept_license: bool = False

    @classmethod
    def from_options(cls, **options: str | bool | None) -> ModelChoice:
        """Build a choice from option values that a user typed.

        Raises `UsageError` for an unknown pooling, resize rule, precision or engine.
        """
        for name, allowed in _ALLOWED_VALUES.items():
            value = options.get(name)
            if value is not None and value not in allowed:
                raise UsageError(f"unknown {name} {value!r}", f"choose one of {', '.join(allowed)}")
        return cls(**options)  # type: ignore[arg-type]  # checked above

    @classmethod
    def from_name(cls, choice: ModelChoice | str | None) -> ModelChoice:
        """The choice itself, the choice of the backbone with this name, or without one the choice of all defaults."""
        return choice if isinstance(choice, ModelChoice) else cls(backbone=choice)

    @property
    def weights_options(self) -> WeightsOptions:
        """Where the weights of this choice may come from."""
        return WeightsOptions(self.weights, self.offline, self.accept_license)

    @property
    def is_open(self) -> bool:
        """Whether it names no model: neither a backbone nor an option that changes the vectors."""
        return self.backbone is None and not self.has_model_options and self.precision == "auto"

    @property
    def has_model_options(self) -> bool:
        """Whether an option that changes the vectors is set, besides the backbone."""
        return any(x is not None for x in (self.weights, self.layer, self.pooling, self.resize))


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneInfo:
    """One row of the list of backbones.

    `width` is the length d of its vectors, `layer` the default layer (None where there is no choice). `weights_path` is
    where its weights lie on this machine, None where they are not here; `weights_url` where they are downloaded from,
    None where nothing is downloaded. `size_bytes` is the size of a download, 0 where it is not known. `has_text` says
    whether it embeds texts too, `is_restricted` whether its license limits the use, `is_verified` whether this project
    has run it with its real weights.
    """

    name: str
    side_px: int
    width: int
    parameters: int
    layer: str | None
    license: str
    paper: str
    weights_path: str | None
    weights_url: str | None
    size_bytes: int = 0
    has_text: bool = False
    is_restricted: bool = False
    is_verified: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `simsearch backbones --json`."""
        return {
            "name": self.name,
            "side_px": self.side_px,
            "width": self.width,
            "parameters": self.parameters,
            "layer": self.layer,
            "licence": self.license,
            "paper": self.paper,
            "weights_path": self.weights_path,
            "weights_url": self.weights_url,
            "size_bytes": self.size_bytes,
            "text": self.has_text,
            "restricted": self.is_restricted,
            "verified": self.is_verified,
        }


def list_backbones() -> list[BackboneInfo]:
    """All backbones, in the order of the table."""
    return [
        *_list_included_backbones(),
        *map(_describe_published_backbone, PUBLISHED.values()),
        *map(_describe_zoo_backbone, BACKBONES.values()),
    ]


def _list_included_backbones() -> Iterator[BackboneInfo]:
    """The two backbones that need no weights file: the built-in network and the histogram."""
    yield BackboneInfo(
        name=BUILTIN,
        side_px=network.SIDE_PX,
        width=network.WIDTH,
        parameters=network.PARAMETERS,
        layer=None,
        license="Apache-2.0",
        paper="see its CARD.md",
        weights_path=str(network.GRAPH),
        weights_url=None,
    )
    yield BackboneInfo(
        name=histogram.NAME,
        side_px=histogram.SIDE_PX,
        width=histogram.WIDTH,
        parameters=0,
        layer=None,
        license="Apache-2.0",
        paper="counts of colours and edges: the baseline",
        weights_path=None,
        weights_url=None,
    )


def _describe_zoo_backbone(row: Backbone) -> BackboneInfo:
    return BackboneInfo(
        name=row.name,
        side_px=row.side_px,
        width=row.width,
        parameters=row.parameters,
        layer=row.layer,
        license=row.license,
        paper=row.paper,
        weights_path=weights.find_local(row, with_head=False),
        weights_url=row.notop.url,
        is_verified=row.name in VERIFIED_BACKBONES or locate_check_record(row.name).is_file(),
    )


def locate_check_record(name: str) -> Path:
    """The file in the user's cache that records a check of a backbone on this machine (`backbones --check`)."""
    return weights.find_cache_folder() / "checks" / f"{name.replace('/', '--')}.json"


def _describe_published_backbone(row: PublishedBackbone) -> BackboneInfo:
    repository = find_repository(row)
    folder = hub.find_folder(repository, row.files)
    return BackboneInfo(
        name=row.name,
        side_px=row.settings.side_px,
        width=row.width,
        parameters=row.parameters,
        layer=row.output,
        license=row.license,
        paper=row.paper,
        weights_path=None if folder is None else str(folder / row.files[0].path),
        weights_url=hub.make_url(repository, row.files[0].path),
        size_bytes=row.size_bytes,
        has_text=row.text is not None,
        is_restricted=row.is_restricted,
        is_verified=row.is_verified or locate_check_record(row.name).is_file(),
    )


def list_backbone_names() -> list[str]:
    """All names that `ModelChoice.backbone` accepts, in the order of the table."""
    return [BUILTIN, histogram.NAME, *PUBLISHED, *BACKBONES]


def resolve_model(choice: ModelChoice) -> Model:
    """Complete a choice: find the weights (download them if allowed), hash them, and fill in the defaults.

    A choice is what the user names, so a model file in it is trusted from now on; see `trust.py`.

    Raises `UnknownBackbone`, `WeightsMissing`, or another `ModelError`.
    """
    name = choice.backbone or DEFAULT_BACKBONE
    if name == histogram.NAME:
        return _build_fixed_model(choice, histogram.NAME, "histogram", histogram.SIDE_PX, "none")
    if name == BUILTIN:
        return _build_fixed_model(choice, BUILTIN, "builtin", network.SIDE_PX, versions.hash_weights())
    if name in BACKBONES:
        return _build_zoo_model(BACKBONES[name], choice)
    if name in PUBLISHED:
        return build_published_model(
            PUBLISHED[name], choice.weights_options, layer=choice.layer, pooling=choice.pooling, resize=choice.resize
        )
    if name.startswith(hub.PREFIX):
        return build_hub_model(
            name, choice.weights_options, layer=choice.layer, pooling=choice.pooling, resize=choice.resize
        )
    if is_model_file(name):
        if choice.weights is not None:
            raise _make_own_weights_error(name)
        model = read_model_file(name, layer=choice.layer, pooling=choice.pooling, resize=choice.resize)
        trust_model(model)
        return model
    if parse_fusion(name) is not None:
        problem = f"{name} joins vectors of a collection, and embeds no picture by itself"
        raise ModelError(problem, f"index with it first (simsearch index ... --backbone {name})")
    raise UnknownBackbone(name, difflib.get_close_matches(name.lower(), list_backbone_names(), n=3))


def relocate_weights(model: Model, options: WeightsOptions) -> Model:
    """Find the weights of a stored model again; the model is the same, only `file` may differ.

    Raises `WeightsMismatch` when the file that is found has another digest, `WeightsMissing` when none is found,
    `UntrustedModel` for a program that the user has not named on this machine.
    """
    if model.file is None:
        return model
    if options.path is None and _has_same_weights(model):
        check_is_trusted(model)
        return model
    if model.source is not None:
        return relocate_hub_model(model, options)
    if model.backbone not in BACKBONES or model.runtime != "keras-zoo":
        if options.path is not None:
            raise _make_own_weights_error(model.file)
        raise WeightsMismatch(
            f"the model file {model.file} is missing, or differs from the one that the collection was indexed with",
            f"restore the file, or index again with --backbone {model.file}",
        )
    row = BACKBONES[model.backbone]
    if options.path is None:
        for file in weights.list_local(row, with_head=False):
            if weights.hash_file(file) == model.weights:
                return replace(model, file=file)
    found = weights.find(row, options, with_head=weights.has_head(model.file), download=_download)
    if weights.hash_file(found) != model.weights:
        raise WeightsMismatch(
            f"the weights in {found} differ from those that the collection was indexed with",
            "give the right file with --weights, or index again",
        )
    return replace(model, file=found)


def has_text_tower(model: Model) -> bool:
    """Whether texts can be embedded with a model, as far as that is known without a download."""
    if row := PUBLISHED.get(model.source or ""):
        return row.text is not None
    return model.runtime == "onnx" and model.file is not None and find_local_text_tower(model.file) is not None


def locate_text_tower(model: Model, options: WeightsOptions) -> TextTower:
    """Find the text encoder of a two-tower model, and download it if that is necessary and allowed.

    Raises `ModelError` where the model has none, `WeightsMissing` where its files are not found.
    """
    found = None
    if model.source is not None:
        found = locate_hub_text_tower(model, options)
    elif model.runtime == "onnx":
        file = relocate_weights(model, options).file
        found = find_local_text_tower(file) if file is not None else None
    if found is None:
        problem = f"{model.backbone} has no text encoder: it embeds pictures only"
        raise ModelError(problem, "index with a two-tower model, such as one of `simsearch backbones` with text")
    return found


def _has_same_weights(model: Model) -> bool:
    """Whether the file of a model is there, and is the one that the model was made with."""
    if model.file is None or not Path(model.file).exists():
        return False
    try:
        digest = weights.hash_file(model.file) if model.runtime == "keras-zoo" else hash_model(model.file)
    except ModelError:  # it is no model file any more
        return False
    return digest == model.weights


def _make_own_weights_error(name: str) -> ModelError:
    return ModelError(f"{name} contains its own weights", "remove --weights")


def _build_fixed_model(choice: ModelChoice, name: str, runtime: Runtime, side_px: int, digest: str) -> Model:
    """Build the model of a backbone that needs no weights file and has no choice of layer or pooling.

    Only the classification head of the built-in network may be chosen as its layer.
    """
    is_head = runtime == "builtin" and choice.layer == network.PREDICTIONS_LAYER
    layer = None if is_head else choice.layer
    for option, value in (("--weights", choice.weights), ("--layer", layer), ("--pooling", choice.pooling)):
        if value is not None:
            raise ModelError(
                f"{option} does not apply to the backbone {name}", f"remove {option}, or choose another --backbone"
            )
    return Model(
        backbone=name,
        runtime=runtime,
        weights=digest,
        file=None,
        side_px=side_px,
        resize=choice.resize or "squash",
        scaling=SCALINGS["none"],
        layer=choice.layer,
        pooling="avg",
    )


def _build_zoo_model(row: Backbone, choice: ModelChoice) -> Model:
    layer = choice.layer or row.layer
    file, digest = None, RANDOM_WEIGHTS
    if choice.weights != RANDOM_WEIGHTS:
        file = weights.find(row, choice.weights_options, with_head=layer in row.head_layers, download=_download)
        digest = weights.hash_file(file)
    return Model(
        backbone=row.name,
        runtime="keras-zoo",
        weights=digest,
        file=file,
        side_px=row.side_px,
        resize=choice.resize or "squash",
        scaling=SCALINGS[row.scaling],
        layer=layer,
        pooling=choice.pooling or "avg",
    )


def _download(wanted: WeightsFile, url: str, folder: Path) -> None:
    from simsearch.models.keras_runtime import download

    download(wanted, url, folder)
