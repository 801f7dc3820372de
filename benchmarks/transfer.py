"""`python -m benchmarks.transfer`: copies between backends, next to what their clients do alone.

So many records with vectors go from PostgreSQL to PostgreSQL, to Redis, and from Redis back. They
go in rounds: in each, the clients alone read and write the rows of so many users, in batches as
large as a copy's, and the copies bring the same users, in another order each time. So all have the
same machine: a ratio of 1 is a copy that costs what the clients' reads and writes cost, one after
the other. All is equal by digest at the end.

The clients write the same columns under the same indexes: into PostgreSQL by the statement that
inserts, without a look at what is there, and into Redis the hashes, and the sorted sets and names
that lists and deletes need.

PostgreSQL is an embedded server of its own; Redis as of `benchmarks.drivers`. No model takes part.
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg
from pgvector.asyncpg import register_vector
from pydantic import SecretStr
from redis.asyncio import Redis

from app.commands.collecting import collect_seldom
from app.core.memory.checks import dump_json
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory
from app.drivers.pgvector import PgvectorDriver, migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.sql import memories as sql
from app.drivers.pgvector.sql.recall import EVERY_COLUMN
from app.drivers.redis import RedisDriver
from app.drivers.redis.layout import Names, hashed
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits, RedisSettings
from app.transfer.batches import MOST
from app.transfer.copying import copy, verify
from app.transfer.state import State
from benchmarks.data import load
from benchmarks.drivers import Made

_EACH: Final = 100
"""Records of a user."""
_ROUND: Final = 25_000
"""Records of a round."""
_NEVER_REWRITTEN: Final = ("--auto-aof-rewrite-percentage", "0")
"""Redis would write its log anew in the background, beside whatever is measured by then."""
_REST_SECONDS: Final = 2.0
"""For the vacuum that follows the filling."""
_START: Final = datetime(2026, 5, 8, tzinfo=UTC)
_NAMES: Final = Names("copied")


@dataclass(slots=True)
class _Seconds:
    """What the records of each round took."""

    rounds: list[float] = field(default_factory=list)

    def rate(self, records: int) -> float:
        """Records a second, all in all."""
        return records / sum(self.rounds)


@dataclass(slots=True)
class _Copy:
    """One of the copies."""

    name: str
    source: RecordDriver
    target: RecordDriver
    alone: tuple[str, str]
    """Which of the clients' reads and writes it is held against."""
    copying: _Seconds = field(default_factory=_Seconds)
    verifying: float = 0.0


