"""Users who are kept in the service's memory: the next recall knows of what any client changed."""

from pathlib import Path

import asyncpg
import pytest

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.sql import recall as sql
from app.embedding import Embedder
from app.settings import RecallSettings
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.resident import (
    Chance,
    be_resident,
    become_resident,
    contents,
    execute,
    residents,
    statements,
    store,
)

OTHERS = sql.EVERY_COLUMN.replace("memory_id, user_id, conversation_id, content, ", "")


def copies(memory_id: str, user: str, content: str) -> str:
    """A statement that stores what kettle 1 has, under another id, user and content."""
    return (
        f"insert into memories (memory_id, user_id, conversation_id, content, {OTHERS}) "  # noqa: S608
        f"select {memory_id}, '{user}', conversation_id, {content}, {OTHERS} from memories, "
        f"generate_series(1, 1) n where content = 'kettle 1' and user_id = 'ada'"
    )


NEW = copies("gen_random_uuid()", "ada", "'new'")
UPSERT = (
    copies("memory_id", "ada", "'again'")
    + " on conflict (user_id, memory_id) do update set content = excluded.content"
)
MANY = copies("gen_random_uuid()", "ada", "'many'").replace("(1, 1)", "(1, 1500)")
FEWER = (
    "delete from memories where memory_id in "
    "(select memory_id from memories where content = 'many' offset 3)"
)

CHANGES = {
    "insert": [NEW],
    "update": ["update memories set content = 'changed' where content = 'kettle 2'"],
    "delete": ["delete from memories where content = 'kettle 2'"],
    "delete of all": ["delete from memories where user_id = 'ada'"],
    "insert and delete of many": [MANY, FEWER],
    "update of many": [
        MANY,
        "update memories set content = 'changed' where content = 'kettle 2' or content = 'many'",
        FEWER.replace("many", "changed"),
    ],
    "delete of all of many": [MANY, "delete from memories where user_id = 'ada'"],
    "upsert": [UPSERT],
    "merge": [
        "merge into memories using (values ('kettle 1')) as v (said) on content = said "
        "when matched then update set content = 'merged'"
    ],
    "delete and insert of one id": [
        "begin",
        "create temp table moved on commit drop as select * from memories where user_id = 'ada'",
        "delete from memories where user_id = 'ada'",
        "insert into memories select * from moved where content <> 'kettle 2'",
        "commit",
    ],
    "to another user": ["update memories set user_id = 'bob' where content = 'kettle 2'"],
    "from another user": ["update memories set user_id = 'ada' where user_id = 'bob'"],
    "another id": ["update memories set memory_id = gen_random_uuid(), content = 'x' || content"],
    "released savepoint": ["begin", "savepoint a", NEW, "release savepoint a", "commit"],
    "after a savepoint": [
        "begin",
        "savepoint a",
        "delete from memories",
        "rollback to savepoint a",
        NEW,
        "commit",
    ],
    "within a function that fails and goes on": [
        f"do $$ begin {NEW}; begin delete from memories; perform 1 / 0; "  # noqa: S608
        "exception when division_by_zero then null; end; end $$"
    ],
    "as a replication": ["set session_replication_role = replica", NEW],
    "truncate": ["truncate memories"],
    "truncate and insert": [
        "begin",
        "create temp table moved on commit drop as select * from memories",
        "truncate memories",
        "insert into memories select * from moved where content <> 'kettle 2'",
        "commit",
    ],
}


@pytest.fixture(params=["plain", "partitioned"])
async def url(request: pytest.FixtureRequest, new_database: NewDatabase, root: Path) -> str:
    url = await new_database()
    if request.param == "partitioned":
        await execute(url, (root / "alembic/distributed/partitioned.sql").read_text())
    return url


@pytest.fixture
async def driver(url: str, open_driver: OpenDriver, embedder: Embedder) -> PgvectorDriver:
    """Ada is resident, with four memories."""
    driver = await open_driver(url, instead=Chance(embedder.dimension), pool_max_size=1)
    await store(driver, "ada", *(f"kettle {n}" for n in range(4)))
    await store(driver, "bob", "bob's")
    await become_resident(driver, "ada")
    return driver


async def truth(url: str, user: str = "ada") -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select content from memories where user_id = $1", user)
    await connection.close()
    return {row["content"] for row in rows}


