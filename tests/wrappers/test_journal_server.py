"""A journal on a server of the drivers that it serves is refused, whatever way leads there."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Literal

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.core.memory.base import BaseMemoryDriver
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.errors import ConfigurationError, JournalUnavailable
from app.settings import (
    CacheSettings,
    DatabaseSettings,
    FailoverSettings,
    JournalSettings,
    Limits,
    ReplicatedSettings,
)
from app.wrappers.cached import CachedDriver, new_store
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.conftest import NewDatabase, database_url
from tests.service.door import Door
from tests.wrappers.alone import left_alone
from tests.wrappers.flaky import FlakyDriver, Journalled, OneVector

REFUSED = r"MEMORY_JOURNAL_URL: .* wrapper holds, .* use another server, or unset it for a file"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - in a test


def own_address() -> str:
    """One of this machine's, by which others reach it where it has a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.7", 9))  # of nobody, and nothing is sent
        except OSError:
            return "127.0.0.2"
        return str(probe.getsockname()[0])


@pytest.fixture
async def driver(new_database: NewDatabase, embedder: Embedder) -> AsyncIterator[PgvectorDriver]:
    """In a database of the tests' PostgreSQL, by its socket; not open."""
    settings = DatabaseSettings(url=SecretStr(await new_database()))
    driver = PgvectorDriver(settings, embedder, Limits())
    yield driver
    await driver.close()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    """A port on all addresses of this machine, closed."""
    door = Door(EVERYWHERE)
    yield door
    await door.close()


def wrapped(
    kind: Literal["failover", "replicated"],
    journal: str | JournalSettings,
    *inner: BaseMemoryDriver,
) -> Journalled:
    settings = journal
    if isinstance(settings, str):
        settings = JournalSettings(url=SecretStr(settings), timeout=2)
    return made(kind, settings, *inner, FlakyDriver("other", Random(1)))


def made(
    kind: Literal["failover", "replicated"],
    settings: JournalSettings,
    *drivers: BaseMemoryDriver,
) -> Journalled:
    if kind == "failover":
        return FailoverDriver(
            drivers, FailoverSettings(), settings, OneVector(), Limits(), "wrapper"
        )
    return ReplicatedDriver(
        drivers, ReplicatedSettings(), settings, OneVector(), Limits(), "wrapper"
    )


async def refused(driver: Journalled) -> str:
    """What it says as it refuses to start."""
    with pytest.raises(ConfigurationError, match=REFUSED) as said:
        await driver.open()
    await driver.close()
    return str(said.value)


async def accepted(driver: Journalled) -> None:
    async with driver:
        stored = await driver.store("ada", "A jar.")
        assert stored in await driver.recall("ada")


@pytest.mark.parametrize("kind", ["failover", "replicated"])
@pytest.mark.parametrize("host", [EVERYWHERE, "localhost", "own address", "own name"])
async def test_another_way_to_the_driver_s_server_is_refused(
    kind: Literal["failover", "replicated"],
    host: str,
    driver: PgvectorDriver,
    postgres: EmbeddedPostgres,
    door: Door,
) -> None:
    host = {"own address": own_address(), "own name": socket.gethostname()}.get(host, host)
    try:
        socket.getaddrinfo(host, door.port)
    except OSError:
        pytest.skip("nothing resolves this machine's name here")
    await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
    said = await refused(
        wrapped(kind, f"postgresql://memory:hunter2@{host}:{door.port}/postgres", driver)
    )
    assert "in the PostgreSQL of pgvector" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("kind", ["failover", "replicated"])
async def test_the_driver_s_server_by_its_socket_is_refused(
    kind: Literal["failover", "replicated"],
    new_database: NewDatabase,
    postgres: EmbeddedPostgres,
    door: Door,
    embedder: Embedder,
) -> None:
    await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
    name = (await new_database()).partition("@/")[2].partition("?")[0]
    url = SecretStr(f"postgresql://memory@127.0.0.1:{door.port}/{name}")
    driver = PgvectorDriver(DatabaseSettings(url=url), embedder, Limits())
    await refused(wrapped(kind, database_url(postgres, "postgres"), driver))


async def test_a_driver_further_in_is_seen(
    driver: PgvectorDriver, postgres: EmbeddedPostgres, door: Door
) -> None:
    await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
    cached = CachedDriver(driver, new_store(CacheSettings()), "test", Limits())
    url = f"postgresql://memory@localhost:{door.port}/postgres"
    assert "PostgreSQL of cached" in await refused(wrapped("failover", url, cached))


@pytest.mark.parametrize("kind", ["failover", "replicated"])
async def test_another_server_on_this_machine_is_accepted(
    kind: Literal["failover", "replicated"],
    driver: PgvectorDriver,
    other_postgres: EmbeddedPostgres,
    door: Door,
) -> None:
    await door.open(f"{other_postgres.socket_dir}/.s.PGSQL.5432")
    await accepted(wrapped(kind, f"postgresql://memory@localhost:{door.port}/memory", driver))
    await accepted(wrapped(kind, other_postgres.admin_dsn, driver))


