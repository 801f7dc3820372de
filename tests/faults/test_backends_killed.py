"""Another backend beside PostgreSQL, killed or cut off under concurrent writes, and back.

After each: every acknowledged write is found, exactly once, no deleted record is back, and both
backends are equal. Redis is killed with SIGKILL; the fakes hang up on everybody.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.embedding import Embedder
from tests.drivers import pinecone_fake, weaviate_fake
from tests.faults import backends
from tests.faults.backends import Backend, service
from tests.faults.load import WRITES, Load, pending, settled
from tests.faults.server import Server, rows
from tests.redis_server import KEEPING, NO_SEARCH, can_search, running


@pytest.fixture(params=["redis", "weaviate", "pinecone"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param == "weaviate":
        async with weaviate_fake.running() as weaviate:
            yield backends.weaviate(weaviate)
    elif request.param == "pinecone":
        async with pinecone_fake.running() as pinecone:
            yield backends.pinecone(pinecone)
    else:
        if not can_search():
            pytest.skip(NO_SEARCH)
        with running(*KEEPING, search=True) as redis:
            yield backends.redis(redis)


async def test_replicated_survives_a_backend_that_is_its_replica(
    first: Server, backend: Backend, tmp_path: Path, embedder: Embedder
) -> None:
    inner = f"pgvector,{backend.name}"
    async with service("replicated", inner, first, backend, tmp_path) as (one, url):
        load = Load()
        writes = asyncio.create_task(load.run([one]))
        await load.progress(WRITES // 3)
        await backend.kill()
        await load.progress(WRITES // 3)
        assert (await pending(one))[backend.name]["count"] > 0
        await backend.start()
        await writes
        await settled(one)
        assert "Traceback" not in one.output
    assert not load.refused
    kept = await rows(url)
    assert await backend.rows(embedder) == kept
    load.check(kept)


async def test_failover_writes_on_while_its_primary_is_away(
    first: Server, backend: Backend, tmp_path: Path, embedder: Embedder
) -> None:
    journal = {"MEMORY_DRIVERS__MAIN__WRITES": "journal"}
    inner = f"{backend.name},pgvector"
    async with service("failover", inner, first, backend, tmp_path, **journal) as (one, _):
        load = Load()
        writes = asyncio.create_task(load.run([one]))
        await load.progress(WRITES // 3)
        await backend.kill()
        await load.progress(WRITES // 3)
        await backend.start()
        await writes
        await settled(one)
        assert "Traceback" not in one.output
    assert not load.refused
    kept = await backend.rows(embedder)
    load.check(kept)
