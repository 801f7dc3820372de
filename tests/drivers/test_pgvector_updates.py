"""Updates in PostgreSQL: what a record is afterwards, and that none of several at once is lost."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from app.core.memory.records import Knowledge, Memory, record_id
from app.core.memory.requests import Forget
from app.drivers.pgvector import PgvectorDriver, migrations
from app.embedding import Embedder
from app.errors import NotPermitted
from app.ranking.outlines import signs_in
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.test_pgvector_changed import run
from tests.drivers.test_pgvector_index import WideModel
from tests.drivers.watched import Watched

KETTLE = "Ada has a kettle of copper."
TRAIN = "The night train to Lyon leaves at nine."
LATER = timedelta(microseconds=1)


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
def watched(embedder: Embedder) -> Watched:
    return Watched(embedder)


@pytest.fixture
async def driver(url: str, open_driver: OpenDriver, watched: Watched) -> PgvectorDriver:
    """A driver on a database of its own; `watched` leaves out the sample embedded at the start."""
    driver = await open_driver(url, instead=watched)
    watched.texts.clear()
    return driver


async def row(url: str, table: str, where: str) -> dict[str, Any]:
    """The one row of the table that `where` finds, each column as text."""
    connection = await asyncpg.connect(url)
    try:
        columns = await connection.fetch(
            "select attname from pg_attribute"
            " where attrelid = $1::regclass and attnum > 0 and not attisdropped",
            table,
        )
        names = ", ".join(f"{column['attname']}::text" for column in columns)
        (found,) = await connection.fetch(f"select {names} from {table} where {where}")  # noqa: S608
        return dict(found)
    finally:
        await connection.close()


async def test_updates_of_one_memory_at_once_by_two_services_are_all_kept(
    url: str, driver: PgvectorDriver, open_driver: OpenDriver
) -> None:
    services = [driver, await open_driver(url)]
    stored = await driver.store("ada", KETTLE, metadata={"colour": "red"})
    await asyncio.gather(
        *(
            services[n % 2].update(stored.memory_id, "ada", {"metadata": {f"key {n}": n}})
            for n in range(20)
        )
    )
    found = await driver.get(stored.memory_id, "ada")
    assert found is not None
    assert found.metadata == {"colour": "red", **{f"key {n}": n for n in range(20)}}


async def test_updates_of_one_piece_of_knowledge_at_once_by_two_services_are_all_kept(
    url: str, driver: PgvectorDriver, open_driver: OpenDriver
) -> None:
    services = [driver, await open_driver(url)]
    stored = await driver.store_global_knowledge(KETTLE, "kitchen")
    await asyncio.gather(
        *(
            services[n % 2].update_knowledge(stored.knowledge_id, {"metadata": {f"key {n}": n}})
            for n in range(20)
        )
    )
    found = await driver.get_knowledge(stored.knowledge_id)
    assert found is not None
    assert found.metadata == {f"key {n}": n for n in range(20)}


async def test_an_updated_memory_is_in_every_column_as_if_it_had_been_stored_so(
    url: str, driver: PgvectorDriver
) -> None:
    stored = await driver.store("ada", "Where is the kettle?", "shop", ["old"], {"date": "2020"})
    patch = {
        "content": f"Bob: {TRAIN} 北京 a_b/c@d",
        "conversation_id": "station",
        "tags": ["new", "two"],
        "metadata": {"date": "2023-05-08", "to": {"city": "Lyon"}},
    }
    updated = await driver.update(stored.memory_id, "ada", patch)
    assert updated is not None
    as_updated = await row(url, "memories", "user_id = 'ada'")
    await driver.import_records([replace(updated, user_id="bob")])
    as_stored = await row(url, "memories", "user_id = 'bob'")
    assert as_updated == {**as_stored, "user_id": "ada"}
    for found in (
        await driver.get(stored.memory_id, "ada"),
        (await driver.recall("ada"))[0],
        (await driver.list_memories("ada")).memories[0],
        (await exported(driver))[0],
    ):
        assert found == updated
    assert updated.created_at == stored.created_at < updated.updated_at


async def test_updated_knowledge_is_in_every_column_as_if_it_had_been_stored_so(
    url: str, driver: PgvectorDriver
) -> None:
    stored = await driver.store_global_knowledge(KETTLE, "kitchen", "Kettles", "doc", {"page": 1})
    patch = {"content": TRAIN, "category": "travel", "title": None, "doc_id": "timetable"}
    updated = await driver.update_knowledge(stored.knowledge_id, patch)
    assert updated is not None
    as_updated = await row(url, "global_knowledge", "true")
    await driver.delete_knowledge(stored.knowledge_id)
    await driver.import_records([updated])
    assert await row(url, "global_knowledge", "true") == as_updated
    found = await driver.recall_global_knowledge("When does the train leave?", category="travel")
    assert [replace(record, score=None) for record in found] == [updated]
    assert await driver.recall_global_knowledge("kettle", category="kitchen") == []


@pytest.mark.parametrize("use_vector", [True, False])
async def test_a_recall_finds_what_a_memory_says_now_and_not_what_it_said(
    driver: PgvectorDriver, use_vector: bool
) -> None:
    stored = await driver.store("ada", KETTLE)
    for other in ("The basil wants water.", "Bob paints the fence."):
        await driver.store("ada", other)
    await driver.update(stored.memory_id, "ada", {"content": TRAIN})
    found = await driver.recall("ada", query="night train to Lyon", use_vector=use_vector)
    assert found[0].memory_id == stored.memory_id
    found = await driver.recall("ada", query="copper kettle", use_vector=use_vector, top_k=2)
    assert all("kettle" not in memory.content for memory in found)
    assert found == [] or use_vector


async def test_only_what_is_said_otherwise_is_embedded_again(
    url: str, driver: PgvectorDriver, watched: Watched
) -> None:
    stored = await driver.store("ada", KETTLE)
    before = await row(url, "memories", "true")
    watched.texts.clear()
    for patch in ({"tags": ["a"]}, {"conversation_id": "shop"}, {"metadata": {"date": "2020"}}):
        assert await driver.update(stored.memory_id, "ada", patch)
    assert watched.texts == []
    after = await row(url, "memories", "true")
    assert after["embedding"] == before["embedding"]
    signs = [signs_in(bytes.fromhex(each["outline"][2:])) for each in (before, after)]
    assert signs[0] == signs[1]
    await driver.update(stored.memory_id, "ada", {"metadata": {"speaker": "Bob"}})
    assert watched.texts.pop() == f"Bob: {KETTLE}"
    await driver.update(stored.memory_id, "ada", {"content": TRAIN})
    assert watched.texts == [f"Bob: {TRAIN}"]
    assert (await row(url, "memories", "true"))["embedding"] != before["embedding"]


async def test_knowledge_is_embedded_again_only_with_another_content(
    url: str, driver: PgvectorDriver, watched: Watched
) -> None:
    stored = await driver.store_global_knowledge(KETTLE, "kitchen")
    before = await row(url, "global_knowledge", "true")
    watched.texts.clear()
    for patch in ({"category": "tea"}, {"title": "Kettles"}, {"metadata": {"speaker": "Bob"}}):
        assert await driver.update_knowledge(stored.knowledge_id, patch)
    assert watched.texts == []
    assert (await row(url, "global_knowledge", "true"))["embedding"] == before["embedding"]
    await driver.update_knowledge(stored.knowledge_id, {"content": TRAIN})
    assert watched.texts == [TRAIN]


async def test_vectors_in_half_precision_are_kept_to_the_bit(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    await run(url, "drop schema public cascade", "create schema public")
    wide = WideModel(embedder)
    await migrations.upgrade(url, wide.dimension)
    driver = await open_driver(url, instead=wide)
    memory = await driver.store("ada", KETTLE)
    knowledge = await driver.store_global_knowledge(KETTLE, "kitchen")
    tables = ("memories", "global_knowledge")
    before = [(await row(url, table, "true"))["embedding"] for table in tables]
    await driver.update(memory.memory_id, "ada", {"tags": ["a"]})
    await driver.update_knowledge(knowledge.knowledge_id, {"title": "Kettles"})
    assert [(await row(url, table, "true"))["embedding"] for table in tables] == before


def versions(records: list[Memory | Knowledge]) -> list[list[Memory | Knowledge]]:
    """The records, and two later versions of them: with the same content, and with another."""
    again: list[Memory | Knowledge] = [
        replace(record, metadata={"v": 1}, updated_at=record.updated_at + LATER)
        for record in records
    ]
    other: list[Memory | Knowledge] = [
        replace(record, content=f"{TRAIN} {n}", updated_at=record.updated_at + LATER)
        for n, record in enumerate(again)
    ]
    return [records, again, other]


async def exported(driver: PgvectorDriver) -> list[Memory | Knowledge]:
    return [record async for record in driver.export_records()]


async def test_an_import_replaces_what_is_older_and_embeds_only_what_has_to_be(
    driver: PgvectorDriver, watched: Watched
) -> None:
    await driver.store("ada", KETTLE)
    await driver.store_global_knowledge(KETTLE, "kitchen")
    stored, again, other = versions(await exported(driver))
    watched.texts.clear()
    await driver.import_records(stored)
    assert await exported(driver) == stored
    await driver.import_records(again)
    assert await exported(driver) == again
    assert watched.texts == []
    await driver.import_records(other)
    assert await exported(driver) == other
    assert watched.texts == [f"{TRAIN} 0", f"{TRAIN} 1"]
    for older in (stored, again, other):
        await driver.import_records(older)
        assert await exported(driver) == other
    assert len(watched.texts) == 2
    found = await driver.recall("ada", query="night train", use_vector=False)
    assert [memory.content for memory in found] == [f"{TRAIN} 0"]


async def test_of_versions_in_one_import_the_latest_is_kept_in_whatever_order(
    driver: PgvectorDriver,
) -> None:
    await driver.store("ada", KETTLE)
    await driver.store_global_knowledge(KETTLE, "kitchen")
    stored, again, other = versions(await exported(driver))
    for order in ([*stored, *other, *again], [*again, *stored, *other], [*other, *again]):
        await driver.delete_user("ada")
        assert isinstance(stored[1], Knowledge)
        await driver.delete_knowledge(stored[1].knowledge_id)
        await driver.import_records(order)
        assert await exported(driver) == other


async def test_one_id_of_two_users_is_two_memories_also_to_updates(
    driver: PgvectorDriver,
) -> None:
    ada = await driver.store("ada", KETTLE)
    bob = replace(ada, user_id="bob")
    await driver.import_records([ada, bob])
    updated = await driver.update(bob.memory_id, "bob", {"content": TRAIN})
    assert updated is not None
    assert await driver.get(ada.memory_id, "ada") == ada
    await driver.import_records([replace(ada, tags=["a"], updated_at=ada.updated_at + LATER)])
    assert await driver.get(bob.memory_id, "bob") == updated


async def test_an_import_does_not_undo_a_later_update_that_comes_meanwhile(
    driver: PgvectorDriver, watched: Watched
) -> None:
    stored = await driver.store("ada", KETTLE)
    imported = replace(stored, content=TRAIN, updated_at=stored.updated_at + LATER)
    watched.meanwhile = lambda: driver.update(stored.memory_id, "ada", {"tags": ["later"]})
    await driver.import_records([imported])
    found = await driver.get(stored.memory_id, "ada")
    assert found is not None
    assert (found.content, found.tags) == (KETTLE, ["later"])


async def test_an_update_is_made_on_what_another_one_has_left_meanwhile(
    driver: PgvectorDriver, watched: Watched
) -> None:
    memory = await driver.store("ada", KETTLE)
    knowledge = await driver.store_global_knowledge(KETTLE, "kitchen")
    key = memory.memory_id
    watched.meanwhile = lambda: driver.update(key, "ada", {"metadata": {"speaker": "Bob"}})
    updated = await driver.update(key, "ada", {"content": TRAIN})
    assert updated is not None
    assert (updated.content, updated.metadata) == (TRAIN, {"speaker": "Bob"})
    assert watched.texts[-1] == f"Bob: {TRAIN}"
    key = knowledge.knowledge_id
    watched.meanwhile = lambda: driver.update_knowledge(key, {"title": "Trains"})
    known = await driver.update_knowledge(key, {"content": TRAIN})
    assert known is not None
    assert (known.content, known.title) == (TRAIN, "Trains")
    assert await driver.get_knowledge(key) == known


async def test_what_is_deleted_during_its_update_stays_deleted(
    driver: PgvectorDriver, watched: Watched
) -> None:
    memory = await driver.store("ada", KETTLE)
    knowledge = await driver.store_global_knowledge(KETTLE, "kitchen")
    watched.meanwhile = lambda: driver.delete_user("ada")
    assert await driver.update(memory.memory_id, "ada", {"content": TRAIN}) is None
    watched.meanwhile = lambda: driver.delete_knowledge(knowledge.knowledge_id)
    assert await driver.update_knowledge(knowledge.knowledge_id, {"content": TRAIN}) is None
    assert await exported(driver) == []


WAITING = """
    select count(*) from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'
