"""A real index of Pinecone for tests: in namespaces of their own, of which nothing is left."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
from pydantic import SecretStr

from app.drivers.pinecone.client import API_VERSION
from app.settings import PineconeSettings

_SECONDS = 120.0


@asynccontextmanager
async def namespaces_of_its_own(host: str) -> AsyncIterator[PineconeSettings]:
    """Settings for the index of the host, whose key is TEST_PINECONE_API_KEY."""
    key = SecretStr(os.environ["TEST_PINECONE_API_KEY"])
    settings = PineconeSettings(api_key=key, host=host, namespace=f"test-{uuid4().hex}")
    try:
        yield settings
    finally:
        await _delete_namespaces(settings)


async def _delete_namespaces(settings: PineconeSettings) -> None:
    """Delete all namespaces that begin as the settings say, and wait until none is listed."""
    assert settings.api_key is not None
    assert settings.host is not None
    headers = {
        "Api-Key": settings.api_key.get_secret_value(),
        "X-Pinecone-Api-Version": API_VERSION,
    }
    async with (
        asyncio.timeout(_SECONDS),
        httpx.AsyncClient(base_url=settings.host, headers=headers, timeout=30) as client,
    ):
        while names := await _names(client, f"{settings.namespace}-"):
            for name in names:
                gone = await client.delete(f"/namespaces/{name}")
                assert gone.is_success or gone.status_code == 404
            await asyncio.sleep(0.5)


async def _names(client: httpx.AsyncClient, prefix: str) -> list[str]:
    answer = await client.get("/namespaces", params={"prefix": prefix, "limit": 100})
    return [each["name"] for each in answer.raise_for_status().json()["namespaces"]]
