"""Encode texts by the text tower of a two-tower model: a tokenizer and an ONNX graph.

The ids of a text are those of the model's own `tokenizer.json`, padded to the context length. Longer texts are cut, and
the end token is kept, as CLIP (Radford et al. 2021) and OpenCLIP do. Vectors are kept in the user's cache.
"""

from __future__ import annotations

import string
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simsearch.errors import MissingExtra, ModelError
from simsearch.models.onnx_file import read_onnx_outline
from simsearch.models.onnx_graph import is_text_input
from simsearch.models.text.cache import TextVectorCache
from simsearch.models.text.encoder import TextDirections, normalize_directions
from simsearch.models.text_tower import TextTower

_OUTPUT_NAMES = ("text_embeds", "text_embeddings", "pooler_output")
_MASK_NAME = "attention_mask"
_TO_SPACE = str.maketrans("_", " ")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TowerTokenizer:
    """The tokenizer of a text tower. Raises `MissingExtra`, or `ModelError` when its file cannot be read."""

    def __init__(self, tower: TextTower) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtra("a text query with a two-tower model", "text") from error
        try:
            self._tokenizer = Tokenizer.from_file(tower.tokenizer)
        except Exception as error:  # the package raises a bare Exception for every failure
            raise ModelError(f"cannot read the tokenizer {tower.tokenizer} ({error})", "download it again") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tower = tower
        padding = None if tower.pad_token is None else self._tokenizer.token_to_id(tower.pad_token)
        self._pad_id = padding or 0

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Encode texts as ids (n, context length) and masks of the same shape: 1 for ids of the text, 0 for padding."""
        length = self._tower.context_length
        ids = np.full((len(texts), length), self._pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            encoding = self._tokenizer.encode(self._clean(text))
            found = encoding.ids
            if len(found) > length:
                has_end = encoding.special_tokens_mask[-1] == 1
                found = [*found[: length - 1], found[-1]] if has_end else found[:length]
            ids[row, : len(found)] = found
            mask[row, : len(found)] = 1
        return ids, mask

    def _clean(self, text: str) -> str:
        if self._tower.strips_punctuation:
            text = text.translate(_TO_SPACE).translate(_WITHOUT_PUNCTUATION)
        if self._tower.lowers_case:
            text = text.lower()
        return " ".join(text.split()) if self._tower.strips_punctuation else text


class TowerEncoder:
    """Texts as one direction each, by a text tower. The graph is loaded for the first text that is not in the cache."""

    def __init__(self, tower: TextTower, cache: TextVectorCache) -> None:
        self._tower = tower
        self._cache = cache
        self._lock = threading.Lock()
        self._loaded: tuple[TowerTokenizer, Any] | None = None

    def encode(self, texts: Sequence[str]) -> list[TextDirections]:
        """Encode texts, each to one unit row (1, d). Raises `MissingExtra` or another `ModelError`."""
        return [TextDirections(self._encode_one(text)) for text in texts]

    def _encode_one(self, text: str) -> NDArray[np.float32]:
        if (stored := self._cache.find(text)) is not None:
            return stored
        with self._lock:
            tokenizer, graph = self._load()
            ids, mask = tokenizer.encode([text])
            rows = normalize_directions(graph.run({"ids": ids, _MASK_NAME: mask}))
        if not np.isfinite(rows).all() or not rows.any():
            raise ModelError(f"{self._tower.graph} returned no direction for {text!r}", "use another text or model")
        self._cache.keep(text, rows)
        return rows

    def _load(self) -> tuple[TowerTokenizer, Any]:
        if self._loaded is None:
            from simsearch.models.openvino_runtime import OnnxTextGraph

            tokenizer = TowerTokenizer(self._tower)
            self._loaded = tokenizer, OnnxTextGraph(self._tower.graph, *_choose_tensors(self._tower))
        return self._loaded


def _choose_tensors(tower: TextTower) -> tuple[dict[str, str], str]:
    """Choose the inputs of a text tower, by name with what they take (`ids` or `attention_mask`), and the output."""
    outline = read_onnx_outline(tower.graph)
    inputs: dict[str, str] = {}
    for tensor in filter(is_text_input, outline.inputs):
        inputs[tensor.name] = _MASK_NAME if tensor.name == _MASK_NAME else "ids"
    if list(inputs.values()).count("ids") != 1:
        problem = f"{Path(tower.graph).name} has the text inputs {', '.join(inputs) or 'none'}"
        raise ModelError(problem, "export the text encoder with input_ids, and attention_mask or none")
    names = [tensor.name for tensor in outline.outputs]
    return inputs, next((name for name in _OUTPUT_NAMES if name in names), names[0])