"""


@pytest.mark.parametrize(
    ("table", "key"), [("memories", "memory_id"), ("global_knowledge", "knowledge_id")]
)
async def test_imports_of_the_same_records_at_once_end_with_the_latest_version(
    url: str, driver: PgvectorDriver, open_driver: OpenDriver, table: str, key: str
) -> None:
    """The imports come in opposite orders, so that each could wait for the other."""
    for n in range(9):
        if table == "memories":
            await driver.store("ada", f"kettle {n}")
        else:
            await driver.store_global_knowledge(f"kettle {n}", "kitchen")
    stored = await exported(driver)
    earlier, later = (
        [
            replace(each, metadata={"v": v}, updated_at=each.updated_at + v * LATER)
            for each in stored
        ]
        for v in (1, 2)
    )
    other = await open_driver(url)
    holder, watcher = await asyncpg.connect(url), await asyncpg.connect(url)
    holding = holder.transaction()
    await holding.start()
    held = f"select from {table} where {key} = $1 for update"
    assert len(await holder.fetch(held, record_id(stored[4]))) == 1
    imports = asyncio.gather(driver.import_records(earlier), other.import_records(later[::-1]))
    async with asyncio.timeout(5):
        while await watcher.fetchval(WAITING) < 2:
            await asyncio.sleep(0.01)
    await holding.rollback()
    await imports
    assert await exported(driver) == later
    await holder.close()
    await watcher.close()


async def test_a_user_is_forgotten_up_to_a_moment_and_that_moment_too(
    url: str, driver: PgvectorDriver
) -> None:
    stored = await driver.store("ada", KETTLE)
    moments = [stored.created_at + n * LATER for n in range(4)]
    later = [
        replace(stored, memory_id=str(UUID(int=n)), created_at=moment, updated_at=moments[3])
        for n, moment in enumerate(moments)
    ]
    await driver.import_records([*later[1:], replace(later[0], user_id="bob")])
    assert await driver._forget(Forget("ada", moments[2])) == 3
    assert [memory.created_at for memory in await driver.recall("ada")] == [moments[3]]
    assert await driver._forget(Forget("ada")) == 1
    assert len(await driver.recall("bob")) == 1


async def test_a_role_that_may_not_update_still_stores_and_reads(
    url: str, driver: PgvectorDriver, open_driver: OpenDriver
) -> None:
    await run(
        url, "create role limited login", "grant all on all tables in schema public to limited"
    )
    try:
        await run(url, "revoke update on memories, global_knowledge from limited")
        limited = await open_driver(url.replace(f"{urlsplit(url).username}@", "limited@"))
        memory = await limited.store("ada", KETTLE)
        knowledge = await limited.store_global_knowledge(KETTLE, "kitchen")
        with pytest.raises(NotPermitted):
            await limited.update(memory.memory_id, "ada", {"tags": ["a"]})
        with pytest.raises(NotPermitted):
            await limited.update_knowledge(knowledge.knowledge_id, {"title": "Kettles"})
        assert await exported(limited) == [memory, knowledge]
        assert (await limited.health_check()).status == "degraded"
        await limited.close()
    finally:
        await run(url, "drop owned by limited", "drop role limited")
