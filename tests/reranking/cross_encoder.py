"""Small cross-encoders, made of weights that say what they look for."""

from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "copper", "steel", "kettle", "pan", "tea"]


def write(folder: Path, *, scores: int = 1, longest: int = 64) -> Path:
    """The folder of a model that gives a pair more for each copper in it, and less for steel.

    Every token looks at all others alike, and what it sees of copper is its first number.
    """
    _write_words(folder)
    model = BertForSequenceClassification(_config(longest, scores))
    weights = {
        name: torch.full_like(weight, "LayerNorm.weight" in name)
        for name, weight in model.state_dict().items()
    }
    embeddings = weights["bert.embeddings.word_embeddings.weight"]
    embeddings[:, 3] = 1.0  # LayerNorm takes away what all numbers have in common
    embeddings[WORDS.index("copper"), 0] = 4.0
    embeddings[WORDS.index("steel"), 0] = -4.0
    for layer in ("encoder.layer.0.attention.self.value", "encoder.layer.0.attention.output.dense"):
        weights[f"bert.{layer}.weight"] = torch.eye(4)
    weights["bert.pooler.dense.weight"] = torch.eye(4)
    weights["classifier.weight"][:, 0] = 4.0
    model.load_state_dict(weights)
    model.save_pretrained(folder)
    return folder


def write_without_scores(folder: Path) -> Path:
    """The folder of a model that embeds, as those of `MEMORY_EMBEDDING_MODEL` do."""
    _write_words(folder)
    BertModel(_config(64)).save_pretrained(folder)
    return folder


def without_numbers_for_tea(folder: Path) -> Path:
    """The model of the folder, which from now on has no number for what speaks of tea."""
    model = BertForSequenceClassification.from_pretrained(folder)
    weights = model.state_dict()
    weights["bert.embeddings.word_embeddings.weight"][WORDS.index("tea")] = torch.nan
    model.load_state_dict(weights)
    model.save_pretrained(folder)
    return folder


def _write_words(folder: Path) -> None:
    BertTokenizer(vocab={word: n for n, word in enumerate(WORDS)}).save_pretrained(folder)


def _config(longest: int, scores: int = 1) -> BertConfig:
    sizes: dict[str, Any] = {
        "vocab_size": len(WORDS),
        "hidden_size": 4,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 4,
        "max_position_embeddings": longest,
        "num_labels": scores,
    }
    return BertConfig(**sizes)
