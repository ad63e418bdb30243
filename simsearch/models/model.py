"""Model records: a backbone with every setting that changes its vectors. Plain data; no heavy imports."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import xxhash

from simsearch.images.resize import CropOffset, InputRule, Interpolation, JoinedRule, Resize, ResizeRule

Pooling = Literal["avg", "max", "gem", "cls"]
"""How a feature map is reduced to a vector: mean, maximum, or generalized mean with p = 3 (Radenović et al. 2018).

`cls` takes the first token of a transformer, the class token, and applies to tokens only.
"""

Tokens = Literal["all", "patches"]
"""The tokens of a transformer that `avg`, `max` and `gem` pool: all, or all but class and register tokens."""

POOLINGS: tuple[str, ...] = get_args(Pooling)
RESIZES: tuple[str, ...] = get_args(Resize)
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)

GEM_POWER = 3.0
NORM_FLOOR = 1e-12
"""A row shorter than this has no direction. It stays (nearly) zero; normalizing it would amplify noise."""

_PIXELS_VERSION = 2  # increase it when a change to decoding or resizing changes pixels

Precision = Literal["f32", "bf16", "int8"]
"""Number format of the network's calculations. Vectors are float32 in every case."""

PRECISIONS: tuple[str, ...] = get_args(Precision)

Runtime = Literal["builtin", "histogram", "keras-zoo", "keras-file", "saved-model", "onnx", "imported", "fused"]
"""`imported` marks vectors that were made by another tool; such a model cannot embed pictures. `fused` joins models."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Pre-processing of RGB values in [0, 255]: reorder the channels, then `value * scale + offset` per channel."""

    channels: Literal["rgb", "bgr"]
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]


def build_standard_scaling(mean: tuple[float, float, float], std: tuple[float, float, float]) -> Scaling:
    """Build the scaling `(value / 255 - mean) / std`."""
    scale = (1 / (255 * std[0]), 1 / (255 * std[1]), 1 / (255 * std[2]))
    return Scaling("rgb", scale, (-mean[0] / std[0], -mean[1] / std[1], -mean[2] / std[2]))


