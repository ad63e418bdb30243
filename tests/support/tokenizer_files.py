"""Small tokenizers as files."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors


def write_siglip_tokenizer(path: Path) -> Path:
    """A `tokenizer.json` of SigLIP's form: an end token 1 and no start token; `<pad>` is 0."""
    words = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", "a", "red", "vase", "dont", "A"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<pad>", "<eos>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing("$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(path))
    return path
