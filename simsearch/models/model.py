"""A model: a backbone fixed in every detail that changes its vectors. Plain data, nothing heavy."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import xxhash

from simsearch.images.decode import Resize

Pooling = Literal["avg", "max", "gem"]
"""How a feature map becomes a vector: mean, maximum, or generalised mean with p = 3 (Radenović et al. 2018)."""

POOLINGS: tuple[str, ...] = get_args(Pooling)
RESIZES: tuple[str, ...] = get_args(Resize)

GEM_POWER = 3.0
NORM_FLOOR = 1e-12
"""A row shorter than this has no direction; it stays (nearly) zero instead of becoming noise."""

_PIXELS_VERSION = 2  # raise it when decoding or resizing changes the pixels of a picture

Precision = Literal["f32", "bf16", "int8"]
"""What the network calculates in. Vectors are float32 whatever it is."""

PRECISIONS: tuple[str, ...] = get_args(Precision)

Runtime = Literal["builtin", "histogram", "keras-zoo", "keras-file", "saved-model", "onnx", "imported"]
"""`imported`: vectors that another tool made; no picture can be embedded here."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """Pre-processing of RGB values in [0, 255]: reorder the channels, then `value * scale + offset` each."""

    channels: Literal["rgb", "bgr"]
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]


def _build_standard_scaling(mean: tuple[float, float, float], std: tuple[float, float, float]) -> Scaling:
    """Values / 255, minus `mean`, over `std`."""
    scale = (1 / (255 * std[0]), 1 / (255 * std[1]), 1 / (255 * std[2]))
    return Scaling("rgb", scale, (-mean[0] / std[0], -mean[1] / std[1], -mean[2] / std[2]))


SCALINGS = {
    "none": Scaling("rgb", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    "unit": Scaling("rgb", (1 / 255, 1 / 255, 1 / 255), (0.0, 0.0, 0.0)),
    "tf": Scaling("rgb", (1 / 127.5, 1 / 127.5, 1 / 127.5), (-1.0, -1.0, -1.0)),
    "torch": _build_standard_scaling((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "caffe": Scaling("bgr", (1.0, 1.0, 1.0), (-103.939, -116.779, -123.68)),
}
"""Named as in Keras's `preprocess_input`; `none` leaves 0 to 255, `unit` divides by 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a catalog stores of a model.

    `weights` is the content digest of the weights, or says in a word why there is none; `file` is where the
    weights, or the user's model, were found: it may move, so it is no part of the fingerprint. `layer` None is
    the backbone's default layer. `calibration` is the digest of the pixels that int8 was calibrated on.
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
        """The backbone's name and 12 hexadecimal digits; two models of one fingerprint give the same vectors."""
        details = dataclasses.asdict(self) | {"pixels": _PIXELS_VERSION}
        del details["file"]
        canonical = json.dumps(details, sort_keys=True).encode()
        return f"{self.backbone}-{xxhash.xxh3_64_hexdigest(canonical)[:12]}"

    @property
    def f32_model(self) -> Model:
        """The same network at f32: what every other precision is made from and compared with."""
        return dataclasses.replace(self, precision="f32", calibration="")

    @property
    def zoo_name(self) -> str | None:
        """The backbone's name where it is a row of the zoo, None for a model file of the user's."""
        return self.backbone if self.runtime in ("builtin", "histogram", "keras-zoo") else None

    def to_json(self) -> str:
        """A JSON object that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Model:
        """The model that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        scaling = fields.pop("scaling")
        return cls(**fields, scaling=_parse_scaling(scaling))


@dataclass(frozen=True, slots=True)
class GraphBytes:
    """A compiled-for graph as bytes: what a catalog keeps of a model that cannot be made again without its pictures."""

    definition: bytes
    weights: bytes


def _parse_scaling(fields: dict[str, Any]) -> Scaling:
    scale, offset = (cast("tuple[float, float, float]", tuple(fields[key])) for key in ("scale", "offset"))
    return Scaling(fields["channels"], scale, offset)
