"""`memory-driver reembed` while many store, change, delete and recall by its services."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import httpx
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Record, key_of
from app.drivers.inmemory import InMemoryDriver
from app.drivers.pgvector import PgvectorDriver
from app.drivers.redis import RedisDriver
from app.embedding import Embedder, build_embedder
from app.settings import DatabaseSettings, EmbeddingSettings, Limits, RedisSettings
from tests.commands.clients import Client, Judged, running, some
from tests.commands.test_reembed_command import beside, run, tiny
from tests.conftest import NewDatabase
from tests.drivers.another_model import assert_vectors_are_of
from tests.drivers.pgvector_reembedding import many, vectors_in_tables, what_there_is
from tests.drivers.redis_keys import indexes, keys
from tests.drivers.search_server import search
from tests.redis_server import RedisServer
from tests.remembering import Remembering
from tests.storm import times
from tests.transfer.records import by_place, every_record

__all__ = ["search", "tiny"]

RECORDS = times(120, 3_000)
SERVICES = times(1, 2)
WRITERS = times(5, 12)
READERS = times(2, 4)
SOME = times(20, 100)
"""Answers that each client has before the command begins, and after it ended."""
USER = "user 3"
"""Whose memories stay as they are, as the knowledge about things does."""


async def brought_over_under_load(
    settings: dict[str, str],
    root: Path,
    tiny: Path,
    driver_by: Callable[[Embedder], RecordDriver],
    old: Embedder,
) -> list[Record]:
    """Bring the records of services to the tiny model while clients use them; what there is then.

    Every request succeeds, every answer is as one of the models ranks, and what was acknowledged
    is there with the new model's vectors.
    """
    fixed = many(RECORDS)
    async with driver_by(old) as driver:
        await driver.import_records(fixed)
    async with AsyncExitStack() as stack:
        services = [await stack.enter_async_context(beside(settings)) for _ in range(SERVICES)]
        clients = clients_of([client for _, client in services], fixed)
        async with running(clients):
            await some(clients, SOME)
            made = await run(root, settings, "--model", str(tiny), "--json")
            await some(clients, SOME)
        assert made.returncode == 0, made.stderr
        for service, _ in services:
            assert "Traceback" not in service.output
    new = build_embedder(EmbeddingSettings(model=str(tiny), threads=1))
    await new.open()
    await judge(clients, old, new)
    async with driver_by(new) as driver:
        records = await every_record(driver)
        kept = {key_of(each): each for each in fixed}
        for client in clients:
            kept |= client.kept
        assert by_place(records) == by_place([*kept.values()])
        await assert_vectors_are_of(new, driver)
    return records


def clients_of(services: list[httpx.AsyncClient], fixed: list[Record]) -> list[Client]:
    """Clients that write what is theirs, and clients that ask for what stays, for each service."""
    clients = [
        Client(services[n % len(services)], f"writer {n}", f"shelf {n}", random=Random(n))
        for n in range(WRITERS)
    ]
    for n in range(READERS):
        http, random = services[n % len(services)], Random(100 + n)
        reader = Client(http, USER, "things", writes=False, random=random)
        reader.history += fixed
        clients.append(reader)
    return clients


async def judge(clients: list[Client], old: Embedder, new: Embedder) -> None:
    """Every answer is as one of the models ranks: the old one's, and from the switch on the other
    one's."""
    judged = Judged()
    one, other = Remembering(old), Remembering(new)
    for client in clients:
        by_old, by_new = InMemoryDriver(one, Limits()), InMemoryDriver(other, Limits())
        await judged.judge(client, by_old, by_new)
    judged.assert_switched_once()


async def test_on_pgvector_no_request_fails_and_each_answer_is_one_of_the_two_models(
    new_database: NewDatabase, root: Path, tiny: Path, embedder: Embedder
) -> None:
    url = await new_database()
    before = await what_there_is(url)
    records = await brought_over_under_load(
        {"MEMORY_DRIVER": "pgvector", "DATABASE_URL": url},
        root,
        tiny,
        lambda model: PgvectorDriver(DatabaseSettings(url=SecretStr(url)), model, Limits()),
        embedder,
    )
    vectors = await vectors_in_tables(url)
    assert vectors.keys() == {key_of(each) for each in records}
    assert {len(vector) for vector in vectors.values()} == {16}
    assert await what_there_is(url) == before


async def test_on_redis_no_request_fails_and_each_answer_is_one_of_the_two_models(
    search: RedisServer, root: Path, tiny: Path, embedder: Embedder
) -> None:
    await brought_over_under_load(
        {"MEMORY_DRIVER": "redis", "REDIS_URL": search.url},
        root,
        tiny,
        lambda model: RedisDriver(RedisSettings(url=SecretStr(search.url)), model, Limits()),
        embedder,
    )
    others = {key for key in keys(search) if not key.startswith("{memory}:2:")}
    assert others == {"{memory}:meta"}
    assert indexes(search) == {"{memory}:2:index:1"}
