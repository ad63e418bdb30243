"""What a model does with a picture before its network sees it, in words."""

from __future__ import annotations

from simsearch.images.resize import ResizeRule
from simsearch.models.model import SCALINGS, Model, Scaling

_RESIZES = {
    "squash": "both sides scaled to {side} x {side} px",
    "crop": "shorter side scaled to {shortest} px, middle {side} x {side} px",
    "pad": "longer side scaled to {side} px, padded with white to a square",
    "nearest": "both sides scaled to {side} x {side} px",
}
_SCALINGS = {
    "none": "RGB from 0 to 255",
    "unit": "RGB from 0 to 1",
    "tf": "RGB from -1 to 1",
    "torch": "RGB with mean and deviation of ImageNet",
    "caffe": "BGR less the mean of ImageNet",
    "clip": "RGB with mean and deviation of CLIP",
}


def describe_preprocessing(model: Model) -> str:
    """Describe resizing, interpolation and scaling, such as `both sides scaled to 96 x 96 px, bilinear; RGB`.

    Published figures hold for the pre-processing that they were measured with.
    """
    if model.runtime == "imported":
        return "imported vectors"
    if model.fusion is not None:
        return " | ".join(dict.fromkeys(describe_preprocessing(part.model) for part in model.fusion.parts))
    rule = model.resize_rule
    if not isinstance(rule, ResizeRule):
        raise TypeError(f"a model that joins no others has the rule {rule}")
    shortest = rule.shortest_px or -(-rule.side_px * 8 // 7)
    size = _RESIZES[rule.resize].format(side=rule.side_px, shortest=shortest)
    interpolation = "nearest" if rule.resize == "nearest" else rule.interpolation
    return f"{size}, {interpolation}; {_describe_scaling(model.scaling)}"


def _describe_scaling(scaling: Scaling) -> str:
    for name, known in SCALINGS.items():
        if scaling == known:
            return _SCALINGS[name]
    scale, offset = (" ".join(f"{value:.4g}" for value in values) for values in (scaling.scale, scaling.offset))
    return f"{scaling.channels.upper()} times {scale} plus {offset}"
