"""A real Weaviate, of which a test has collections of its own."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
from pydantic import SecretStr

from app.settings import WeaviateSettings


@asynccontextmanager
async def collections_of_its_own(url: str) -> AsyncIterator[WeaviateSettings]:
    """Settings of the Weaviate there and of the key TEST_WEAVIATE_API_KEY, with another prefix.

    The collections of that prefix are deleted at the end.
    """
    key = os.environ.get("TEST_WEAVIATE_API_KEY") or None
    settings = WeaviateSettings(
        url=url, api_key=SecretStr(key) if key else None, prefix=f"Test{uuid4().hex}"
    )
    try:
        yield settings
    finally:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with httpx.AsyncClient(base_url=settings.url, headers=headers, timeout=60) as client:
            for kind in ("Memory", "Knowledge", "Mark"):
                path = f"/v1/schema/{settings.prefix}{kind}"
                (await client.delete(path)).raise_for_status()
                assert (await client.get(path)).status_code == 404