async def _run(given: argparse.Namespace) -> None:
    from tests.redis_server import KEEPING, running

    embedder = Made()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transfer-")))
        server = EmbeddedPostgres(folder / "data")
        await server.open()
        stack.push_async_callback(server.close)
        await migrations.upgrade(server.dsn, embedder.dimension)
        urls = [await database(server, name) for name in ("first", "second", "third", "raw")]
        first, second, third = [
            await stack.enter_async_context(pgvector(url, embedder)) for url in urls[:3]
        ]
        keeping = running(*KEEPING, *_NEVER_REWRITTEN, search=True)
        url = given.redis or stack.enter_context(keeping).url
        settings = RedisSettings(url=SecretStr(url), namespace=_NAMES.namespace)
        there = await stack.enter_async_context(RedisDriver(settings, embedder, Limits()))
        async with pgvector(urls[3], embedder):
            pass  # so that the database has a model
        clients = await stack.enter_async_context(_clients(urls[0], urls[3], url))
        copies = [
            _Copy("pgvector to pgvector", first, second, ("asyncpg reads", "asyncpg writes")),
            _Copy("pgvector to redis", first, there, ("asyncpg reads", "redis-py writes")),
            _Copy("redis to pgvector", there, third, ("redis-py reads", "asyncpg writes")),
        ]
        for start in range(0, given.records, _ROUND):
            count = min(_ROUND, given.records - start)
            await fill(first, start, count)
            users = [_user(n) for n in range(start, start + count, _EACH)]
            await asyncio.sleep(_REST_SECONDS)
            within, into, back = (
                partial(_copied, each, folder / "state", users[0], count) for each in copies
            )
            postgres, redis = partial(clients.postgres, users), partial(clients.redis, users)
            orders = [
                (within, into, back, postgres, redis),
                (postgres, into, redis, back, within),
            ]
            for turn in orders[start // _ROUND % len(orders)]:
                await turn()
        for each in copies:
            began = perf_counter()
            _need((await verify(each.source, each.target)).none, f"{each.name}: the two differ")
            each.verifying = perf_counter() - began
        _need((await verify(first, third)).none, "what came back is not what left")
        _need(await _same_rows(urls[0], urls[3]), "the client has written something else")
    _print(given.records, copies, clients)


def _print(records: int, copies: Sequence[_Copy], clients: "_Clients") -> None:
    print("| copy | records/s | of the clients' own | in each round | verified, records/s |")
    print("|---|---|---|---|---|")
    for each in copies:
        reads, writes = (clients.seconds[name].rounds for name in each.alone)
        alone = [sum(pair) for pair in zip(reads, writes, strict=True)]
        ratios = [one / own for one, own in zip(alone, each.copying.rounds, strict=True)]
        whole = sum(alone) / sum(each.copying.rounds)
        between = f"{min(ratios):.2f} to {max(ratios):.2f}, median {median(ratios):.2f}"
        rates = f"{each.copying.rate(records):,.0f} | {whole:.2f} | {between}"
        print(f"| {each.name} | {rates} | {records / each.verifying:,.0f} |")
    told = (f"{name} {took.rate(records):,.0f}" for name, took in clients.seconds.items())
    print(f"\nThe clients alone, records/s: {', '.join(told)}.")


def _need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(otherwise)


async def _copied(each: _Copy, file: Path, user_id: str, count: int) -> None:
    """Copy the records of that user and of those behind: all that the target lacks."""
    state = State.read(file, {"copy": each.name})
    state.owner = user_id
    began = perf_counter()
    told = await copy(each.source, each.target, state)
    each.copying.rounds.append(perf_counter() - began)
    state.forget()
    _need(told.records == count and told.vectors, f"{each.name}: records or vectors are missing")


async def database(server: EmbeddedPostgres, name: str) -> str:
    admin = await asyncpg.connect(server.admin_dsn.replace("/memory?", "/postgres?"))
    await admin.execute(f"create database {name} template memory")
    await admin.close()
    return server.admin_dsn.replace("/memory?", f"/{name}?")


@asynccontextmanager
async def pgvector(url: str, embedder: Embedder) -> AsyncIterator[PgvectorDriver]:
    settings = DatabaseSettings(url=SecretStr(url))
    async with PgvectorDriver(settings, embedder, Limits()) as driver:
        yield driver


def _user(n: int) -> str:
    return f"user {n // _EACH:08}"


async def fill(driver: RecordDriver, start: int, count: int) -> None:
    texts = load(None, 0, 0, 5_000).memories
    memories = [
        Memory(
            memory_id=str(UUID(int=n + 1)),
            user_id=_user(n),
            content=f"{texts[n % len(texts)][1]} ({n})",
            conversation_id=f"talk {n % 7}",
            tags=["made"],
            metadata={"speaker": "Ada", "n": n},
            created_at=_START + timedelta(seconds=n),
        )
        for n in range(start, start + count)
    ]
    for at in range(0, count, MOST):
        await driver.import_records(memories[at : at + MOST])


_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class _Clients:
    """What the clients alone read and write of the same users, and how long they took."""

    def __init__(self, reading: _Connection, writing: _Connection, redis: Redis) -> None:
        self._reading, self._writing, self._redis = reading, writing, redis
        self.seconds: dict[str, _Seconds] = {}

    async def postgres(self, users: Sequence[str]) -> None:
        """All rows of the users, by asyncpg."""
        after: tuple[str, UUID] = (users[0], UUID(int=0))
        read = written = 0.0
        names = EVERY_COLUMN.split(", ")
        while True:
            began = perf_counter()
            rows = await self._reading.fetch(
                f"select {EVERY_COLUMN} from memories where (user_id, memory_id) > ($1, $2) "  # noqa: S608
                f"order by user_id, memory_id limit {MOST}",
                *after,
            )
            read += perf_counter() - began
            if not rows:
                break
            after = rows[-1]["user_id"], rows[-1]["memory_id"]
            columns: list[Any] = [
                [dump_json(row[name]) if name == "tags" else row[name] for row in rows]
                for name in names
            ]
            began = perf_counter()
            await self._writing.execute(sql.STORE, *columns, 1)
            written += perf_counter() - began
        self._took("asyncpg reads", read)
        self._took("asyncpg writes", written)

    async def redis(self, users: Sequence[str]) -> None:
        """All records, outlines and vectors of the users, by redis-py."""
        read = written = 0.0
        at_once = MOST // _EACH
        for start in range(0, len(users), at_once):
            some = users[start : start + at_once]
            names = [_NAMES.of(kind, hashed(user)) for user in some for kind in "rov"]
            began = perf_counter()
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.hgetall(name)
            hashes = await pipeline.execute()
            read += perf_counter() - began
            lists = await self._lists(some)
            began = perf_counter()
            pipeline = self._redis.pipeline(transaction=False)
            for name, values in zip(names, hashes, strict=True):
                pipeline.hset(f"{{raw}}:{name}", mapping=values)
            for name, members in lists.items():
                pipeline.zadd(f"{{raw}}:{name}", members)
            for user, own in zip(some, hashes[::3], strict=True):
                pipeline.hset("{raw}:owners", mapping=dict.fromkeys(own, hashed(user)))
                pipeline.hset("{raw}:names", hashed(user), user)
                pipeline.zadd("{raw}:users", {user: 0})
            await pipeline.execute()
            written += perf_counter() - began
        self._took("redis-py reads", read)
        self._took("redis-py writes", written)

    async def _lists(self, users: Sequence[str]) -> dict[str, dict[Any, float]]:
        """The sorted sets that list the users' records, by their names."""
        found: dict[str, dict[Any, float]] = {}
        for user in users:
            groups = [("g", hashed(user), hashed(f"talk {n}")) for n in range(7)]
            for parts in [("l", hashed(user)), *groups]:
                members = await self._redis.zrange(_NAMES.of(*parts), 0, -1)
                if members:
                    found[_NAMES.of(*parts)] = dict.fromkeys(members, 0.0)
        return found

    def _took(self, what: str, seconds: float) -> None:
        self.seconds.setdefault(what, _Seconds()).rounds.append(seconds)


@asynccontextmanager
async def _clients(source: str, target: str, url: str) -> AsyncIterator[_Clients]:
    reading, writing = await asyncpg.connect(source), await asyncpg.connect(target)
    await register_vector(reading)
    await register_vector(writing)
    async with Redis.from_url(url) as redis:
        yield _Clients(reading, writing, redis)
    await reading.close()
    await writing.close()


async def _same_rows(source: str, target: str) -> bool:
    """Whether two databases have the same rows, to the byte."""
    sums = []
    for url in (source, target):
        connection = await asyncpg.connect(url)
        row = "md5(row(" + EVERY_COLUMN.replace("metadata", "metadata::text") + ")::text)"
        counted = f"select count(*), sum(hashtextextended({row}, 0)) from memories"  # noqa: S608
        sums.append(await connection.fetchrow(counted))
        await connection.close()
    return sums[0] == sums[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--records", type=int, default=100_000, help="how many")
    parser.add_argument("--redis", metavar="URL", help="a Redis with the query engine")
    given = parser.parse_args()
    collect_seldom()
    asyncio.run(_run(given))


if __name__ == "__main__":
    main()
