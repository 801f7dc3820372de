"""Text to vectors: the contract, and the embedder that the settings choose."""

from app.embedding.base import Embedder, Vector
from app.embedding.sentence_transformer import SentenceTransformerEmbedder
from app.settings import EmbeddingSettings

__all__ = ["Embedder", "Vector", "build_embedder"]


def build_embedder(settings: EmbeddingSettings) -> Embedder:
    """The configured embedder, not opened."""
    return SentenceTransformerEmbedder(settings)
