"""Redis beside PostgreSQL, killed with SIGKILL under concurrent writes, and back.

After each: every acknowledged write is found, exactly once, no deleted record is back, and both
backends are equal.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import SecretStr

from app.core.memory.records import Memory, record_id
from app.drivers.redis import RedisDriver
from app.embedding import Embedder
from app.settings import Limits, RedisSettings
from tests.faults.load import WRITES, Load, pending, settled
from tests.faults.server import Rows, Server, rows
from tests.redis_server import RedisServer
from tests.service.service import Service


@asynccontextmanager
async def service(
    kind: str, inner: str, first: Server, search: RedisServer, folder: Path, **settings: str
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
            "REDIS_URL": search.url,
            **settings,
        }
    )
    try:
        service.start()
        await asyncio.to_thread(service.wait_ready)
        yield service, url
    finally:
        await asyncio.to_thread(service.stop)


async def rows_of(search: RedisServer, embedder: Embedder) -> Rows:
    settings = RedisSettings(url=SecretStr(search.url))
    async with RedisDriver(settings, embedder, Limits()) as driver:
        found = [record async for record in driver.export_records()]
        async with asyncio.timeout(20):
            while (await driver.health_check()).status != "ok":
                await asyncio.sleep(0.02)
    kept = {
        record_id(record): (
            record.user_id if isinstance(record, Memory) else None,
            record.content,
        )
        for record in found
    }
    assert len(kept) == len(found)
    return kept


async def test_replicated_survives_a_redis_that_is_its_replica(
    first: Server, search: RedisServer, tmp_path: Path, embedder: Embedder
) -> None:
    async with service("replicated", "pgvector,redis", first, search, tmp_path) as (one, url):
        load = Load()
        writes = asyncio.create_task(load.run([one]))
        await load.progress(WRITES // 3)
        search.kill()
        await load.progress(WRITES // 3)
        assert (await pending(one))["redis"]["count"] > 0
        search.start()
        await writes
        await settled(one)
        assert "Traceback" not in one.output
    assert not load.refused
    kept = await rows(url)
    assert await rows_of(search, embedder) == kept
    load.check(kept)


async def test_failover_writes_on_while_its_redis_is_away(
    first: Server, search: RedisServer, tmp_path: Path, embedder: Embedder
) -> None:
    journal = {"MEMORY_DRIVERS__MAIN__WRITES": "journal"}
    both = service("failover", "redis,pgvector", first, search, tmp_path, **journal)
    async with both as (one, _):
        load = Load()
        writes = asyncio.create_task(load.run([one]))
        await load.progress(WRITES // 3)
        search.kill()
        await load.progress(WRITES // 3)
        search.start()
        await writes
        await settled(one)
        assert "Traceback" not in one.output
    assert not load.refused
    kept = await rows_of(search, embedder)
    load.check(kept)
