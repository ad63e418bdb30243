"""Choose the input and the output of an ONNX graph that embed pictures, from its outline."""

from __future__ import annotations

from pathlib import Path

from simsearch.errors import ModelError
from simsearch.models.onnx_file import OnnxOutline, OnnxTensor

_OUTPUT_NAMES = ("image_embeds", "image_embeddings", "pooler_output", "last_hidden_state")
"""The outputs that are an embedding of a picture, the best first."""

_TEXT_NAMES = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "text", "tokens")
_INTEGERS = ("int64", "int32")


def is_text_input(tensor: OnnxTensor) -> bool:
    """Whether an input takes the tokens of texts."""
    return tensor.name in _TEXT_NAMES or (tensor.element_type in _INTEGERS and tensor.rank == 2)


def has_both_towers(outline: OnnxOutline) -> bool:
    """Whether a graph reads pictures and texts."""
    return any(map(is_text_input, outline.inputs)) and not all(map(is_text_input, outline.inputs))


def find_picture_input(outline: OnnxOutline, graph: Path) -> OnnxTensor:
    """Find the input for pictures. The other inputs of a graph of two towers take texts, and are not needed.

    Raises `ModelError` for a graph without such an input, or with others that are no texts.
    """
    pictures = [tensor for tensor in outline.inputs if not is_text_input(tensor)]
    if not pictures:
        raise ModelError(f"{graph} reads texts, not pictures", _advise_image_encoder(graph))
    if len(pictures) > 1:
        raise ModelError(f"{graph} has {len(outline.inputs)} inputs", "export it with one input, the picture")
    return pictures[0]


def choose_output(outline: OnnxOutline, graph: Path) -> OnnxTensor:
    """Choose the embedding: `image_embeds`, `pooler_output` or `last_hidden_state`, else the first output.

    Raises `ModelError` for a graph of two towers that has no output of the image encoder alone.
    """
    by_name = {tensor.name: tensor for tensor in outline.outputs}
    has_texts = any(map(is_text_input, outline.inputs))
    for name in _OUTPUT_NAMES[:2] if has_texts else _OUTPUT_NAMES:
        if name in by_name:
            return by_name[name]
    if has_texts:
        problem = f"{graph} reads pictures and texts, and has no output image_embeds"
        raise ModelError(problem, _advise_image_encoder(graph))
    return outline.outputs[0]


def _advise_image_encoder(graph: Path) -> str:
    for name in ("vision_model.onnx", "visual.onnx", "../visual/model.onnx"):
        if (graph.parent / name).is_file():
            return f"take {(graph.parent / name).resolve() if name[0] == '.' else graph.parent / name}"
    return "take the image encoder, such as vision_model.onnx or visual/model.onnx"