@pytest.mark.parametrize("change", CHANGES)
async def test_the_next_recall_knows_of(url: str, driver: PgvectorDriver, change: str) -> None:
    assert await contents(driver, "ada") == {f"kettle {n}" for n in range(4)}
    await execute(url, *CHANGES[change])
    kept = await truth(url)
    assert kept != {f"kettle {n}" for n in range(4)} or change == "from another user"
    assert await contents(driver, "ada") == kept
    assert await contents(driver, "ada") == kept


async def test_what_is_written_into_a_partition_is_known_too(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder, root: Path
) -> None:
    url = await new_database()
    await execute(url, (root / "alembic/distributed/partitioned.sql").read_text())
    driver = await open_driver(url, instead=Chance(embedder.dimension))
    await store(driver, "ada", "kettle 1", "kettle 2")
    await become_resident(driver, "ada")
    connection = await asyncpg.connect(url)
    part = await connection.fetchval("select tableoid::regclass::text from memories limit 1")
    for change in (
        NEW.replace("into memories", f"into {part}"),
        f"update {part} set content = 'other' where content = 'kettle 2'",  # noqa: S608
        f"delete from {part} where content = 'kettle 1'",  # noqa: S608
        f"truncate {part}",
    ):
        await connection.execute(change)
        assert await contents(driver, "ada") == await truth(url)
        await be_resident(driver, "ada")
    await connection.close()


async def test_a_change_is_known_once_it_is_committed_however_long_ago_it_began(
    url: str, driver: PgvectorDriver
) -> None:
    before = await truth(url)
    writer, other = await asyncpg.connect(url), await asyncpg.connect(url)
    long = writer.transaction()
    await long.start()
    await writer.execute(NEW)
    for n in range(3):  # later numbers are finished sooner
        await other.execute(copies("gen_random_uuid()", "ada", f"'sooner {n}'"))
        assert await contents(driver, "ada") == before | {f"sooner {k}" for k in range(n + 1)}
    await long.commit()
    assert await contents(driver, "ada") == await truth(url) > before | {"new"}
    await writer.close()
    await other.close()


async def test_what_is_rolled_back_was_never_there(url: str, driver: PgvectorDriver) -> None:
    before = await truth(url)
    async with statements(driver) as seen:
        await execute(url, "begin", NEW, "delete from memories where user_id = 'ada'", "rollback")
        assert await contents(driver, "ada") == before
    assert seen == [sql.CHANGED]


async def test_a_recall_of_a_resident_asks_postgresql_once(
    url: str, driver: PgvectorDriver
) -> None:
    async with statements(driver) as seen:
        await driver.recall("ada", query="kettle")
        await driver.recall("ada", query="kettle", use_vector=False)
    assert seen == [sql.CHANGED, sql.CHANGED]


async def test_a_change_costs_what_changed_and_others_nothing(
    url: str, driver: PgvectorDriver
) -> None:
    whole = [part.outlines for part in sql.WHOLE]
    await store(driver, "ada", "new")
    async with statements(driver) as seen:
        assert "new" in await contents(driver, "ada")
        assert sql.UNSEEN[False] in seen
        assert not {*whole, sql.RECORDS_PAGE, sql.VECTORS_PAGE[False]} & set(seen)
        seen.clear()
        await store(driver, "bob", "new")
        seen.clear()
        await driver.recall("ada", query="kettle")
    assert seen == [sql.CHANGED]


async def test_many_changes_at_once_are_read_anew_while_postgresql_answers(
    url: str, driver: PgvectorDriver
) -> None:
    await execute(url, MANY)
    found = await driver.recall("ada", query="kettle", top_k=100)
    assert len({memory.memory_id for memory in found}) == 100
    await driver.recall("ada", query="kettle")
    async with statements(driver) as seen:
        await driver.recall("ada", query="kettle")
    assert seen == [sql.CHANGED]


async def test_with_0_megabytes_nobody_is_kept(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    recall = RecallSettings(resident_mb=0)
    driver = await open_driver(url, instead=Chance(embedder.dimension), recall=recall)
    await store(driver, "ada", "kettle")
    for _ in range(3):
        assert await contents(driver, "ada") == {"kettle"}
        assert await residents(driver) == 0
