"""Drivers on one database that can follow one another's models, and a process that re-embeds."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
from pgvector.asyncpg import register_vector
from pydantic import SecretStr

from app.core.memory.records import Knowledge, Memory, Record, key_of
from app.core.memory.reembedding import Reembedding
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from app.transfer.reembed import reembed
from tests.other_models import LetterModel

OLD = LetterModel("old", 384, seed=1)
NEW = LetterModel("new", 48, seed=2)
SAME_SIZE = LetterModel("same size", 384, seed=3)
WORDS = ("kettle", "lamp", "basil", "train", "copper", "harbour", "window", "sundial")
MOMENT = datetime(2026, 5, 8, 13, 56, 0, 123456, tzinfo=UTC)

THIRD = LetterModel("third", 16, seed=4)
MODELS = {model.name: model for model in (OLD, NEW, SAME_SIZE, THIRD)}


def driver_on(url: str, embedder: Embedder = OLD, *, follows: bool = True) -> PgvectorDriver:
    """A driver that is configured with that model, and can load the others unless told."""
    settings = DatabaseSettings(url=SecretStr(url))
    others = MODELS.__getitem__ if follows else None
    return PgvectorDriver(settings, embedder, Limits(), embedder_of=others)


@asynccontextmanager
async def way_to(url: str, model: Embedder = NEW) -> AsyncIterator[Reembedding]:
    """The way to the model, open; as a command has it, whose driver is never opened."""
    work = driver_on(url).reembedding(model)
    try:
        await work.open()
        yield work
    finally:
        await work.close()


async def reembedded(url: str, model: Embedder = NEW) -> int:
    """Bring all records to the model; how many there were."""
    async with way_to(url, model) as work:
        return (await reembed(work)).records or 0


def many(count: int) -> list[Record]:
    """Memories of seven users, some of them turns of a conversation, and as much knowledge."""
    records: list[Record] = []
    for n in range(count):
        at = MOMENT + timedelta(seconds=n)
        one = f"00000000-0000-4000-8000-{n:012}"
        text = f"text {n} of {WORDS[n % len(WORDS)]} and {WORDS[n * n % 7]}"
        talk = f"talk {n % 3}" if n % 2 else None
        if n % 5:
            records.append(
                Memory(
                    memory_id=one,
                    user_id=f"user {n % 7}",
                    content=text,
                    conversation_id=talk,
                    created_at=at,
                )
            )
        else:
            records.append(
                Knowledge(knowledge_id=one, content=text, category="things", created_at=at)
            )
    return records


async def filled(work: Reembedding) -> None:
    """Fill the second place, but do not switch."""
    await work.begin()
    async for batch in work.missing():
        await work.keep(batch)


async def what_there_is(url: str) -> dict[str, set[str]]:
    """All that is not the system's: schemas, tables, indexes, functions, triggers."""
    statements = {
        "schemas": "select nspname from pg_namespace where nspname !~ '^pg_|^information'",
        "tables": "select oid::regclass::text from pg_class where relkind in ('r', 'i', 'S')"
        " and oid >= 16384 and relnamespace <> 'pg_toast'::regnamespace",
        "functions": "select oid::regprocedure || coalesce(proconfig::text, '') from pg_proc"
        " where oid >= 16384",
        "triggers": "select tgrelid::regclass || ' ' || tgname from pg_trigger"
        " where not tgisinternal",
        "grants": "select oid::regclass || ' ' || relacl::text from pg_class"
        " where relacl is not null and oid >= 16384",
    }
    connection = await asyncpg.connect(url)
    try:
        return {
            kind: {row[0] for row in await connection.fetch(statement)}
            for kind, statement in statements.items()
        }
    finally:
        await connection.close()


async def vectors_in_tables(url: str) -> dict[tuple[str | None, str], list[float]]:
    """The first vector of every row, by owner and id."""
    connection = await asyncpg.connect(url)
    await register_vector(connection)
    try:
        rows = await connection.fetch(
            "select user_id, memory_id as id, embedding from memories union all "
            "select null, knowledge_id, embedding from global_knowledge"
        )
        return {
            (row["user_id"], str(row["id"])): row["embedding"].to_numpy().tolist() for row in rows
        }
    finally:
        await connection.close()


async def assert_all_by(model: LetterModel, url: str, records: Sequence[Record]) -> None:
    """The tables have a vector of each record, made by the model, and no other."""
    found = await vectors_in_tables(url)
    assert found.keys() == {key_of(record) for record in records}
    for record in records:
        [wanted] = await model.embed([record.content])
        difference = abs(wanted - found[key_of(record)]).max()
        assert difference < 1e-5, record


async def process(root: Path, url: str) -> asyncio.subprocess.Process:
    """A process of its own that brings all records to `NEW`, as the command does."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.drivers.pgvector_reembedding", url, cwd=root
    )


if __name__ == "__main__":
    asyncio.run(reembedded(sys.argv[1]))
