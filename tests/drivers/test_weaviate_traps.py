"""Where Weaviate is not as one would think: each test fails for a driver that has not thought."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.core.memory.records import NewMemory
from app.drivers.weaviate import WeaviateDriver
from app.drivers.weaviate.answers import rows_in
from app.errors import ConfigurationError, InvalidInput, NotPermitted
from tests.conformance.cases import WAYS
from tests.drivers.weaviate_drivers import OpenWeaviate, open_weaviate, server, weaviate
from tests.drivers.weaviate_fake import FakeWeaviate

__all__ = ["open_weaviate", "server", "weaviate"]


async def test_every_text_is_compared_as_a_whole(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    """By default Weaviate takes a text apart, and finds it by a word of it in any case."""
    for collection in server.collections.values():
        for each in collection.definition["properties"]:
            assert each["dataType"] == ["number"] or each["tokenization"] == "field"
        assert collection.definition["invertedIndexConfig"]["stopwords"]["preset"] == "none"
        assert collection.definition["vectorizer"] == "none"
        assert not collection.definition["multiTenancyConfig"]["enabled"]


async def test_nothing_of_a_caller_is_compared_but_its_hash(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    """Weaviate trims what it compares, and folds the case of what it sorts."""
    for user in ("ada", " ada", "ada\u00a0", "Ada", "ADA", "erp_system", "erp"):
        await weaviate.store(user, f"of {user!r}", conversation_id=f" {user}", tags=[user])
    for user in ("ada", " ada", "ada\u00a0", "Ada", "ADA", "erp_system", "erp"):
        for arguments in WAYS:
            found = await weaviate.recall(user, f" {user}", **{**arguments, "top_k": 9})
            assert {memory.user_id for memory in found} <= {user}
        assert len(await weaviate.recall(user)) == 1
    users = [each.user_id for each in (await weaviate.list_users()).users]
    assert users == sorted(users)
    assert len(users) == 7


HOSTILE = [
    *("a,b", "a", "a|b", "a b", " a", "a ", "\ta", "a\n", "\u2003a", "a\u3000", "\ufeffa", "A"),
    *("é", "e\u0301", "ﬁ", "fi", "Å", "\u212b", "ß", "SS", "a\u200b", "\u202ea", "a*", "a?"),
    *("the", "not", "AND", '{"a":1}', "a\\", "k", "user", "🦊" * 256, "🦊" * 255 + "🐺"),
]
"""The last two are 1,024 bytes, as long as an id may be; the owner of knowledge is called `k`."""


async def test_hostile_ids_of_users_and_documents_are_apart(weaviate: WeaviateDriver) -> None:
    for user in HOSTILE:
        await weaviate.store(user, f"of {user}", conversation_id=user, tags=[user[:9]])
        await weaviate.store_global_knowledge(f"of {user}", user[:128], doc_id=user)
    for user in HOSTILE:
        for arguments in WAYS:
            arguments = {**arguments, "top_k": 100}
            if arguments.get("use_vector") is False:
                arguments["query"] = "of"
            found = await weaviate.recall(user, user, **arguments)
            assert {memory.user_id for memory in found} <= {user}
        assert [memory.content for memory in await weaviate.recall(user)] == [f"of {user}"]
        assert len((await weaviate.list_knowledge(doc_id=user)).knowledge) == 1
    page = await weaviate.list_users(limit=100)
    assert [each.user_id for each in page.users] == sorted(HOSTILE)
    for user in HOSTILE:
        assert await weaviate.delete_user(user) == 1
        assert await weaviate.delete_document(user) == 1
    for user in ("a\x00", "x" * 257, ""):
        with pytest.raises(InvalidInput):
            await weaviate.store(user, "kettle")


@pytest.mark.parametrize("tells_one", [True, False])
async def test_a_batch_on_a_read_only_shard_is_not_stored_whatever_is_said(
    weaviate: WeaviateDriver, server: FakeWeaviate, *, tells_one: bool
) -> None:
    """An older Weaviate tells of one error and of as many successes, and has stored nothing."""
    await weaviate.store("ada", "before")
    server.is_read_only, server.tells_one_of_many = True, tells_one
    with pytest.raises(NotPermitted):
        await weaviate.store_many([NewMemory(user_id="ada", content=f"{n}") for n in range(5)])
    health = await weaviate.health_check()
    assert health.status == "degraded"
    assert "read-only" in (health.detail or "")
    server.is_read_only = False
    assert [memory.content for memory in await weaviate.recall("ada")] == ["before"]
    assert (await weaviate.health_check()).status == "ok"


async def test_a_delete_on_a_read_only_shard_is_no_delete(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    stored = await weaviate.store("ada", "kettle")
    server.is_read_only = True
    with pytest.raises(NotPermitted):
        await weaviate.delete(stored.memory_id, "ada")
    with pytest.raises(NotPermitted):
        await weaviate.delete_user("ada")
    server.is_read_only = False
    assert await weaviate.recall("ada") == [stored]


async def test_what_is_too_old_is_refused(
    weaviate: WeaviateDriver, open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    for version in ("1.38.9", "1.38.2", "1.37.12", "0.99.99"):
        server.version = version
        with pytest.raises(ConfigurationError, match=r"WEAVIATE_URL.*1\.38\.10"):
            await open_weaviate()
    for version in ("1.38.10", "1.39.0-rc.1", "1.40.2", "2.0.0"):
        server.version = version
        await open_weaviate()


async def test_more_than_weaviate_deletes_at_once_are_deleted_and_counted(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    server.delete_most = 5
    await weaviate.store_many([NewMemory(user_id="ada", content=f"{n}") for n in range(12)])
    kept = await weaviate.store("bob", "kettle")
    assert await weaviate.delete_user("ada") == 12
    assert await weaviate.recall("ada") == []
    assert await weaviate.recall("bob") == [kept]
    pieces = [f"piece {n}" for n in range(12)]
    await weaviate.put_document("kettles", category="kitchen", pieces=pieces)
    assert await weaviate.delete_document("kettles") == 12
    assert not server.of("Knowledge").objects


async def test_a_copy_that_is_behind_hides_no_write(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    """A search asks one copy: only a write that all of them have is found by the next."""
    driver = await open_weaviate(replicas=3)
    server.lags = True
    stored = await driver.store("ada", "a copper kettle")
    assert await driver.recall("ada") == [stored]
    changed = await driver.update(stored.memory_id, "ada", {"content": "an iron kettle"})
    assert await driver.recall("ada") == [changed]
    assert await driver.delete(stored.memory_id, "ada")
    assert await driver.recall("ada") == []
    assert await driver.list_users() == await driver.list_users()
    assert (await driver.list_users()).users == []


async def test_what_was_deleted_does_not_come_back_from_a_copy(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    driver = await open_weaviate(replicas=3)
    stored = await driver.store("ada", "a copper kettle")
    await driver.delete(stored.memory_id, "ada")
    for collection in server.collections.values():
        collection.resurrect()
    assert await driver.recall("ada") == []


async def test_copies_that_may_bring_deleted_records_back_are_told(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    await open_weaviate(replicas=3)
    copying = server.of("Memory").definition["replicationConfig"]
    copying["deletionStrategy"] = "NoAutomatedResolution"
    health = await (await open_weaviate(replicas=3)).health_check()
    assert health.status == "degraded"
    assert "deletionStrategy" in (health.detail or "")


async def test_vectors_that_are_indexed_later_hide_no_memory_and_are_told(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    server.indexes_later = True
    memory = await weaviate.store("ada", "a copper kettle")
    knowledge = await weaviate.store_global_knowledge("Descale it.", "kitchen")
    for arguments in WAYS:
        found = await weaviate.recall("ada", **arguments)
        assert [each.memory_id for each in found] == [memory.memory_id]
    assert (await weaviate.list_knowledge()).knowledge == [knowledge]
    health = await weaviate.health_check()
    assert health.status == "degraded"
    assert "ASYNC_INDEXING" in (health.detail or "")
    server.settle()
    assert len(await weaviate.recall_global_knowledge("descale")) == 1
    assert (await weaviate.health_check()).status == "ok"


async def test_a_search_is_exact_as_it_has_a_filter(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    """Without a filter Weaviate asks its graph, which may miss the nearest."""
    server.drops_a_hit = True
    for n in range(5):
        await weaviate.store_global_knowledge(f"Kettle number {n}.", "kitchen")
    found = await weaviate.recall_global_knowledge("Kettle number 3.", top_k=1)
    assert [each.content for each in found] == ["Kettle number 3."]


async def test_an_index_that_misses_the_nearest_hides_no_memory(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    server.drops_a_hit = True
    for collection in server.collections.values():
        collection.definition["vectorIndexConfig"]["flatSearchCutoff"] = 1
    for n in range(5):
        await weaviate.store("ada", f"Kettle number {n}.")
    found = await weaviate.recall("ada", query="Kettle number 3.", top_k=1)
    assert [each.content for each in found] == ["Kettle number 3."]


async def test_more_than_a_search_gives_are_all_read(
    weaviate: WeaviateDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weaviate gives 10,000 objects, wherever a page begins; here it gives 10."""
    for name in ("app.drivers.weaviate.bodies", "app.drivers.weaviate.reading"):
        monkeypatch.setattr(f"{name}.MOST", 10)
    monkeypatch.setattr("tests.drivers.weaviate_store.MOST", 10)
    monkeypatch.setattr("app.drivers.weaviate.reading._MANY", 4)
    monkeypatch.setattr("app.drivers.weaviate.database._IDS_AT_ONCE", 10)
    start = datetime(2026, 5, 1, tzinfo=UTC)
    # Half of them at one moment, which no number tells apart.
    moments = [start + timedelta(days=n % 2 * n) for n in range(36)]
    batch = [
        NewMemory(user_id="ada", content=f"kettle {n}", occurred_at=moment)
        for n, moment in enumerate(moments)
    ]
    stored = await weaviate.store_many(batch)
    expected = sorted(stored, key=lambda m: (m.occurred_at, m.memory_id), reverse=True)
    assert await weaviate.recall("ada", top_k=100) == expected
    for n in (0, 7, 35):
        found = await weaviate.recall("ada", query=f"kettle {n}", top_k=1)
        assert [memory.content for memory in found] == [f"kettle {n}"]
    assert len(await weaviate.recall("ada", query="kettle", use_vector=False, top_k=100)) == 36
    seen, cursor = [], None
    while True:
        page = await weaviate.list_memories("ada", limit=4, cursor=cursor)
        seen += page.memories
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == expected
    exported = [record async for record in weaviate.export_records()]
    assert sorted(exported, key=lambda m: m.created_at) != []
    assert len(exported) == 36
    assert await weaviate.delete_user("ada") == 36


