"""The pinecone driver: a dense index of Pinecone, over its HTTP API."""

from app.drivers.pinecone.driver import PineconeDriver

__all__ = ["PineconeDriver"]
