"""Another model for the records of a database, while drivers use it."""

import asyncio
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from app.core.memory.records import Memory
from app.drivers.pgvector import PgvectorDriver
from app.errors import ConfigurationError, DriverUnavailable, InUse
from app.settings import Limits
from app.transfer.reembed import Reembedded, call_off, reembed
from app.wrappers.unscoped import UnscopedDriver
from tests.conftest import NewDatabase
from tests.drivers.another_model import until_told
from tests.drivers.pgvector_reembedding import (
    NEW,
    OLD,
    SAME_SIZE,
    THIRD,
    assert_all_by,
    driver_on,
    filled,
    many,
    reembedded,
    vectors_in_tables,
    way_to,
    what_there_is,
)
from tests.drivers.test_pgvector_as_opened import program
from tests.other_models import LetterModel
from tests.transfer.records import by_place, every_record, hostile_records


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers look often, and are waited for shortly."""
    monkeypatch.setattr("app.drivers.pgvector.coming.ComingModel.every", 0.1)
    monkeypatch.setattr("app.drivers.pgvector.reembedding.LOOKS_SECONDS", 0.5)


async def run_program(name: str, *words: str) -> None:
    """Run a program of PostgreSQL."""
    running = await asyncio.create_subprocess_exec(program(name), *words)
    assert await running.wait() == 0


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.mark.parametrize("model", [NEW, SAME_SIZE], ids=["another dimension", "same dimension"])
async def test_every_record_gets_the_new_vectors_and_nothing_else_changes(
    url: str, model: LetterModel
) -> None:
    before = await what_there_is(url)
    records = hostile_records()
    async with driver_on(url) as driver:
        await driver.import_records(records)
        await assert_all_by(OLD, url, records)
        assert await reembedded(url, model) == len(records)
        await assert_all_by(model, url, records)
        assert by_place(await every_record(driver)) == by_place(records)
        found = await driver.recall("plain", query="plain", top_k=1)
        assert found[0].content == "plain"
    assert await what_there_is(url) == before


async def test_back_and_forth_ends_where_it_began(url: str) -> None:
    records = many(30)
    async with driver_on(url) as driver:
        await driver.import_records(records)
        for model in (NEW, OLD, NEW, THIRD):
            await reembedded(url, model)
            await assert_all_by(model, url, records)
            assert (await driver.recall("user 3", query="text"))[0].score is not None


async def test_what_changes_while_it_is_filled_is_filled_in_again(url: str) -> None:
    async with driver_on(url) as driver, way_to(url) as work:
        await driver.import_records(many(20))
        await filled(work)
        changed = await driver.store("ada", "Ada has a kettle.")
        await driver.update(changed.memory_id, "ada", {"content": "Ada has a copper kettle."})
        first, second, *_ = await every_record(driver)
        assert isinstance(first, Memory)
        assert isinstance(second, Memory)
        await driver.update(first.memory_id, first.user_id, {"content": "It was another text."})
        await driver.delete(second.memory_id, second.user_id)
        fact = await driver.store_global_knowledge("Kettles boil.", "physics")
        await driver.store_global_knowledge("Lamps shine.", "physics")
        await driver.delete_knowledge(fact.knowledge_id)
        await reembed(work)
        await assert_all_by(NEW, url, await every_record(driver))
        assert await driver.get(second.memory_id, second.user_id) is None


async def test_a_writer_amid_a_transaction_is_not_waited_for_and_nothing_of_it_is_lost(
    url: str,
) -> None:
    async with driver_on(url) as driver, way_to(url) as work:
        stored = await driver.store("ada", "kettle")
        other = await driver.store("ada", "lamp")
        await work.begin()
        writer = await asyncpg.connect(url)
        await writer.execute("begin; select from memories where content = 'kettle' for update")
        await filled(work)
        assert not await work.switch()
        await writer.execute("rollback")
        await writer.close()
        await reembed(work)
        await assert_all_by(NEW, url, [stored, other])


@pytest.mark.parametrize("step", ["begun", "filled", "half made", "not begun"])
async def test_called_off_it_leaves_nothing_and_the_driver_as_it_was(url: str, step: str) -> None:
    async with driver_on(url) as driver:
        await driver.import_records(many(20))
        before, vectors = await what_there_is(url), await vectors_in_tables(url)
        async with way_to(url) as work:
            if step == "filled":
                await filled(work)
            elif step == "begun":
                await work.begin()
            elif step == "half made":  # as one that was killed leaves it
                connection = await asyncpg.connect(url)
                await connection.execute(
                    "create schema public_reembedding; create table public_reembedding.memories ()"
                )
                await connection.close()
            await asyncio.sleep(0.3)
        async with way_to(url) as work:
            assert await call_off(work) is (step in ("begun", "filled"))
        assert await what_there_is(url) == before
        assert await vectors_in_tables(url) == vectors
        assert await driver.recall("user 3", query="text")
        await until_told(driver, goes_on=False)
        await reembedded(url)  # and nothing is in the way of another one
        await assert_all_by(NEW, url, await every_record(driver))


@pytest.mark.parametrize("step", ["half made", "begun", "filled", "switched"])
async def test_one_that_was_broken_off_goes_on(url: str, step: str) -> None:
    async with driver_on(url) as driver:
        await driver.import_records(many(20))
        before = await what_there_is(url)
        async with way_to(url) as work:
            if step == "half made":
                connection = await asyncpg.connect(url)
                await connection.execute("create schema public_reembedding")
                await connection.close()
            else:
                await work.begin()
            if step in ("filled", "switched"):
                await filled(work)
            if step == "switched":
                assert await work.switch()
        await driver.store("ada", "It came in between.")
        await reembedded(url)
        await assert_all_by(NEW, url, await every_record(driver))
        assert await what_there_is(url) == before


async def test_after_the_switch_nothing_can_be_called_off(url: str) -> None:
    async with driver_on(url) as driver, way_to(url) as work:
        await driver.store("ada", "kettle")
        await filled(work)
        assert await work.switch()
        assert not await call_off(work)
        assert await work.state() == "switched"
        await work.end()
        assert await work.state() == "none"
        await assert_all_by(NEW, url, await every_record(driver))


async def test_a_third_model_is_refused_at_every_step(url: str) -> None:
    async with driver_on(url) as driver, way_to(url) as work:
        await driver.store("ada", "kettle")
        await work.begin()
        await work.close()
        async with way_to(url, THIRD) as other:
            with pytest.raises(ConfigurationError, match="being brought to the model 'new'"):
                await other.begin()
        with pytest.raises(ConfigurationError, match="memory-driver reembed"):
            async with driver_on(url, THIRD):
                pass
        await work.open()
        await filled(work)
        assert await work.switch()
        await work.close()
        async with way_to(url, THIRD) as other:
            with pytest.raises(ConfigurationError, match="brought to the model 'new'"):
                await other.begin()
        with pytest.raises(ConfigurationError, match="memory-driver reembed"):
            async with driver_on(url, THIRD):
                pass
        await reembedded(url)
        async with way_to(url) as again:
            with pytest.raises(ConfigurationError, match="of the model 'new' already"):
                await again.begin()


@pytest.mark.parametrize("configured", [OLD, NEW])
async def test_a_driver_of_either_model_opens_while_it_goes_on_and_afterwards(
    url: str, configured: LetterModel
) -> None:
    async with driver_on(url) as driver:
        stored = await driver.store("ada", "Ada has a kettle.")
        async with way_to(url) as work:
            await work.begin()
            async with driver_on(url, configured) as other:
                assert (await other.recall("ada", query="kettle"))[0].memory_id == stored.memory_id
                more = await other.store("ada", "The lamp is lit.")
                await assert_all_by(OLD, url, [stored, more])
            await reembed(work)
        async with driver_on(url, configured) as other:
            assert len(await other.recall("ada", query="kettle")) == 2
            third = await other.store("ada", "The basil is dry.")
            await assert_all_by(NEW, url, [stored, more, third])


async def test_a_driver_that_can_not_load_the_model_never_mixes_vectors(url: str) -> None:
    """Of one dimension nothing else would tell."""
    async with driver_on(url, follows=False) as driver:
        stored = await driver.store("ada", "Ada has a kettle.")
        known = await driver.store_global_knowledge("Kettles boil.", "physics")
        async with way_to(url, SAME_SIZE) as work:
            await reembed(work, force=True)
        for verb in (
            driver.recall("ada", query="kettle"),
            driver.recall_global_knowledge("kettle"),
            driver.store("ada", "The lamp is lit."),
            driver.store_global_knowledge("Lamps shine.", "physics"),
            driver.update(stored.memory_id, "ada", {"content": "It is gone."}),
            driver.update_knowledge(known.knowledge_id, {"content": "It is gone."}),
            driver.import_records(many(5)),
        ):
            with pytest.raises(DriverUnavailable):
                await verb
        assert (await driver.health_check()).status == "unavailable"
        await assert_all_by(SAME_SIZE, url, [stored, known])


async def test_the_switch_waits_for_a_driver_that_can_not_load_the_model_and_names_why(
    url: str,
) -> None:
    async with driver_on(url, follows=False) as driver, way_to(url) as work:
        stored = await driver.store("ada", "kettle")
        told = Reembedded()
        waiting = asyncio.create_task(reembed(work, told))
        async with asyncio.timeout(30):
            while "can't be loaded" not in (told.waiting or ""):
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        assert not waiting.done()
        await assert_all_by(OLD, url, [stored])
        facts = (await driver.health_check()).facts["reembedding"]
        assert facts["model"] == "new"
        assert "can't be loaded" in facts["problem"]
        await driver.close()
        await waiting
        await assert_all_by(NEW, url, [stored])


async def test_two_at_once_are_refused(url: str) -> None:
    async with driver_on(url), way_to(url):
        with pytest.raises(InUse):
            async with way_to(url):
                pass


async def test_a_driver_that_was_idle_serves_by_the_new_model_at_its_next_request(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driver_on(url) as driver:
        await driver.import_records(many(60))
        for _ in range(3):  # the user is kept in memory
            before = await driver.recall("user 3", query="text 13")
            await asyncio.sleep(0.2)
        await driver._coming.stop()
        async with way_to(url) as work:
            await reembed(work)
        after = await driver.recall("user 3", query="text 13")
        async with driver_on(url, NEW) as fresh:
            wanted = await fresh.recall("user 3", query="text 13")
        assert [(m.memory_id, m.score) for m in after] == [(m.memory_id, m.score) for m in wanted]
        assert [m.score for m in after] != [m.score for m in before]


async def test_health_tells_how_far_it_is(url: str) -> None:
    async with driver_on(url) as driver, way_to(url) as work:
        await driver.import_records(many(20))
        await filled(work)
        await work.count()
        whole = {"model": "new", "records": 20, "done": 20}
        async with asyncio.timeout(30):
            while (await driver.health_check()).facts.get("reembedding") != whole:
                await asyncio.sleep(0.05)
        await reembed(work)
        await until_told(driver, goes_on=False)
        health = await driver.health_check()
        assert (health.status, health.facts["embedding"]["model"]) == ("ok", "new")


async def test_a_role_with_grants_alone_follows_and_keeps_its_grants(url: str) -> None:
    admin = await asyncpg.connect(url)
    async with driver_on(url) as first:
        await first.store("ada", "kettle")
    await admin.execute("create role served login")
    try:
        await admin.execute("grant all on all tables in schema public to served")
        before = await what_there_is(url)
        async with driver_on(url.replace("memory@", "served@")) as driver, way_to(url) as work:
            await work.begin()
            await until_told(driver, goes_on=True)
            await reembed(work)
            await driver.store("ada", "lamp")
            assert len(await driver.recall("ada", query="lamp")) == 2
            await assert_all_by(NEW, url, await every_record(driver))
        assert (await what_there_is(url))["grants"] == before["grants"]
    finally:
        await admin.execute("drop owned by served; drop role served")
        await admin.close()


async def test_a_view_on_the_old_tables_stops_the_end_and_is_named(url: str) -> None:
    admin = await asyncpg.connect(url)
    async with driver_on(url) as driver:
        await driver.store("ada", "kettle")
        await admin.execute("create view of_ada as select content from memories")
        with pytest.raises(ConfigurationError, match="of_ada"):
            await reembedded(url)
        assert await driver.recall("ada", query="kettle")
        await admin.execute("drop view of_ada")
        await reembedded(url)
        await assert_all_by(NEW, url, await every_record(driver))
    await admin.close()


@pytest.mark.parametrize("ends", ["goes on", "is called off"])
async def test_in_a_restored_dump_it_goes_on_or_is_called_off(
    url: str, new_database: NewDatabase, tmp_path: Path, ends: str
) -> None:
    async with driver_on(url) as driver, way_to(url) as work:
        await driver.import_records(many(30))
        before = await what_there_is(url)
        await filled(work)
        await driver.store("ada", "It came after that.")
        dump = str(tmp_path / "dump")
        await run_program("pg_dump", "--format=custom", f"--file={dump}", f"--dbname={url}")
    restored = await new_database()
    await run_program("pg_restore", "--clean", "--if-exists", f"--dbname={restored}", dump)
    async with driver_on(restored) as driver:
        if ends == "goes on":
            await reembedded(restored)
        else:
            async with way_to(restored) as work:
                assert await call_off(work)
        records = await every_record(driver)
        assert len(records) == 31
        await assert_all_by(NEW if ends == "goes on" else OLD, restored, records)
    assert await what_there_is(restored) == before


async def test_under_a_wrapping_driver_it_is_the_held_one_that_is_named(url: str) -> None:
    held: PgvectorDriver = driver_on(url)
    async with UnscopedDriver(held, Limits()) as whole:
        await whole.store("ada", "kettle", memory_id=str(UUID(int=7)))
        with pytest.raises(Exception, match="pgvector"):
            whole.reembedding(NEW)
        await reembedded(url)
        assert await whole.recall("ada", query="kettle")
