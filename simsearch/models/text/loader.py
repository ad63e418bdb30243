"""Open the text encoder of a model."""

from __future__ import annotations

from simsearch.errors import UsageError
from simsearch.models.choice import has_text_tower, locate_text_tower
from simsearch.models.model import Model
from simsearch.models.text.cache import TextVectorCache
from simsearch.models.text.encoder import TextEncoder
from simsearch.models.text.heads import has_head, read_head
from simsearch.models.text.tower import TowerEncoder
from simsearch.models.text.words import WordEncoder
from simsearch.models.weights import WeightsOptions


def can_encode_text(model: Model) -> bool:
    """Whether a model can answer texts, if the weights for it are found."""
    return has_head(model) or _has_own_space(model)


def open_text_encoder(model: Model, options: WeightsOptions) -> TextEncoder:
    """Open the text encoder of a model. `options` says where its weights are, and whether downloads are forbidden.

    Raises `UsageError` if the model cannot answer texts, or a `ModelError`.
    """
    if has_head(model):
        return WordEncoder(model.backbone, read_head(model, options))
    if _has_own_space(model):
        tower = locate_text_tower(model, options)
        return TowerEncoder(tower, TextVectorCache(tower))
    raise UsageError(
        f"{model.backbone} cannot answer text queries",
        "index with a network that has an ImageNet head, at its default layer, or with a model that has a text tower",
    )


def _has_own_space(model: Model) -> bool:
    """Whether a model has a text tower in the space of its vectors: a learned map leaves that space."""
    return model.learned is None and has_text_tower(model)
