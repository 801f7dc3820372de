"""Two services on one Weaviate, which has no transactions; and what a crash leaves."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from structlog.testing import capture_logs

from app.core.memory.records import OLDER_VERSIONS, Knowledge, Memory
from app.core.memory.requests import Put
from app.drivers.weaviate import WeaviateDriver
from app.errors import MemoryServiceError
from tests.clocks import let_pass
from tests.drivers.weaviate_drivers import OpenWeaviate, open_weaviate, server, weaviate
from tests.drivers.weaviate_fake import FakeWeaviate

__all__ = ["open_weaviate", "server", "weaviate"]

LONG = "Ada waters the basil on Sundays. " * 100 + "Her kettle is made of copper."


def refusing(server: FakeWeaviate, call: str, at: int) -> None:
    """Let that call fail, from the `at`-th on, as if the service had died before it."""
    calls = 0

    async def refuse(name: str) -> Response | None:
        nonlocal calls
        calls += name == call
        return JSONResponse({}, 503) if calls >= at else None

    server.before = refuse


async def listed(driver: WeaviateDriver, doc_id: str = "kettles") -> list[str]:
    page = await driver.list_knowledge(doc_id=doc_id, limit=100)
    return [each.content for each in page.knowledge]


async def everything(driver: WeaviateDriver) -> set[str]:
    """What every way of reading knowledge shows."""
    found = [each.content async for each in driver.export_records()]
    found += [one.content for one in await driver.recall_global_knowledge("kettle", top_k=100)]
    found += await listed(driver)
    found += [one.content for one in (await driver.list_knowledge(limit=100)).knowledge]
    return set(found)


async def test_updates_of_two_services_leave_one_of_them_whole(open_weaviate: OpenWeaviate) -> None:
    drivers = [await open_weaviate() for _ in range(2)]
    memory = await drivers[0].store("ada", "kettle", metadata={"n": -1})
    changed = await asyncio.gather(
        *(
            drivers[n % 2].update(
                memory.memory_id, "ada", {"content": f"kettle {n}", "metadata": {"n": n}}
            )
            for n in range(12)
        ),
        return_exceptions=True,
    )
    versions = [each for each in changed if isinstance(each, Memory)]
    assert versions
    [left] = await drivers[0].recall("ada")
    assert left.content == f"kettle {left.metadata['n']}"
    assert left.updated_at in {each.updated_at for each in versions}
    assert await drivers[1].get(memory.memory_id, "ada") == left


async def test_an_older_version_that_comes_later_changes_nothing(
    open_weaviate: OpenWeaviate,
) -> None:
    one, other = [await open_weaviate() for _ in range(2)]
    memory = await one.store("ada", "kettle")
    newer = await one.update(memory.memory_id, "ada", {"content": "a newer kettle"})
    for driver in (one, other):
        await driver.import_records([memory])
        assert await driver.recall("ada") == [newer]


async def test_puts_of_two_services_leave_one_of_them_and_nothing_else(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    drivers = [await open_weaviate() for _ in range(2)]
    for round_ in range(6):
        made = await asyncio.gather(
            *(
                driver.put_document(
                    "kettles", category="c", pieces=[f"{round_} {n} {m}" for m in range(n + 2)]
                )
                for n, driver in enumerate(drivers)
            )
        )
        there = (await drivers[0].list_knowledge(doc_id="kettles")).knowledge
        assert there in made
    last = await drivers[0].put_document("kettles", category="c", pieces=["the last"])
    assert (await drivers[1].list_knowledge(doc_id="kettles")).knowledge == last
    assert len(server.of("Knowledge").objects) == 1
    assert len(server.of("Mark").objects) == 1


async def test_another_service_sees_a_document_as_one_put_left_it(
    open_weaviate: OpenWeaviate,
) -> None:
    writer, reader = [await open_weaviate() for _ in range(2)]
    await writer.put_document("kettles", category="c", pieces=["kettle - piece"] * 8)

    async def write() -> None:
        for n in range(8):
            pieces = [f"kettle {n} piece {m}" for m in range(8)]
            await writer.put_document("kettles", category=f"c{n % 2}", pieces=pieces)

    writing = asyncio.ensure_future(write())
    seen: list[list[Knowledge]] = []
    of_category: list[list[Knowledge]] = []
    while not writing.done():
        seen.append((await reader.list_knowledge(doc_id="kettles", limit=100)).knowledge)
        seen.append(await reader.recall_global_knowledge("kettle", top_k=100))
        of_category.append(await reader.recall_global_knowledge("kettle", category="c1", top_k=99))
    await writing
    assert {len(records) for records in seen} == {8}
    assert {len(records) for records in of_category} <= {0, 8}
    for records in seen + of_category:
        assert len({record.content.split()[1] for record in records}) <= 1
    assert len({records[0].content for records in seen}) > 1


async def test_who_reads_while_a_document_is_replaced_sees_one_put_of_it(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    """The records are read, then the whole put is made, then the marks are read."""
    writer, reader = [await open_weaviate() for _ in range(2)]
    await writer.put_document("kettles", category="c", pieces=["kettle one"] * 8)
    for known in (False, True):
        searches = 0

        async def put_between(call: str) -> Response | None:
            nonlocal searches
            searches += call == "Search"
            if searches == 2:
                server.before = None
                await writer.put_document("kettles", category="c", pieces=["kettle two"] * 8)
            return None

        server.before = put_between
        page = await reader.list_knowledge(doc_id="kettles", limit=100)
        assert [each.content for each in page.knowledge] == ["kettle two"] * 8, known
        await writer.put_document("kettles", category="c", pieces=["kettle one"] * 8)
        await reader.list_knowledge(doc_id="kettles", limit=100)


async def test_who_reads_amid_a_put_sees_no_part_of_it(
    open_weaviate: OpenWeaviate, server: FakeWeaviate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the records is read, then the others are kept and the mark, then the mark is read.

    A category that only the new ones have leaves nothing out by which the reader could tell.
    """
    writer, reader = [await open_weaviate() for _ in range(2)]
    await writer.put_document("kettles", category="old", pieces=["kettle one"] * 8)
    await reader.list_knowledge(doc_id="kettles")
    monkeypatch.setattr("app.drivers.weaviate.database._AT_ONCE", 3)
    part_read, put_made = asyncio.Event(), asyncio.Event()
    reading: asyncio.Task[list[Knowledge]] | None = None
    batches = searches = 0

    async def held(call: str) -> Response | None:
        nonlocal reading, batches, searches
        if call == "BatchObjects":
            batches += 1
            if batches == 4:  # a mark and six of the records are there
                recall = reader.recall_global_knowledge("kettle", category="new", top_k=100)
                reading = asyncio.create_task(recall)
                await part_read.wait()
        elif call == "Search" and reading is not None:
            searches += 1
            if searches == 2:  # the first was for the records, and this is for the marks
                part_read.set()
                await put_made.wait()
        return None

    server.before = held
    await writer.put_document("kettles", category="new", pieces=["kettle two"] * 8)
    await reader.list_knowledge(doc_id="kettles")  # it knows the mark by now, too late
    put_made.set()
    assert reading is not None
    assert [each.content for each in await reading] == ["kettle two"] * 8
    assert searches > 2


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_put_that_was_not_ended_is_not_seen_and_is_gone_after_an_hour(
    weaviate: WeaviateDriver, server: FakeWeaviate, at: int
) -> None:
    """It fails at its first mark, its records, or the mark that lets it count."""
    first = await weaviate.put_document("kettles", category="c", pieces=["kettle one"])
    refusing(server, "BatchObjects", at)
    with pytest.raises(MemoryServiceError):
        await weaviate.put_document("kettles", category="c", pieces=["kettle two", "kettle three"])
    server.before = None
    assert await everything(weaviate) == {"kettle one"}
    await weaviate.sweeper.sweep()
    assert await everything(weaviate) == {"kettle one"}
    let_pass(weaviate, weaviate.clock.now() + timedelta(hours=2))
    await weaviate.sweeper.sweep()
    assert await everything(weaviate) == {"kettle one"}
    assert len(server.of("Knowledge").objects) == 1
    assert len(server.of("Mark").objects) == 1
    assert await weaviate.get_knowledge(first[0].knowledge_id) == first[0]


