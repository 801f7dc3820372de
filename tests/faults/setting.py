"""A service over two drivers, and the databases under them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.faults.load import Load
from tests.faults.server import Server, rows
from tests.service.service import Service


@dataclass(frozen=True)
class Setting:
    """A configuration of two drivers, and the databases under them."""

    settings: dict[str, str]
    first: str
    second: str

    @asynccontextmanager
    async def services(self, count: int = 1) -> AsyncIterator[list[Service]]:
        """So many services, started together and stopped at the end."""
        services = [Service(self.settings) for _ in range(count)]
        try:
            for each in services:
                each.start()
            for each in services:
                await asyncio.to_thread(each.wait_ready)
            yield services
        finally:
            for each in services:
                await asyncio.to_thread(each.stop)

    async def check_equal(self, load: Load) -> None:
        kept = await rows(self.first)
        assert await rows(self.second) == kept
        load.check(kept)


async def two(kind: str, first: Server, second: Server, **settings: str) -> Setting:
    urls = await first.database(384), await second.database(384)
    return Setting(
        {
            "MEMORY_DRIVER": "main",
            "MEMORY_DRIVERS__MAIN__TYPE": kind,
            "MEMORY_DRIVERS__MAIN__INNER": "first,second",
            "MEMORY_DRIVERS__MAIN__TIMEOUT": "3",
            "MEMORY_DRIVERS__FIRST__TYPE": "pgvector",
            "MEMORY_DRIVERS__FIRST__URL": urls[0],
            "MEMORY_DRIVERS__FIRST__MIGRATE": "true",
            "MEMORY_DRIVERS__SECOND__TYPE": "pgvector",
            "MEMORY_DRIVERS__SECOND__URL": urls[1],
            "MEMORY_DRIVERS__SECOND__MIGRATE": "true",
            **settings,
        },
        *urls,
    )
