"""Services and backends killed with SIGKILL while documents are put, under readers.

Before, meanwhile and after, each reader sees one put of a document, whole: the last that was
answered, or the one under way. The put is sent again, and then every backend has its records and
nothing else.
"""

import asyncio
import signal

import pytest

from app.embedding import Embedder
from tests.faults import backends
from tests.faults.documents import Documents
from tests.faults.load import settled
from tests.faults.server import Server, rows
from tests.faults.setting import Setting, two
from tests.redis_server import RedisServer
from tests.service.service import Service
from tests.storm import times

ROUNDS = times(3, 40)


async def _kill(victim: Service, documents: Documents, *others: Service) -> None:
    """Kill it after a put or two, somewhere in the next; the others go on."""
    documents.use(victim, *others)
    await documents.progress(documents.random.randint(1, 2))
    await asyncio.sleep(documents.random.uniform(0, 0.15))
    victim.process.send_signal(signal.SIGKILL)
    documents.use(*others)
    await documents.progress(1)


async def _next(services: list[Service], settings: dict[str, str]) -> Service:
    """One service more, which is stopped with the others."""
    services.append(Service(settings).start())
    await asyncio.to_thread(services[-1].wait_ready)
    return services[-1]


async def _kill_services(setting: Setting, documents: Documents) -> None:
    """Kill one service after the other; there are two that share what they have, until the last."""
    async with setting.services(2) as services:
        documents.use(*services)
        async with documents.under_way():
            survivor = services[1]
            await _kill(services[0], documents, survivor)
            for _ in range(ROUNDS - 1):
                victim, survivor = survivor, await _next(services, setting.settings)
                await _kill(victim, documents, survivor)
        assert all("Traceback" not in each.output for each in services)
    assert documents.cut
    assert documents.reads


@pytest.mark.parametrize("backend", ["pgvector", "redis"])
async def test_a_document_is_old_or_new_whenever_its_service_is_killed(
    first: Server, search: RedisServer, embedder: Embedder, backend: str
) -> None:
    url = await first.database(384)
    settings = {"MEMORY_DRIVER": backend, "DATABASE_URL": url, "REDIS_URL": search.url}
    documents = Documents(seed=5)
    await _kill_services(Setting(settings, url, url), documents)
    documents.check(
        await rows(url) if backend == "pgvector" else await backends.redis(search).rows(embedder)
    )


@pytest.mark.parametrize("backend", ["pgvector", "redis"])
async def test_a_document_is_old_or_new_whenever_its_backend_is_killed(
    first: Server, search: RedisServer, embedder: Embedder, backend: str
) -> None:
    url = await first.database(384)
    settings = {"MEMORY_DRIVER": backend, "DATABASE_URL": url, "REDIS_URL": search.url}
    documents = Documents(seed=6)
    async with Setting(settings, url, url).services() as [service]:
        documents.use(service)
        async with documents.under_way():
            for _ in range(ROUNDS):
                await documents.progress(documents.random.randint(1, 2))
                await asyncio.sleep(documents.random.uniform(0, 0.15))
                if backend == "pgvector":
                    first.kill()
                else:
                    search.kill()
                    search.start()
                await documents.progress(1)
        assert "Traceback" not in service.output
    assert documents.reads
    documents.check(
        await rows(url) if backend == "pgvector" else await backends.redis(search).rows(embedder)
    )


@pytest.mark.parametrize("kind", ["failover", "replicated"])
async def test_a_document_is_old_or_new_through_a_journal_whoever_is_killed_or_away(
    first: Server, second: Server, third: Server, kind: str
) -> None:
    more = {"WRITES": "journal"} if kind == "failover" else {"ACKNOWLEDGE": "journal"}
    setting = await two(
        kind,
        first,
        second,
        MEMORY_JOURNAL_URL=await third.database(),
        **{f"MEMORY_DRIVERS__MAIN__{name}": value for name, value in more.items()},
        MEMORY_DRIVERS__MAIN__TIMEOUT="1",
    )
    documents = Documents(seed=7)
    async with setting.services(2) as services:
        documents.use(*services)
        async with documents.under_way():
            survivor = services[1]
            for n in range(ROUNDS):
                victim = services[0]
                if n:
                    victim, survivor = survivor, await _next(services, setting.settings)
                away = (None, second, first)[n % 3]
                if away is not None:
                    documents.use(victim, survivor)
                    await documents.progress(1)
                    away.kill(away=True)
                await _kill(victim, documents, survivor)
                if away is not None:
                    away.back()
        await settled(survivor)
        assert all("Traceback" not in each.output for each in services)
    assert documents.cut
    assert documents.reads
    for url in (setting.first, setting.second):
        documents.check(await rows(url))
