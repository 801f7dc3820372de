"""The weaviate driver: Weaviate 1.38.10 or newer, over HTTP alone."""

from app.drivers.weaviate.driver import WeaviateDriver

__all__ = ["WeaviateDriver"]
