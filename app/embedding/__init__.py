"""Text to vectors: the contract, and the embedder that the settings choose."""

from app.embedding.base import MOST_WINDOWS, Embedder, Vector, Windows, noting_truncated
from app.embedding.identity import AGREEMENT, SAMPLE, Model
from app.embedding.local import LocalEmbedder
from app.settings import EmbeddingSettings

__all__ = [
    "AGREEMENT",
    "MOST_WINDOWS",
    "SAMPLE",
    "Embedder",
    "Model",
    "Vector",
    "Windows",
    "build_embedder",
    "noting_truncated",
]


def build_embedder(settings: EmbeddingSettings) -> Embedder:
    """The configured embedder, not opened."""
    if settings.url is not None:
        from app.embedding.openai import OpenAIEmbedder

        return OpenAIEmbedder(settings)
    return LocalEmbedder(settings)
