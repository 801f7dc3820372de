"""Pinecone beside PostgreSQL, cut off under concurrent writes, and back.

After each: every acknowledged write is found, exactly once, no deleted record is back, and both
backends are equal.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.core.memory.records import Memory, record_id
from app.drivers.pinecone import PineconeDriver
from app.embedding import Embedder
from app.settings import Limits, PineconeSettings
from tests.drivers import pinecone_fake
from tests.drivers.pinecone_fake import KEY, FakePinecone
from tests.faults.load import WRITES, Load, pending, settled
from tests.faults.server import Rows, Server, rows
from tests.service.service import Service


@pytest.fixture
async def pinecone() -> AsyncIterator[FakePinecone]:
    async with pinecone_fake.running() as fake:
        yield fake


@asynccontextmanager
async def service(
    kind: str, inner: str, first: Server, pinecone: FakePinecone, folder: Path, **settings: str
) -> AsyncIterator[tuple[Service, str]]:
    """A service over both backends, and the URL of its PostgreSQL."""
    url = await first.database(384)
    service = Service(
        {
            "MEMORY_DRIVER": "main",
            "MEMORY_DRIVERS__MAIN__TYPE": kind,
            "MEMORY_DRIVERS__MAIN__INNER": inner,
            "MEMORY_DRIVERS__MAIN__TIMEOUT": "3",
            "MEMORY_JOURNAL_PATH": str(folder),
            "DATABASE_URL": url,
            "PINECONE_HOST": pinecone.url,
            "PINECONE_API_KEY": KEY,
            **settings,
        }
    )
    try:
        service.start()
        await asyncio.to_thread(service.wait_ready)
        yield service, url
    finally:
        await asyncio.to_thread(service.stop)


async def rows_of(pinecone: FakePinecone, embedder: Embedder) -> Rows:
    settings = PineconeSettings(host=pinecone.url, api_key=SecretStr(KEY))
    async with PineconeDriver(settings, embedder, Limits()) as driver:
        found = [record async for record in driver.export_records()]
        assert (await driver.health_check()).status == "ok"
    kept = {
        record_id(record): (
            record.user_id if isinstance(record, Memory) else None,
            record.content,
        )
        for record in found
    }
    assert len(kept) == len(found)
    return kept


async def test_replicated_survives_a_pinecone_that_is_its_replica(
    first: Server, pinecone: FakePinecone, tmp_path: Path, embedder: Embedder
) -> None:
    async with service("replicated", "pgvector,pinecone", first, pinecone, tmp_path) as (one, url):
        load = Load()
        writes = asyncio.create_task(load.run([one]))
        await load.progress(WRITES // 3)
        await pinecone.kill()
        await load.progress(WRITES // 3)
        assert (await pending(one))["pinecone"]["count"] > 0
        await pinecone.start()
        await writes
        await settled(one)
        assert "Traceback" not in one.output
    assert not load.refused
    kept = await rows(url)
    assert await rows_of(pinecone, embedder) == kept
    load.check(kept)


async def test_failover_writes_on_while_its_pinecone_is_away(
    first: Server, pinecone: FakePinecone, tmp_path: Path, embedder: Embedder
) -> None:
    journal = {"MEMORY_DRIVERS__MAIN__WRITES": "journal"}
    both = service("failover", "pinecone,pgvector", first, pinecone, tmp_path, **journal)
    async with both as (one, _):
        load = Load()
        writes = asyncio.create_task(load.run([one]))
        await load.progress(WRITES // 3)
        await pinecone.kill()
        await load.progress(WRITES // 3)
        await pinecone.start()
        await writes
        await settled(one)
        assert "Traceback" not in one.output
    assert not load.refused
    kept = await rows_of(pinecone, embedder)
    load.check(kept)
