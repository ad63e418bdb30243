"""Model records: a backbone with every setting that changes its vectors. Plain data; no heavy imports."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import xxhash

from simsearch.images.decode import Resize

Pooling = Literal["avg", "max", "gem"]
"""How a feature map is reduced to a vector: mean, maximum, or generalized mean with p = 3 (Radenović et al. 2018)."""

POOLINGS: tuple[str, ...] = get_args(Pooling)
RESIZES: tuple[str, ...] = get_args(Resize)

GEM_POWER = 3.0
NORM_FLOOR = 1e-12
"""A row shorter than this has no direction. It stays (nearly) zero; normalizing it would amplify noise."""

_PIXELS_VERSION = 2  # increase it when a change to decoding or resizing changes pixels

Precision = Literal["f32", "bf16", "int8"]
"""Number format of the network's calculations. Vectors are float32 in every case."""

PRECISIONS: tuple[str, ...] = get_args(Precision)

Runtime = Literal["builtin", "histogram", "keras-zoo", "keras-file", "saved-model", "onnx", "imported"]
"""`imported` marks vectors that were made by another tool; such a model cannot embed pictures."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Pre-processing of RGB values in [0, 255]: reorder the channels, then `value * scale + offset` per channel."""

    channels: Literal["rgb", "bgr"]
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]


def _build_standard_scaling(mean: tuple[float, float, float], std: tuple[float, float, float]) -> Scaling:
    """Build the scaling `(value / 255 - mean) / std`."""
    scale = (1 / (255 * std[0]), 1 / (255 * std[1]), 1 / (255 * std[2]))
    return Scaling("rgb", scale, (-mean[0] / std[0], -mean[1] / std[1], -mean[2] / std[2]))


SCALINGS = {
    "none": Scaling("rgb", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    "unit": Scaling("rgb", (1 / 255, 1 / 255, 1 / 255), (0.0, 0.0, 0.0)),
    "tf": Scaling("rgb", (1 / 127.5, 1 / 127.5, 1 / 127.5), (-1.0, -1.0, -1.0)),
    "torch": _build_standard_scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Scaling("bgr", (1.0, 1.0, 1.0), (-103.939, -116.779, -123.68)),
}
"""Names as in Keras's `preprocess_input`. `none` keeps the range 0 to 255, `unit` divides by 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model as a catalog stores it.

    `weights` is the content digest of the weights, or a word that says why there is no digest (such as `random`).
    `file` is the path of the weights or of the user's model file; it may change, so it is not part of the
    fingerprint. `layer` None is the backbone's default layer. `calibration` is the digest of the pixels that int8 was
    calibrated on, empty for other precisions.
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

    @property
    def fingerprint(self) -> str:
        """The backbone's name and 12 hexadecimal digits; models with the same fingerprint give the same vectors."""
        details = dataclasses.asdict(self) | {"pixels": _PIXELS_VERSION}
        del details["file"]
        canonical = json.dumps(details, sort_keys=True).encode()
        return f"{self.backbone}-{xxhash.xxh3_64_hexdigest(canonical)[:12]}"

    @property
    def f32_model(self) -> Model:
        """The same network at f32: the base and the reference of all other precisions."""
        return dataclasses.replace(self, precision="f32", calibration="")

    @property
    def zoo_name(self) -> str | None:
        """The name of a backbone that this package lists; None for a user's model file and for imported vectors."""
        return self.backbone if self.runtime in ("builtin", "histogram", "keras-zoo") else None

    def to_json(self) -> str:
        """Serialize to a JSON object that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Model:
        """Read a model from the JSON object that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        scaling = fields.pop("scaling")
        return cls(**fields, scaling=_parse_scaling(scaling))


@dataclass(frozen=True, slots=True)
class GraphBytes:
    """An OpenVINO graph as bytes. The catalog stores it for int8, which cannot be rebuilt without its pictures."""

    definition: bytes
    weights: bytes


def _parse_scaling(fields: dict[str, Any]) -> Scaling:
    scale, offset = (cast("tuple[float, float, float]", tuple(fields[key])) for key in ("scale", "offset"))
    return Scaling(fields["channels"], scale, offset)
