"""Which database a driver says that it is in."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.errors import DriverUnavailable
from app.settings import DatabaseSettings, Limits
from tests.conftest import NewDatabase, database_url
from tests.drivers.conftest import OpenDriver
from tests.service.door import Door


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    yield door
    await door.close()


def through(door: Door, url: str) -> str:
    """The URL of the same database by the door."""
    return f"postgresql://memory@127.0.0.1:{door.port}{urlsplit(url).path}"


def socket_of(server: EmbeddedPostgres) -> str:
    return f"{server.socket_dir}/.s.PGSQL.5432"


async def test_it_is_the_same_by_any_way_and_another_for_another_database(
    new_database: NewDatabase, open_driver: OpenDriver, postgres: EmbeddedPostgres, door: Door
) -> None:
    url = await new_database()
    await door.open(socket_of(postgres))
    by_socket, by_door = await open_driver(url), await open_driver(through(door, url))
    assert by_socket.identity() == by_door.identity()
    assert len(by_socket.identity() or ()) == 1
    other = await open_driver(await new_database())
    assert other.identity() != by_socket.identity()


async def test_a_database_made_anew_under_its_name_is_another(
    postgres: EmbeddedPostgres, template: str, open_driver: OpenDriver
) -> None:
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    identities = []
    for _ in range(2):
        await admin.execute("drop database if exists made_anew with (force)")
        await admin.execute(f"create database made_anew template {template}")
        identities.append((await open_driver(database_url(postgres, "made_anew"))).identity())
    await admin.close()
    assert identities[0] != identities[1]


async def test_it_is_not_known_while_it_was_not_reached(
    new_database: NewDatabase, postgres: EmbeddedPostgres, door: Door, embedder: Embedder
) -> None:
    url = await new_database()
    settings = DatabaseSettings(url=SecretStr(through(door, url)))
    driver = PgvectorDriver(settings, embedder, Limits())
    with pytest.raises(DriverUnavailable):
        await driver.open()
    assert driver.identity() is None
    await door.open(socket_of(postgres))
    await driver.recall("ada")
    assert driver.identity() is not None
    await driver.close()
    assert driver.identity() is None


async def test_the_embedded_server_tells_its_own(
    open_driver: OpenDriver, embedder: Embedder, tmp_path: Path
) -> None:
    async with PgvectorDriver(DatabaseSettings(data_dir=tmp_path), embedder, Limits()) as driver:
        embedded = driver.identity()
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    try:
        assert embedded == (await open_driver(server.dsn)).identity() is not None
    finally:
        await server.close()


async def test_a_role_that_may_not_ask_is_nobody_else(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    admin = await asyncpg.connect(url)
    await admin.execute("create role plain login")
    await admin.execute("grant all on all tables in schema public to plain")
    plain = url.replace("memory@", "plain@")
    asked = await open_driver(plain)
    assert asked.identity() == (await open_driver(url)).identity()
    await admin.execute("revoke execute on function pg_control_system() from public")
    with capture_logs() as logs:
        one, two = await open_driver(plain), await open_driver(plain, pool_max_size=2)
    refused = [event for event in logs if event["event"] == "postgresql_identity_unknown"]
    assert len(refused) == 2
    await one.store("ada", "kettle")
    assert len(await two.recall("ada")) == 1
    assert len({asked.identity(), one.identity(), two.identity()}) == 3
    assert one.identity() == one.identity() is not None
    for driver in (asked, one, two):
        await driver.close()
    await admin.execute("drop owned by plain")
    await admin.execute("drop role plain")
    await admin.close()


async def test_another_server_in_the_place_of_the_first_is_noticed_when_one_connects(
    new_database: NewDatabase,
    open_driver: OpenDriver,
    postgres: EmbeddedPostgres,
    other_postgres: EmbeddedPostgres,
    door: Door,
) -> None:
    url = await new_database()
    name = urlsplit(url).path.strip("/")
    admin = await asyncpg.connect(other_postgres.admin_dsn)
    await admin.execute(f"create database {name}")
    moved = await open_driver(database_url(other_postgres, name), migrate=True)
    await moved.store("ada", "there")
    await door.open(socket_of(postgres))
    driver = await open_driver(through(door, url), pool_max_size=5)
    first = driver.identity()
    await driver.store("ada", "here")
    # The first connections go on, and a new one leads elsewhere.
    await door.open(socket_of(other_postgres))
    async with driver.connections.acquire() as old:
        async with AsyncExitStack() as stack:
            for _ in range(4):  # all that the pool may have: some may be open already
                await stack.enter_async_context(driver.connections.acquire())
            assert driver.identity() == moved.identity() != first
        assert await old.fetchval("select content from memories") == "here"
    for _ in range(5):
        assert [memory.content for memory in await driver.recall("ada")] == ["there"]
    # And back, as everybody is shown out.
    await door.open(socket_of(postgres))
    await door.show_out()
    for _ in range(5):
        try:
            found = await driver.recall("ada")
        except DriverUnavailable:
            continue
        assert [memory.content for memory in found] == ["here"]
    assert driver.identity() == first
    await driver.close()
    await moved.close()
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()