async def test_what_can_t_be_compared_is_accepted(
    driver: PgvectorDriver, postgres: EmbeddedPostgres, new_database: NewDatabase, door: Door
) -> None:
    away = f"postgresql://memory@localhost:{door.port}/postgres"
    async with wrapped("failover", away, driver) as failover:
        assert await failover.recall("ada") == []
    url = await new_database()
    admin = await asyncpg.connect(url)
    await admin.execute("create role untold login")
    await admin.execute("grant all on schema public to untold")
    await admin.execute("revoke execute on function pg_control_system() from public")
    await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
    name = await admin.fetchval("select current_database()")
    await accepted(wrapped("failover", f"postgresql://untold@localhost:{door.port}/{name}", driver))
    await admin.execute("drop owned by untold")
    await admin.execute("drop role untold")
    await admin.close()


@pytest.mark.parametrize("kind", ["failover", "replicated"])
async def test_one_database_by_two_ways_can_t_stand_in_for_itself(
    kind: Literal["failover", "replicated"],
    new_database: NewDatabase,
    postgres: EmbeddedPostgres,
    door: Door,
    embedder: Embedder,
    tmp_path: Path,
) -> None:
    await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
    urls = [await new_database(), await new_database()]
    name = urls[0].partition("@/")[2].partition("?")[0]
    by_port = f"postgresql://memory@127.0.0.1:{door.port}/{name}"
    drivers = {}
    for called, url in (("here", urls[0]), ("there", by_port), ("elsewhere", urls[1])):
        settings = DatabaseSettings(url=SecretStr(url), pool_max_size=2)
        drivers[called] = PgvectorDriver(settings, embedder, Limits())
        drivers[called].name = called
    journal = JournalSettings(path=tmp_path)
    held = (
        drivers["here"],
        CachedDriver(drivers["there"], new_store(CacheSettings()), "test", Limits()),
    )
    same = wrapped(kind, journal, *held)
    with pytest.raises(ConfigurationError, match=r"inner: here and there are one database"):
        await same.open()
    await same.close()
    await accepted(wrapped(kind, journal, drivers["here"], drivers["elsewhere"]))


@pytest.mark.parametrize("kind", ["failover", "replicated"])
async def test_what_was_away_at_the_start_is_refused_when_it_is_back(
    kind: Literal["failover", "replicated"],
    driver: PgvectorDriver,
    postgres: EmbeddedPostgres,
    new_database: NewDatabase,
    door: Door,
    embedder: Embedder,
) -> None:
    """By the names the journal would be another server, and no server is there to be asked."""
    name = (await new_database()).partition("@/")[2].partition("?")[0]
    url = SecretStr(f"postgresql://memory@127.0.0.1:{door.port}/{name}")
    late = PgvectorDriver(DatabaseSettings(url=url), embedder, Limits())
    late.name = "late"
    there = FlakyDriver("there", Random(1))
    settings = JournalSettings(url=SecretStr(database_url(postgres, "postgres")), timeout=2)
    with left_alone():
        both = made(kind, settings, there, late)
    with capture_logs() as logs:
        async with both:
            stored = await both.store("ada", "A jar.")
            await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
            async with asyncio.timeout(20):
                while late.identity() is None:
                    await asyncio.sleep(0.02)
            with pytest.raises(JournalUnavailable) as refused:
                await both.delete(stored.memory_id, "ada")
            assert refused.value.reason.startswith("MEMORY_JOURNAL_URL: it is in the PostgreSQL of")
            assert (await both.health_check()).status == "degraded"
            assert stored in await both.recall("ada")
    assert [line["event"] for line in logs].count("journal_refused") == 1


async def test_one_database_that_was_away_at_the_start_is_refused_when_it_is_back(
    postgres: EmbeddedPostgres,
    new_database: NewDatabase,
    door: Door,
    embedder: Embedder,
    tmp_path: Path,
) -> None:
    name = (await new_database()).partition("@/")[2].partition("?")[0]
    late = []
    for called, host in (("one", "127.0.0.1"), ("two", "localhost")):
        url = SecretStr(f"postgresql://memory@{host}:{door.port}/{name}")
        late.append(PgvectorDriver(DatabaseSettings(url=url), embedder, Limits()))
        late[-1].name = called
    there = FlakyDriver("there", Random(1))
    with left_alone():
        driver = made("replicated", JournalSettings(path=tmp_path), there, *late)
    async with driver:
        await driver.store("ada", "A jar.")
        await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
        async with asyncio.timeout(20):
            while any(each.identity() is None for each in late):
                await asyncio.sleep(0.02)
        with pytest.raises(JournalUnavailable) as refused:
            await driver.store("ada", "A lid.")
        assert refused.value.reason.startswith(
            "drivers.wrapper.inner: one and two are one database"
        )
