"""Backends beside PostgreSQL that are killed, or cut off, and come back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, record_id
from app.drivers.pinecone import PineconeDriver
from app.drivers.redis import RedisDriver
from app.drivers.weaviate import WeaviateDriver
from app.embedding import Embedder
from app.settings import Limits, PineconeSettings, RedisSettings, WeaviateSettings
from tests.drivers import pinecone_fake, weaviate_fake
from tests.drivers.pinecone_fake import FakePinecone
from tests.drivers.weaviate_fake import FakeWeaviate
from tests.faults.server import Rows, Server
from tests.redis_server import RedisServer
from tests.service.service import Service


@dataclass(frozen=True)
class Backend:
    """One that a service has by these variables, and a driver of the test's own by `driver`."""

    name: str
    variables: dict[str, str]
    driver: Callable[[Embedder], RecordDriver]
    kill: Callable[[], Awaitable[None]]
    start: Callable[[], Awaitable[None]]
    indexes_late: bool = False
    """Whether it is degraded for a while after it came back."""

    async def rows(self, embedder: Embedder) -> Rows:
        """User and content of every record, by id; the backend has to be well."""
        async with self.driver(embedder) as driver:
            found = [record async for record in driver.export_records()]
            async with asyncio.timeout(20):
                while self.indexes_late and (await driver.health_check()).status != "ok":
                    await asyncio.sleep(0.02)
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


def redis(server: RedisServer) -> Backend:
    async def kill() -> None:
        server.kill()

    async def start() -> None:
        server.start()

    settings = RedisSettings(url=SecretStr(server.url))
    return Backend(
        "redis",
        {"REDIS_URL": server.url},
        lambda embedder: RedisDriver(settings, embedder, Limits()),
        kill,
        start,
        indexes_late=True,
    )


def weaviate(fake: FakeWeaviate) -> Backend:
    key = weaviate_fake.KEY
    settings = WeaviateSettings(url=fake.url, api_key=SecretStr(key))
    return Backend(
        "weaviate",
        {"WEAVIATE_URL": fake.url, "WEAVIATE_API_KEY": key},
        lambda embedder: WeaviateDriver(settings, embedder, Limits()),
        fake.kill,
        fake.start,
    )


def pinecone(fake: FakePinecone) -> Backend:
    key = pinecone_fake.KEY
    settings = PineconeSettings(host=fake.url, api_key=SecretStr(key))
    return Backend(
        "pinecone",
        {"PINECONE_HOST": fake.url, "PINECONE_API_KEY": key},
        lambda embedder: PineconeDriver(settings, embedder, Limits()),
        fake.kill,
        fake.start,
    )


@asynccontextmanager
async def service(
    kind: str, inner: str, first: Server, backend: Backend, folder: Path, **settings: str
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
            **backend.variables,
            **settings,
        }
    )
    try:
        service.start()
        await asyncio.to_thread(service.wait_ready)
        yield service, url
    finally:
        await asyncio.to_thread(service.stop)