SCALINGS = {
    "none": Scaling("rgb", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    "unit": Scaling("rgb", (1 / 255, 1 / 255, 1 / 255), (0.0, 0.0, 0.0)),
    "tf": Scaling("rgb", (1 / 127.5, 1 / 127.5, 1 / 127.5), (-1.0, -1.0, -1.0)),
    "torch": build_standard_scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Scaling("bgr", (1.0, 1.0, 1.0), (-103.939, -116.779, -123.68)),
    "clip": build_standard_scaling((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Names as in Keras's `preprocess_input`; `none` keeps the range 0 to 255, `unit` divides by 255, `clip` is CLIP's."""

_LATER_FIELDS = {
    "interpolation": "bilinear",
    "shortest_px": None,
    "crop_offset": "floor",
    "decode_margin": 1,
    "tokens": "all",
    "source": None,
    "learned": None,
    "fusion": None,
}
"""Fields of `Model` that earlier versions had not, with the values that stand for what those versions did.

With these values they are neither stored nor part of the fingerprint, so the models of older catalogs keep theirs.
"""


@dataclass(frozen=True, slots=True)
class LearnedMap:
    """A map that was learned from labels and is applied to the vectors of a base model.

    `base` is the fingerprint of the base model, `backbone` its backbone's name, `digest` that of the map.
    """

    base: str
    backbone: str
    digest: str


@dataclass(frozen=True, slots=True)
class FusedPart:
    """A part of a fused model: a model of the collection, its fingerprint there, and the factor of its rows."""

    fingerprint: str
    weight: float
    model: Model


@dataclass(frozen=True, slots=True)
class Fusion:
    """The parts of a fused model. Their centers are stored beside the model; `Model.weights` is the digest of these."""

    parts: tuple[FusedPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as a catalog stores it.

    `weights` is the content digest of the weights, or a word that says why there is no digest (such as `random`).
    `file` is the path of the weights or of the user's model file; it may change, so it is not part of the
    fingerprint. Nor is `source`, the value of `--backbone` that finds the file of a published model again, with its
    revision; it is None for other models. `layer` None is the backbone's default layer. `calibration` is the digest of
    the pixels that int8 was calibrated on, empty for other precisions. `shortest_px`, `crop_offset` and `decode_margin`
    are explained at `ResizeRule`. `learned` is the map that is applied to the vectors, if any;
    `fusion` are the parts of a fused model, whose rows are joined.
    """

    backbone: str
    runtime: Runtime
    weights: str
    file: str | None
    side_px: int
    resize: Resize
    scaling: Scaling
    layer: str | None
    pooling: Pooling
    precision: Precision = "f32"
    calibration: str = ""
    interpolation: Interpolation = "bilinear"
    shortest_px: int | None = None
    crop_offset: CropOffset = "floor"
    decode_margin: int = 1
    tokens: Tokens = "all"
    source: str | None = None
    learned: LearnedMap | None = None
    fusion: Fusion | None = None

    @property
    def input_rules(self) -> tuple[ResizeRule, ...]:
        """The rules by which pictures become the squares that the networks of this model take, each rule once."""
        if self.fusion is not None:
            return tuple(dict.fromkeys(rule for part in self.fusion.parts for rule in part.model.input_rules))
        return (self._own_rule,)

    @property
    def resize_rule(self) -> InputRule:
        """The rule by which pictures become the input of this model: a square, or several that are joined."""
        rules = self.input_rules
        return rules[0] if len(rules) == 1 else JoinedRule(rules)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the input of one picture: (side, side, 3), or (n_px, 3) of joined squares."""
        rules = self.input_rules
        side = rules[0].side_px
        return (side, side, 3) if len(rules) == 1 else (sum(rule.side_px**2 for rule in rules), 3)

    @property
    def _own_rule(self) -> ResizeRule:
        return ResizeRule(
            self.side_px, self.resize, self.interpolation, self.shortest_px, self.crop_offset, self.decode_margin
        )

    @property
    def fingerprint(self) -> str:
        """The backbone's name and 12 hexadecimal digits; models with the same fingerprint give the same vectors."""
        details = self._list_fields() | {"pixels": _PIXELS_VERSION}
        details.pop("file")
        details.pop("source", None)
        if self.fusion is not None:
            details["fusion"] = [[part.fingerprint, part.weight] for part in self.fusion.parts]
        canonical = json.dumps(details, sort_keys=True).encode()
        name = self.backbone.replace("+", "-").replace("*", "x") if self.fusion is not None else self.backbone
        return f"{name}-{xxhash.xxh3_64_hexdigest(canonical)[:12]}"

    @property
    def f32_model(self) -> Model:
        """The same network at f32: the base and the reference of all other precisions."""
        return dataclasses.replace(self, precision="f32", calibration="")

    @property
    def base_model(self) -> Model:
        """The model to whose vectors the learned map is applied; the model itself where there is no map."""
        if self.learned is None:
            return self
        return dataclasses.replace(self, backbone=self.learned.backbone, learned=None)

    @property
    def is_derived(self) -> bool:
        """Whether its vectors are computed from stored vectors of other models, and no picture is embedded with it."""
        return self.learned is not None or self.fusion is not None

    @property
    def zoo_name(self) -> str | None:
        """The value of `--backbone` of a model that was chosen by name; None for a model file and imported vectors."""
        return self.source or (self.backbone if self.runtime in ("builtin", "histogram", "keras-zoo") else None)

    def to_json(self) -> str:
        """Serialize to a JSON object that `from_json` reads."""
        return json.dumps(self._list_fields())

    def _list_fields(self) -> dict[str, Any]:
        fields = dataclasses.asdict(self)
        return {
            name: value for name, value in fields.items() if name not in _LATER_FIELDS or value != _LATER_FIELDS[name]
        }

    @classmethod
    def from_json(cls, text: str) -> Model:
        """Read a model from the JSON object that `to_json` wrote."""
        return _parse_model(json.loads(text))


@dataclass(frozen=True, slots=True)
class GraphBytes:
    """An OpenVINO graph as bytes. The catalog stores it for int8, which cannot be rebuilt without its pictures."""

    definition: bytes
    weights: bytes


def _parse_model(fields: dict[str, Any]) -> Model:
    scaling, learned, fusion = fields.pop("scaling"), fields.pop("learned", None), fields.pop("fusion", None)
    return Model(
        **fields, scaling=_parse_scaling(scaling), learned=learned and LearnedMap(**learned),
        fusion=fusion and Fusion(tuple(_parse_part(part) for part in fusion["parts"])),
    )  # fmt: skip


def _parse_part(fields: dict[str, Any]) -> FusedPart:
    return FusedPart(fields["fingerprint"], fields["weight"], _parse_model(fields["model"]))


def _parse_scaling(fields: dict[str, Any]) -> Scaling:
    scale, offset = (cast("tuple[float, float, float]", tuple(fields[key])) for key in ("scale", "offset"))
    return Scaling(fields["channels"], scale, offset)