async def test_ids_and_moments_are_exact_where_weaviates_numbers_are_not(
    weaviate: WeaviateDriver,
) -> None:
    """Its numbers are floats: 2^53 + 1 is 2^53 there."""
    moments = [
        datetime(1, 1, 4, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1, 1, 4, 0, 0, 0, 2, tzinfo=UTC),
        datetime(9999, 12, 29, 0, 0, 0, 999_998, tzinfo=UTC),
        datetime(9999, 12, 29, 0, 0, 0, 999_999, tzinfo=UTC),
    ]
    metadata = {"n": 2**53 + 1}
    stored = [
        await weaviate.store("ada", f"{n}", metadata=metadata, occurred_at=moment)
        for n, moment in enumerate(moments)
    ]
    assert await weaviate.recall("ada") == stored[::-1]


async def test_a_zero_that_only_stands_for_nothing_is_no_distance() -> None:
    metadata = {"id": "x", "distance": 0.0, "distancePresent": False}
    assert rows_in({"results": [{"metadata": metadata}]})[0].distance is None
    metadata["distancePresent"] = True
    assert rows_in({"results": [{"metadata": metadata}]})[0].distance == 0


async def test_collections_are_made_before_anything_is_written(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    """Weaviate makes a collection of whatever is written, and takes its texts apart."""
    made = {name: each.definition for name, each in server.collections.items()}
    known = {name: len(each["properties"]) for name, each in made.items()}
    await weaviate.store("ada", "kettle", "c", metadata={"doc_id": "d"}, ttl=60.0)
    await weaviate.store_global_knowledge("kettle", "kitchen", doc_id="d", ttl=60.0)
    await weaviate.put_document("kettles", category="kitchen", pieces=["a"])
    assert {name: len(each.properties) for name, each in server.collections.items()} == known


async def test_collections_that_are_gone_are_not_made_of_what_is_written(
    weaviate: WeaviateDriver, server: FakeWeaviate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drivers.weaviate.database._CHECKED_SECONDS", 0.0)
    identity = weaviate.identity()
    await weaviate.store("ada", "kettle")
    server.collections.clear()
    with pytest.raises(Exception, match="not as it was"):
        await weaviate.store("ada", "another")
    assert not server.collections
    stored = await weaviate.store("ada", "a third")  # it is opened anew
    assert await weaviate.recall("ada") == [stored]
    assert weaviate.identity() != identity


async def test_writes_at_once_look_at_the_collections_once(
    weaviate: WeaviateDriver, server: FakeWeaviate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drivers.weaviate.database._CHECKED_SECONDS", 0.0)
    texts = [f"kettle {n}" for n in range(12)]
    await asyncio.gather(*(weaviate.store("ada", text) for text in texts))
    looks = sum(call == "GET /v1/schema/MdsMemory" for call in server.calls)
    assert 1 <= looks < 12
    assert len(await weaviate.recall("ada", top_k=20)) == 12


async def test_two_that_open_at_once_have_the_same_collections(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    drivers = await asyncio.gather(*(open_weaviate() for _ in range(4)))
    assert len({driver.identity() for driver in drivers}) == 1
    assert len(server.collections) == 3
