"""All that is written anywhere: every table, key, index and file, found by asking what there is."""

import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import redis

from tests.conformance.makers import Surroundings
from tests.drivers.pinecone_space import Space
from tests.drivers.weaviate_store import Collection

Rows: TypeAlias = dict[str, list[str]]
"""By table, key or index: its rows, fields or figures as text, sorted."""

_TABLES = """
    select format('%I.%I', schemaname, tablename) as name from pg_tables
    where schemaname not in ('pg_catalog', 'information_schema')
"""
_SQLITE_TABLES = "select name from sqlite_schema where type = 'table'"
_ROWS = "select each::text from {} as each"


@dataclass
class Places:
    """Where a case's drivers write: whatever was lent to them."""

    lent: Surroundings
    databases: list[str] = field(default_factory=list)
    servers: set[str] = field(default_factory=set)

    @property
    def around(self) -> Surroundings:
        """What was lent; whatever it lends from now on is one of the places."""

        async def new_database() -> str:
            self.databases.append(await self.lent.new_database())
            return self.databases[-1]

        def noted(lend: Callable[[], str]) -> Callable[[], str]:
            def lent() -> str:
                url = lend()
                self.servers.add(url)
                return url

            return lent

        return replace(
            self.lent,
            new_database=new_database,
            empty_redis=noted(self.lent.empty_redis),
            empty_search=noted(self.lent.empty_search),
        )

    async def written(self) -> Rows:
        """Everything that is in the places now."""
        rows: Rows = {}
        for n, url in enumerate(self.databases):
            rows |= {f"{n} {name}": found for name, found in (await _in_postgres(url)).items()}
        for url in self.servers:
            rows |= _in_redis(url)
        for path in self.lent.folder.glob("**/*.sqlite"):
            rows |= _in_sqlite(path)
        for fake in self.lent.fakes:
            rows["graph"] = sorted(map(repr, fake.graph.values()))
            rows["vectors"] = sorted(fake.vectors)
        for weaviate in self.lent.weaviates:
            for name, collection in weaviate.collections.items():
                rows |= _in_weaviate(name, collection)
        for pinecone in self.lent.pinecones:
            for name, space in pinecone.spaces.items():
                rows |= _in_pinecone(name, space)
        return rows


async def _in_postgres(url: str) -> Rows:
    async with _connected(url) as connection:
        names = [row["name"] for row in await connection.fetch(_TABLES)]
        found = {name: await connection.fetch(_ROWS.format(name)) for name in names}
    return {name: sorted(row[0] for row in rows) for name, rows in found.items()}


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def _in_sqlite(path: Path) -> Rows:
    """Of a copy: whoever has a journal's file open lets nobody else read it."""
    with tempfile.TemporaryDirectory() as folder:
        for each in path.parent.glob(f"{path.name}*"):
            shutil.copy(each, folder)
        with closing(sqlite3.connect(Path(folder) / path.name)) as connection:
            names = [row[0] for row in connection.execute(_SQLITE_TABLES)]
            return {
                f"{path.name} {name}": sorted(
                    map(repr, connection.execute(f'select * from "{name}"'))  # noqa: S608
                )
                for name in names
            }


def _in_weaviate(name: str, collection: Collection) -> Rows:
    """By collection; marks by what they are of, and those of users without when they were seen."""
    values = [one.values for one in collection.objects.values()]
    if "kind" not in collection.properties:
        return {name: sorted(map(repr, values))}
    return {
        f"{name} user": sorted(each["name"] for each in values if each["kind"] == "user"),
        f"{name} put": sorted(repr(each) for each in values if each["kind"] != "user"),
    }


def _in_pinecone(name: str, space: Space) -> Rows:
    """By namespace; marks of documents apart."""
    rows: Rows = {name: [], f"{name} put": []}
    for one, kept in space.now.items():
        place = f"{name} put" if one.startswith("g") else name
        rows[place].append(f"{one} {kept.metadata}")
    return {place: sorted(found) for place, found in rows.items()}


def _in_redis(url: str) -> Rows:
    with redis.Redis.from_url(url, protocol=2) as client:
        rows = {f"{name!r}": _in_key(client, name) for name in client.scan_iter("*")}
        try:
            indexes = client.execute_command("FT._LIST")
        except redis.ResponseError:  # it has no search
            indexes = []
        for name in indexes:
            told = client.execute_command("FT.INFO", name)
            info = dict(zip(told[::2], told[1::2], strict=True))
            rows[f"index {name!r}"] = [f"{info[b'num_docs']}"]
    return rows


def _in_key(client: redis.Redis, name: bytes) -> list[str]:
    read: Mapping[bytes, Callable[[bytes], Any]] = {
        b"string": lambda key: [client.get(key)],
        b"hash": lambda key: client.hgetall(key).items(),
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
    }
    kind: Any = client.type(name)
    return sorted(map(repr, read[kind](name))) if kind != b"none" else []
