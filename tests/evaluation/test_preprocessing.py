"""Pre-processing in words."""

from __future__ import annotations

from dataclasses import replace

from simsearch.evaluation.preprocessing import describe_preprocessing
from simsearch.models.model import SCALINGS, Model, build_standard_scaling

MODEL = Model(
    backbone="b", runtime="onnx", weights="w", file=None, side_px=224, resize="squash", scaling=SCALINGS["tf"],
    layer=None, pooling="avg",
)  # fmt: skip


def test_size_filter_and_scaling_are_named():
    assert describe_preprocessing(MODEL) == "both sides scaled to 224 x 224 px, bilinear; RGB from -1 to 1"
    crop = replace(MODEL, resize="crop", interpolation="bicubic", scaling=SCALINGS["clip"])
    assert describe_preprocessing(crop) == (
        "shorter side scaled to 256 px, middle 224 x 224 px, bicubic; RGB with mean and deviation of CLIP"
    )
    assert "shorter side scaled to 248 px" in describe_preprocessing(replace(crop, shortest_px=248))
    own = replace(MODEL, scaling=build_standard_scaling((0.5, 0.5, 0.5), (0.5, 0.25, 0.5)))
    assert describe_preprocessing(own).endswith("RGB times 0.007843 0.01569 0.007843 plus -1 -2 -1")


def test_imported_vectors_have_none():
    assert describe_preprocessing(replace(MODEL, runtime="imported")) == "imported vectors"
