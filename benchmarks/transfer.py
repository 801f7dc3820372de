"""`python -m benchmarks.transfer`: copies between backends, next to what their clients do alone.

So many records with vectors go from PostgreSQL to PostgreSQL, to Redis, and from Redis back. Each
copy is held against the clients' own reads and writes of the same rows, one after the other, in the
same run: a ratio of 1 is a copy that costs what they cost. All is equal by digest at the end. The
memory is that of this process, which is the copy's: how much more it had at most.

PostgreSQL is an embedded server of its own; Redis as of `benchmarks.drivers`. No model takes part.
"""

import argparse
import asyncio
import resource
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from pgvector.asyncpg import register_vector
from pydantic import SecretStr
from redis.asyncio import Redis

from app.core.memory.checks import dump_json
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory
from app.drivers.pgvector import PgvectorDriver, migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.sql import memories as sql
from app.drivers.pgvector.sql.recall import EVERY_COLUMN
from app.drivers.redis import RedisDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits, RedisSettings
from app.transfer.copying import copy, verify
from app.transfer.state import State
from benchmarks.data import load
from benchmarks.drivers import Made

_PAGE: Final = 250
"""Records at once, in a copy and by the clients alone."""
_EACH: Final = 100
"""Records of a user."""
_START: Final = datetime(2026, 5, 8, tzinfo=UTC)
_NAMESPACE: Final = "copied"


async def _run(given: argparse.Namespace) -> None:
    from tests.redis_server import KEEPING, running

    embedder = Made()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transfer-")))
        server = EmbeddedPostgres(folder / "data")
        await server.open()
        stack.push_async_callback(server.close)
        await migrations.upgrade(server.dsn, embedder.dimension)
        urls = [await _database(server, name) for name in ("first", "second", "third", "raw")]
        first, second, third = [
            await stack.enter_async_context(_pgvector(url, embedder)) for url in urls[:3]
        ]
        url = given.redis or stack.enter_context(running(*KEEPING, search=True)).url
        settings = RedisSettings(url=SecretStr(url), namespace=_NAMESPACE)
        there = await stack.enter_async_context(RedisDriver(settings, embedder, Limits()))
        await _fill(first, embedder, given.records)

        copies = [
            await _measure("pgvector to pgvector", first, second, folder, given.records),
            await _measure("pgvector to redis", first, there, folder, given.records),
            await _measure("redis to pgvector", there, third, folder, given.records),
        ]
        postgres, redis = await _raw_postgres(urls[0], urls[3]), await _raw_redis(url)
        alone = [sum(postgres), postgres[0] + redis[1], redis[0] + postgres[1]]
        _need((await verify(first, third)).none, "what came back is not what left")
    _print(given.records, copies, alone)
    rates = [given.records / seconds for seconds in (*postgres, *redis)]
    print(
        "\nThe clients alone: asyncpg reads {:,.0f} records/s and writes {:,.0f}, ".format(*rates)
    )
    print("redis-py reads {:,.0f} and writes {:,.0f}.".format(*rates[2:]))


class _Copy(NamedTuple):
    """One copy: its name, the seconds of it and of its verification, and the memory, MB."""

    name: str
    copying: float
    verifying: float
    memory: float


def _print(records: int, copies: Sequence[_Copy], alone: Sequence[float]) -> None:
    print("| copy | records/s | of the clients' own | verified, records/s | memory, MB |")
    print("|---|---|---|---|---|")
    for each, seconds in zip(copies, alone, strict=True):
        rates = f"{records / each.copying:,.0f} | {seconds / each.copying:.2f}"
        print(f"| {each.name} | {rates} | {records / each.verifying:,.0f} | {each.memory:.0f} |")


async def _measure(
    name: str, source: RecordDriver, target: RecordDriver, folder: Path, records: int
) -> _Copy:
    before, began = _resident(), perf_counter()
    told = await copy(source, target, State.read(folder / "state", {"copy": name}))
    copying = perf_counter() - began
    (folder / "state").unlink()
    _need(told.records == records and told.vectors, f"{name}: records or vectors are missing")
    began = perf_counter()
    _need((await verify(source, target)).none, f"{name}: the two differ")
    return _Copy(name, copying, perf_counter() - began, _resident() - before)


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(otherwise)


def _resident() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _database(server: EmbeddedPostgres, name: str) -> str:
    admin = await asyncpg.connect(server.admin_dsn.replace("/memory?", "/postgres?"))
    await admin.execute(f"create database {name} template memory")
    await admin.close()
    return server.admin_dsn.replace("/memory?", f"/{name}?")


@asynccontextmanager
async def _pgvector(url: str, embedder: Embedder) -> AsyncIterator[PgvectorDriver]:
    settings = DatabaseSettings(url=SecretStr(url))
    async with PgvectorDriver(settings, embedder, Limits()) as driver:
        yield driver


async def _fill(driver: RecordDriver, embedder: Embedder, count: int) -> None:
    texts = load(None, 0, 0, 5_000).memories
    for start in range(0, count, _PAGE):
        memories = [
            Memory(
                memory_id=str(UUID(int=n + 1)),
                user_id=f"user {n // _EACH:08}",
                content=f"{texts[n % len(texts)][1]} ({n})",
                conversation_id=f"talk {n % 7}",
                tags=["made"],
                metadata={"speaker": "Ada", "n": n},
                created_at=_START + timedelta(seconds=n),
            )
            for n in range(start, min(start + _PAGE, count))
        ]
        await driver.import_records(memories)


async def _raw_postgres(source: str, target: str) -> tuple[float, float]:
    """The seconds in which asyncpg reads every row, and in which it writes all of them."""
    reading, writing = await asyncpg.connect(source), await asyncpg.connect(target)
    await register_vector(reading)
    await register_vector(writing)
    after: tuple[str, UUID] = ("", UUID(int=0))
    read = written = 0.0
    while True:
        began = perf_counter()
        rows = await reading.fetch(
            f"select {EVERY_COLUMN} from memories where (user_id, memory_id) > ($1, $2) "  # noqa: S608
            f"order by user_id, memory_id limit {_PAGE}",
            *after,
        )
        read += perf_counter() - began
        if not rows:
            break
        after = rows[-1]["user_id"], rows[-1]["memory_id"]
        names = EVERY_COLUMN.split(", ")
        columns: list[Any] = [
            [dump_json(row[name]) if name == "tags" else row[name] for row in rows]
            for name in names
        ]
        began = perf_counter()
        await writing.execute(sql.STORE, *columns)
        written += perf_counter() - began
    await reading.close()
    await writing.close()
    return read, written


async def _raw_redis(url: str) -> tuple[float, float]:
    """The seconds in which redis-py reads all hashes of the users, and in which it writes them."""
    async with Redis.from_url(url) as client:
        names = [key async for key in client.scan_iter(f"{{{_NAMESPACE}}}:[rov]:*", 1_000)]
        read = written = 0.0
        for start in range(0, len(names), 3 * _PAGE // _EACH):
            some = names[start : start + 3 * _PAGE // _EACH]
            began = perf_counter()
            pipeline = client.pipeline(transaction=False)
            for name in some:
                pipeline.hgetall(name)
            found = await pipeline.execute()
            read += perf_counter() - began
            began = perf_counter()
            pipeline = client.pipeline(transaction=False)
            for name, values in zip(some, found, strict=True):
                pipeline.hset(b"{raw}:" + name, mapping=values)
            await pipeline.execute()
            written += perf_counter() - began
        return read, written


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="how many")
    parser.add_argument("--redis", metavar="URL", help="a Redis with the query engine")
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
