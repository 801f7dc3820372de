"""Scores of texts for a query by a model that reads both together."""

from app.reranking.base import Reranker
from app.reranking.reranking import Reranking
from app.settings import RerankSettings

__all__ = ["Reranker", "Reranking", "build_reranking"]


def build_reranking(settings: RerankSettings) -> Reranking | None:
    """The configured reranking, not opened; None where none is configured."""
    if settings.url is not None:
        from app.reranking.http import HttpReranker

        return Reranking(HttpReranker(settings), "MEMORY_RERANK_URL", settings.seconds)
    if settings.model is not None:
        from app.reranking.local import LocalReranker

        return Reranking(LocalReranker(settings.model), "MEMORY_RERANK_MODEL", settings.seconds)
    return None
