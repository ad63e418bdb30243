"""The text encoder of a two-tower model: its files, and how a text becomes the ids that it reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simsearch.errors import ModelError
from simsearch.models.onnx_file import read_onnx_outline
from simsearch.models.onnx_folder import find_model_root, find_text_files
from simsearch.models.onnx_graph import has_both_towers

_DEFAULT_CONTEXT_LENGTH = 77  # CLIP's (Radford et al. 2021)
_MAX_CONTEXT_LENGTH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTower:
    """The text encoder of a two-tower model.

    `graph` is the path of its ONNX file. In a combined file, which holds both towers, it is the file of the image
    encoder too; then only outputs that need no picture may be asked. `tokenizer` is the path of a `tokenizer.json`. A
    text becomes `context_length` ids, padded with the id of `pad_token`, or with 0 where that is None; longer texts are
    cut, and their end token is kept. `lowers_case` and `strips_punctuation` are applied before the tokenizer.
    """

    graph: str
    tokenizer: str
    context_length: int
    pad_token: str | None = None
    lowers_case: bool = False
    strips_punctuation: bool = False


def find_local_text_tower(graph: str) -> TextTower | None:
    """The text encoder that lies beside the image encoder `graph`; None where there is none.

    Raises `ModelError` when its settings cannot be read.
    """
    image = Path(graph)
    root = find_model_root(image)
    text, tokenizer = find_text_files(image, root)
    if tokenizer is not None and has_both_towers(read_onnx_outline(graph)):
        text = image
    return None if text is None or tokenizer is None else _read_settings(root, str(text), str(tokenizer))


def _read_settings(root: Path, graph: str, tokenizer: str) -> TextTower:
    config = _read_json(root / "config.json")
    open_clip = _read_json(root / "open_clip_config.json").get("model_cfg") or config
    text = open_clip.get("text_cfg") or {}
    words = _read_json(Path(tokenizer).with_name("tokenizer_config.json"))
    is_canonical = (text.get("tokenizer_kwargs") or {}).get("clean") == "canonicalize"
    pad = words.get("pad_token")
    return TextTower(
        graph=graph,
        tokenizer=tokenizer,
        context_length=_choose_context_length(
            _read_fixed_length(graph),
            text.get("context_length"),
            (config.get("text_config") or {}).get("max_position_embeddings"),
            words.get("model_max_length"),
        ),
        pad_token=pad.get("content") if isinstance(pad, dict) else pad,
        lowers_case=is_canonical or config.get("model_type") in ("siglip", "siglip2"),
        strips_punctuation=is_canonical or config.get("model_type") == "siglip",
    )


def _choose_context_length(*lengths: object) -> int:
    for length in lengths:
        if isinstance(length, int) and 0 < length <= _MAX_CONTEXT_LENGTH:
            return length
    return _DEFAULT_CONTEXT_LENGTH


def _read_fixed_length(graph: str) -> int | None:
    """The fixed number of ids that a text encoder reads; None where it is variable."""
    for tensor in read_onnx_outline(graph).inputs:
        if tensor.element_type in ("int64", "int32") and tensor.shape and len(tensor.shape) == 2:
            return tensor.shape[1]
    return None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read ({error})", "download it again") from error
    return fields if isinstance(fields, dict) else {}
