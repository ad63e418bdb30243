"""Read the pre-processing of a published model from the settings files of transformers and OpenCLIP.

`preprocessor_config.json` and `processor_config.json` are those of transformers' image processors;
`preprocess_cfg.json` (immich) and `open_clip_config.json` those of OpenCLIP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from simsearch.errors import ModelError
from simsearch.images.resize import CropOffset, Interpolation, Resize
from simsearch.models.model import SCALINGS, Scaling, build_standard_scaling

Mean = tuple[float, float, float]

DECODE_MARGIN = 2
"""The margin of reduced JPEG decoding for published models: squares differ by less than 1 gray level on average.

Measured on 100 photographs that shrink to 32 to 73 px, against decoding at full size: with a margin of 1 the squares
differ by up to 1.9 gray levels on average, with 2 by up to 0.6.
"""

_OPENAI_MEAN, _OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)

_PILLOW_FILTERS: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""The values of `resample`, which are Pillow's numbers of filters."""

_SHORTEST_224 = {"size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True, "resample": 3}
_SQUARE_224 = {"size": {"height": 224, "width": 224}, "do_center_crop": False}
_PROCESSOR_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": {**_SHORTEST_224, "image_mean": _OPENAI_MEAN, "image_std": _OPENAI_STD},
    "Bit": {**_SHORTEST_224, "image_mean": _OPENAI_MEAN, "image_std": _OPENAI_STD},
    "Siglip": {**_SQUARE_224, "resample": 3, "image_mean": _HALF, "image_std": _HALF},
    "ViT": {**_SQUARE_224, "resample": 2, "image_mean": _HALF, "image_std": _HALF},
    "DINOv3ViT": {**_SQUARE_224, "resample": 2, "image_mean": _IMAGENET_MEAN, "image_std": _IMAGENET_STD},
}
"""What the image processors of transformers take where their file leaves a field out."""

_MAX_SIDE_PX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """The pre-processing of a model: the fields of `Model` that describe it."""

    side_px: int
    resize: Resize
    interpolation: Interpolation
    scaling: Scaling
    shortest_px: int | None = None
    crop_offset: CropOffset = "floor"
    decode_margin: int = DECODE_MARGIN


def read_image_settings(file: Path) -> ImageSettings:
    """Read one settings file, of the kind that its name says.

    Raises `ModelError` when the file cannot be read, or asks for steps that this package does not have.
    """
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise ValueError("it does not contain a JSON object")
        if file.name == "preprocess_cfg.json":
            return _parse_open_clip(fields, {})
        if file.name == "open_clip_config.json":
            model = fields.get("model_cfg") or fields
            return _parse_open_clip(fields.get("preprocess_cfg") or {}, model.get("vision_cfg") or {})
        return _parse_transformers(fields.get("image_processor") or fields)
    except OSError as error:
        raise ModelError(f"cannot read {file} ({error.strerror})", "check the path and its permissions") from error
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        advice = "write the settings into a JSON file of your own beside the model (docs/models.md)"
        raise ModelError(f"the pre-processing in {file} cannot be used ({error})", advice) from error


def _parse_transformers(given: Mapping[str, Any]) -> ImageSettings:
    kind = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
    family = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", kind)
    known = {name: value for name, value in given.items() if value is not None}
    fields = _PROCESSOR_DEFAULTS.get(family, {}) | known
    if not fields.get("do_resize", True):
        raise ValueError("do_resize is false: pictures of other sizes cannot be embedded")
    if "size" not in fields:
        raise ValueError(f"size is missing, and its default for {kind or 'this processor'} is not known")
    resample = int(fields.get("resample", 2))
    if resample not in range(len(_PILLOW_FILTERS)):
        raise ValueError(f"resample is {resample}")
    side, resize, shortest = _parse_transformers_size(fields)
    return ImageSettings(
        side_px=side,
        resize=resize,
        shortest_px=shortest,
        interpolation=_PILLOW_FILTERS[resample],
        scaling=_parse_transformers_scaling(fields),
    )


