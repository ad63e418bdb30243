"""The settings files of published models against the steps that transformers and OpenCLIP document for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simsearch.errors import ModelError
from simsearch.models.image_processor import ImageSettings, read_image_settings
from tests.support.onnx_models import write_json

HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
CLIP = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}


def read(folder: Path, fields: dict[str, Any], name: str = "preprocessor_config.json") -> ImageSettings:
    return read_image_settings(write_json(folder / name, **fields))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        pytest.param(
            {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "resample": 3,
             "crop_size": {"height": 224, "width": 224}, "do_center_crop": True, **IMAGENET},
            (224, "crop", 256, "bicubic"), id="DINOv2",
        ),
        pytest.param(
            {"image_processor_type": "SiglipImageProcessor", "size": {"height": 256, "width": 256}, "resample": 2}
            | HALF,
            (256, "squash", None, "bilinear"), id="SigLIP 2",
        ),
        pytest.param(
            {"feature_extractor_type": "ViTFeatureExtractor", "size": 384, "resample": 2, **HALF},
            (384, "squash", None, "bilinear"), id="ViT, the size as a number",
        ),
        pytest.param(
            {"feature_extractor_type": "CLIPFeatureExtractor", "size": 224, "crop_size": 224, "do_center_crop": True,
             "resample": 3, **CLIP},
            (224, "crop", 224, "bicubic"), id="the first CLIP, the size as a number",
        ),
        pytest.param(
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.875,
             "resample": 3, **IMAGENET},
            (224, "crop", 256, "bicubic"), id="ConvNeXt, cropped",
        ),
        pytest.param(
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, "crop_pct": 0.875,
             "resample": 3, **IMAGENET},
            (384, "squash", None, "bicubic"), id="ConvNeXt, large enough not to be cropped",
        ),
        pytest.param(
            {"image_processor_type": "ViTImageProcessorFast", **HALF},
            (224, "squash", None, "bilinear"), id="ViT, all defaults",
        ),
        pytest.param(
            {"image_processor_type": "CLIPImageProcessor", "size": None, "do_resize": None},
            (224, "crop", 224, "bicubic"), id="CLIP, fields that are null",
        ),
        pytest.param(
            {"image_processor": {"size": {"height": 64, "width": 64}, "resample": 1, **HALF}},
            (64, "squash", None, "lanczos"), id="inside a processor",
        ),
    ],
)  # fmt: skip
def test_size_crop_and_filter_of_transformers(tmp_path: Path, fields: dict[str, Any], wanted: tuple[Any, ...]):
    found = read(tmp_path, fields)
    assert (found.side_px, found.resize, found.shortest_px, found.interpolation) == wanted


@pytest.mark.parametrize(
    "steps",
    [
        {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, **IMAGENET},
        {"do_normalize": True, **CLIP},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": True, **IMAGENET},
        {"do_rescale": False, "do_normalize": True, "image_mean": [120, 110, 100], "image_std": [60, 50, 40]},
        {"do_rescale": False, "do_normalize": False},
        {"do_normalize": False, "do_flip_channel_order": True},
    ],
    ids=["ImageNet", "CLIP", "EfficientNet", "EfficientNet, normalized", "not rescaled", "as it is", "MobileViT"],
)
def test_pixels_become_what_the_steps_of_transformers_make_of_them(tmp_path: Path, steps: dict[str, Any]):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3)).astype(np.float64)
    wanted = pixels * (steps.get("rescale_factor", 1 / 255) if steps.get("do_rescale", True) else 1)
    if steps.get("rescale_offset"):
        wanted = wanted - 1
    if steps["do_normalize"]:
        wanted = (wanted - steps["image_mean"]) / steps["image_std"]
    if steps.get("do_flip_channel_order"):
        wanted = wanted[:, ::-1]
    scaling = read(tmp_path, {"size": 8, **steps}).scaling
    ordered = pixels if scaling.channels == "rgb" else pixels[:, ::-1]
    np.testing.assert_allclose(ordered * scaling.scale + np.array(scaling.offset), wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"size": 224}, (224, "crop", 224, "bicubic")),
        ({"size": [256, 256], "resize_mode": "squash", "interpolation": "bilinear"}, (256, "squash", None, "bilinear")),
        ({"size": 32, "interpolation": "random"}, (32, "crop", 32, "bicubic")),
    ],
)
def test_settings_of_open_clip(tmp_path: Path, fields: dict[str, Any], wanted: tuple[Any, ...]):
    found = read(tmp_path, fields, "preprocess_cfg.json")
    assert (found.side_px, found.resize, found.shortest_px, found.interpolation) == wanted
    white = 255 * np.array(found.scaling.scale) + found.scaling.offset
    np.testing.assert_allclose(white, (1 - np.array(CLIP["image_mean"])) / CLIP["image_std"])


TRANSFORMERS, OPEN_CLIP = "preprocessor_config.json", "preprocess_cfg.json"


@pytest.mark.parametrize(
    ("file", "fields", "problem"),
    [
        (TRANSFORMERS, {"do_resize": False, "size": 8, **HALF}, "do_resize is false"),
        (TRANSFORMERS, {"image_processor_type": "NewImageProcessor", **HALF}, "its default for NewImageProcessor"),
        (TRANSFORMERS, {"size": 8}, "image_mean or image_std is missing"),
        (TRANSFORMERS, {"size": 8, "image_mean": [0.5, 0.5], "image_std": [1, 1, 1]}, "are not three numbers"),
        (TRANSFORMERS, {"size": 8, "image_mean": [0, 0, 0], "image_std": [1, 1, 0]}, "are not positive"),
        (TRANSFORMERS, {"size": {"height": 8, "width": 9}, **HALF}, "is not a square"),
        (TRANSFORMERS, {"size": {"longest_edge": 8}, **HALF}, "is not a square"),
        (TRANSFORMERS, {"size": 0, **HALF}, "0 is not a length in pixels"),
        (TRANSFORMERS, {"size": "large", **HALF}, "'large' is not a length in pixels"),
        (TRANSFORMERS, {"size": 8, "resample": 77, **HALF}, "resample is 77"),
        (TRANSFORMERS, {"size": 8, "resample": -1, **HALF}, "resample is -1"),
        (TRANSFORMERS, {"size": {"shortest_edge": 8}, "crop_size": 9, **HALF}, "the crop of 9 px is larger"),
        (TRANSFORMERS, {"size": {"height": 8, "width": 8}, "crop_size": 6, **HALF}, "then cropped to 6 px"),
        (OPEN_CLIP, {}, "size is missing"),
        (OPEN_CLIP, {"size": 8, "std": [0, 0, 0]}, "are not positive"),
        (OPEN_CLIP, {"size": 8, "resize_mode": "longest"}, "resize_mode is 'longest'"),
        (OPEN_CLIP, {"size": 8, "interpolation": "sinc"}, "interpolation is 'sinc'"),
    ],
)
def test_steps_that_this_package_does_not_have_are_named(
    tmp_path: Path, file: str, fields: dict[str, Any], problem: str
):
    with pytest.raises(ModelError, match=problem) as raised:
        read(tmp_path, fields, file)
    assert str(tmp_path / file) in str(raised.value)


@pytest.mark.parametrize("text", ["[1, 2]", "{", "\udcff"])
def test_a_file_that_is_no_json_object_is_named(tmp_path: Path, text: str):
    file = tmp_path / "preprocessor_config.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match="cannot be used"):
        read_image_settings(file)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match=r"cannot read .*No such file"):
        read_image_settings(tmp_path / "preprocessor_config.json")