async def test_what_a_put_could_not_delete_is_not_seen_and_goes_with_the_next(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    old = await weaviate.put_document("kettles", category="c", pieces=["kettle one", "kettle two"])
    alone = await weaviate.store_global_knowledge("kettle alone", "c", doc_id="kettles")
    refusing(server, "BatchDelete", 1)
    with pytest.raises(MemoryServiceError) as raised:
        await weaviate.put_document("kettles", category="c", pieces=["kettle three"])
    assert raised.value.uncertain
    server.before = None
    assert await everything(weaviate) == {"kettle three"}
    for each in (*old, alone):
        assert await weaviate.get_knowledge(each.knowledge_id) is None
        assert not await weaviate.delete_knowledge(each.knowledge_id)
    await weaviate.put_document("kettles", category="c", pieces=["kettle four"])
    assert len(server.of("Knowledge").objects) == 1


async def test_a_deleted_document_stays_deleted_and_can_be_imported_again(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    pieces = await weaviate.put_document("kettles", category="c", pieces=["kettle a", "kettle b"])
    refusing(server, "BatchDelete", 1)
    with pytest.raises(MemoryServiceError):
        await weaviate.delete_document("kettles")
    server.before = None
    assert await everything(weaviate) == set()
    let_pass(weaviate, weaviate.clock.now() + timedelta(hours=2))
    await weaviate.sweeper.sweep()
    assert await everything(weaviate) == set()
    assert not server.of("Knowledge").objects
    assert not server.of("Mark").objects
    await weaviate.import_records(pieces)
    assert await listed(weaviate) == ["kettle a", "kettle b"]
    assert await weaviate.delete_document("kettles") == 2
    await weaviate.import_records(pieces)  # also while the delete is remembered
    assert await listed(weaviate) == ["kettle a", "kettle b"]
    let_pass(weaviate, weaviate.clock.now() + timedelta(hours=2))
    await weaviate.sweeper.sweep()
    assert await listed(weaviate) == ["kettle a", "kettle b"]


async def test_an_earlier_put_that_comes_later_changes_nothing(weaviate: WeaviateDriver) -> None:
    earlier = weaviate.clock.end_of_now()
    later = await weaviate.put_document("kettles", category="c", pieces=["later"])
    records = [replace(later[0], content="earlier")]
    put = Put(doc_id="kettles", records=records).at(earlier)
    for _ in range(2):
        assert await weaviate._put(put) == (put.records, 0)
        assert await listed(weaviate) == ["later"]


async def test_metadata_of_a_user_that_looks_like_a_document_hides_nothing(
    weaviate: WeaviateDriver,
) -> None:
    stored = [
        await weaviate.store("ada", f"kettle {n}", metadata={"doc_id": "d", "position": n})
        for n in range(3)
    ]
    assert await weaviate.recall("ada") == stored[::-1]
    for use_vector in (True, False):
        assert len(await weaviate.recall("ada", query="kettle", use_vector=use_vector)) == 3
    assert await weaviate.get(stored[1].memory_id, "ada") == stored[1]
    assert await weaviate.delete(stored[1].memory_id, "ada")


async def test_no_name_of_a_user_without_memories_is_left(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    marks = server.of("Mark").objects
    one = await weaviate.store("ada", "kettle")
    two = await weaviate.store("ada", "another kettle")
    await weaviate.store("bob", "kettle")
    assert await weaviate.delete(one.memory_id, "ada")
    assert len(marks) == 2
    assert await weaviate.delete(two.memory_id)
    assert len(marks) == 1
    assert await weaviate.delete_user("bob") == 1
    assert not marks
    assert (await weaviate.list_users()).users == []


async def test_a_delete_that_was_made_is_told_although_the_name_of_the_user_stays(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    stored = await weaviate.store("ada", "kettle")
    refusing(server, "Aggregate", 1)
    assert await weaviate.delete(stored.memory_id, "ada")
    server.before = None
    assert len(server.of("Mark").objects) == 1
    assert (await weaviate.list_users()).users == []
    assert not server.of("Mark").objects


async def test_the_name_of_a_user_whose_memories_expired_goes_with_them(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    await weaviate.store("ada", "kettle", ttl=10.0)
    await weaviate.store("bob", "kettle", ttl=10.0)
    await weaviate.store("bob", "another kettle")
    let_pass(weaviate, weaviate.clock.now() + timedelta(seconds=11))
    assert [each.user_id for each in (await weaviate.list_users()).users] == ["bob"]
    await weaviate.sweeper.sweep()
    assert len(server.of("Mark").objects) == 1
    assert [each.user_id for each in (await weaviate.list_users()).users] == ["bob"]


async def test_a_user_who_stores_while_the_last_memory_goes_is_listed(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    """Another service stores between the count of what is left and the delete of the name."""
    first = await weaviate.store("ada", "kettle")
    other = {one.uuid: one for one in server.of("Memory").objects.values()}

    async def store_between(call: str) -> Response | None:
        if call == "Aggregate":
            server.before = after_count
        return None

    async def after_count(call: str) -> Response | None:
        if call == "BatchDelete":
            server.of("Memory").objects |= other
        return None

    server.before = store_between
    assert await weaviate.delete(first.memory_id, "ada")
    server.before = None
    assert [each.user_id for each in (await weaviate.list_users()).users] == ["ada"]


async def test_what_expired_is_deleted_with_its_windows_and_counted(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    await weaviate.store("ada", "kettle", ttl=10.0)
    changed = await weaviate.store("ada", "kettle", ttl=10.0)
    await weaviate.update(changed.memory_id, "ada", {"content": "a changed kettle"})
    await weaviate.store_global_knowledge(LONG, "kitchen", ttl=10.0)
    kept = await weaviate.store("ada", "for ever")
    assert len(server.of("Knowledge").objects) > 2
    assert await weaviate.sweeper.sweep() == 0
    let_pass(weaviate, weaviate.clock.now() + timedelta(seconds=11))
    assert await weaviate.recall("ada") == [kept]
    assert await weaviate.recall_global_knowledge("kettle") == []
    assert await weaviate.sweeper.sweep() == 2
    assert not server.of("Knowledge").objects
    assert len(server.of("Memory").objects) == 2
    let_pass(weaviate, weaviate.clock.now() + OLDER_VERSIONS)
    assert await weaviate.sweeper.sweep() == 1
    assert len(server.of("Memory").objects) == 1


async def test_a_shorter_version_leaves_no_window_of_the_longer(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    knowledge = await weaviate.store_global_knowledge(LONG, "kitchen")
    assert (await weaviate.recall_global_knowledge("kettle of copper"))[0].content == LONG
    await weaviate.update_knowledge(knowledge.knowledge_id, {"content": "The night train."})
    assert len(server.of("Knowledge").objects) == 1
    await weaviate.update_knowledge(knowledge.knowledge_id, {"content": LONG})
    windows = len(server.of("Knowledge").objects)
    assert windows > 2
    await weaviate.update_knowledge(knowledge.knowledge_id, {"category": "garden"})
    assert len(server.of("Knowledge").objects) == windows
    found = await weaviate.recall_global_knowledge("kettle of copper", category="garden")
    assert [each.content for each in found] == [LONG]
    assert await weaviate.delete_knowledge(knowledge.knowledge_id)
    assert not server.of("Knowledge").objects


async def test_a_record_that_somebody_put_under_another_users_hash_is_not_shown(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    await weaviate.store("ada", "of ada")
    await weaviate.store("bob", "of bob")
    ada, bob = server.of("Memory").objects.values()
    ada.values["record"] = bob.values["record"]
    with capture_logs() as logs:
        calls: list[Any] = [
            weaviate.recall("ada"),
            weaviate.recall("ada", query="of bob"),
            weaviate.recall("ada", query="bob", use_vector=False),
        ]
        for call in calls:
            assert await call == []
        assert (await weaviate.list_memories("ada")).memories == []
        assert await weaviate.get(str(ada.values["key"]), "ada") is None
    assert {entry["event"] for entry in logs} == {"another_users_record"}
    assert "bob" not in str(logs)