def _parse_transformers_size(fields: Mapping[str, Any]) -> tuple[int, Resize, int | None]:
    """The side of the square, the resize rule, and the length of the shorter side before the crop."""
    crop = fields.get("crop_size") if fields.get("do_center_crop", "crop_size" in fields) else None
    crop_px = None if crop is None else _parse_square(crop)
    size = fields["size"]
    if isinstance(size, dict) and "shortest_edge" in size:
        shortest: int | None = _parse_length(size["shortest_edge"])
    elif isinstance(size, int) and crop_px is not None:
        shortest = _parse_length(size)
    else:
        shortest = None
    if shortest is None:
        side = _parse_square(size)
        if crop_px not in (None, side):
            raise ValueError(f"a picture is resized to {side} x {side} px and then cropped to {crop_px} px")
        return side, "squash", None
    if fields.get("crop_pct") is not None:  # ConvNeXt's processor: a side of 384 px or more is not cropped
        if shortest >= 384:
            return shortest, "squash", None
        return shortest, "crop", _parse_length(int(shortest / float(fields["crop_pct"])))
    side = crop_px or shortest
    if side > shortest:
        raise ValueError(f"the crop of {side} px is larger than the shorter side of {shortest} px")
    return side, "crop", shortest


def _parse_transformers_scaling(fields: Mapping[str, Any]) -> Scaling:
    factor = float(fields.get("rescale_factor", 1 / 255)) if fields.get("do_rescale", True) else 1.0
    shift = 1.0 if fields.get("rescale_offset") else 0.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if fields.get("do_normalize", True):
        if "image_mean" not in fields or "image_std" not in fields:
            raise ValueError("image_mean or image_std is missing")
        mean, std = _parse_triple(fields["image_mean"]), _parse_deviations(fields["image_std"])
    if shift == 0.0 and factor == 1 / 255:
        scaling = _make_scaling(mean, std)
    else:
        pairs = list(zip(mean, std, strict=True))
        scale = tuple(factor / deviation for _, deviation in pairs)
        offset = tuple(-(shift + center) / deviation for center, deviation in pairs)
        scaling = Scaling("rgb", _parse_triple(scale), _parse_triple(offset))
    return Scaling("bgr", scaling.scale, scaling.offset) if fields.get("do_flip_channel_order") else scaling


def _parse_open_clip(fields: Mapping[str, Any], vision: Mapping[str, Any]) -> ImageSettings:
    """Parse OpenCLIP's settings; fields that are missing have OpenCLIP's own defaults."""
    size = fields.get("size") or vision.get("image_size")
    if size is None:
        raise ValueError("size is missing")
    side = _parse_square(size)
    mode = fields.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise ValueError(f"resize_mode is {mode!r}")
    interpolation = fields.get("interpolation") or "bicubic"
    if interpolation not in ("bicubic", "bilinear", "random"):
        raise ValueError(f"interpolation is {interpolation!r}")
    mean, std = fields.get("mean") or _OPENAI_MEAN, fields.get("std") or _OPENAI_STD
    return ImageSettings(
        side_px=side,
        resize="squash" if mode == "squash" else "crop",
        shortest_px=None if mode == "squash" else side,
        crop_offset="floor" if mode == "squash" else "round",
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
        scaling=_make_scaling(_parse_triple(mean), _parse_deviations(std)),
    )


def _make_scaling(mean: Mean, std: Mean) -> Scaling:
    """The scaling `(value / 255 - mean) / std`; the one of `SCALINGS` where it is one of them."""
    scaling = build_standard_scaling(mean, std)
    for named in SCALINGS.values():
        pairs = zip((*scaling.scale, *scaling.offset), (*named.scale, *named.offset), strict=True)
        if named.channels == "rgb" and all(abs(a - b) < 1e-9 for a, b in pairs):
            return named
    return scaling


def _parse_square(size: object) -> int:
    """The side of a square given as a number, a pair, or an object with height and width."""
    if isinstance(size, dict):
        lengths = [size[name] for name in ("height", "width")] if "height" in size else []
    else:
        lengths = list(size) if isinstance(size, list | tuple) else [size]
    if not lengths or len(set(lengths)) != 1:
        raise ValueError(f"the size {size} is not a square")
    return _parse_length(lengths[0])


def _parse_length(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MAX_SIDE_PX:
        raise ValueError(f"{value!r} is not a length in pixels")
    return value


def _parse_triple(values: Any) -> Mean:
    numbers = [float(value) for value in values]
    if len(numbers) != 3 or not all(map(isfinite, numbers)):
        raise ValueError(f"{numbers} are not three numbers")
    return numbers[0], numbers[1], numbers[2]


def _parse_deviations(values: Any) -> Mean:
    deviations = _parse_triple(values)
    if min(deviations) <= 0:
        raise ValueError(f"the standard deviations {list(deviations)} are not positive")
    return deviations
