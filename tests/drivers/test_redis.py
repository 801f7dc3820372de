"""What is peculiar to the redis driver: on a real server, whatever happens to it."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
import redis

from app.core.memory.records import NewKnowledge, NewMemory
from app.drivers.redis import RedisDriver
from app.embedding import Embedder, Vector
from app.errors import (
    ConfigurationError,
    DatabaseChanged,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    NotPermitted,
    PoolExhausted,
)
from app.settings import RecallSettings
from tests.drivers.search_server import OpenRedis, open_redis, search
from tests.redis_server import RedisServer

__all__ = ["open_redis", "search"]


async def contents(driver: RedisDriver, user_id: str) -> set[str]:
    return {memory.content for memory in await driver.recall(user_id, top_k=100)}


async def until_healthy(driver: RedisDriver) -> None:
    """Wait for the state `ok`: a Redis that was started again looks through its knowledge."""
    async with asyncio.timeout(20):
        while (await driver.health_check()).status != "ok":
            await asyncio.sleep(0.02)


class Vectors(Embedder):
    """Gives the same vector for every text, whatever it is."""

    def __init__(self, vector: Vector, dimension: int = 8) -> None:
        self.name, self.dimension, self.max_tokens = "made", dimension, 8
        self.vector = vector

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return self.vector

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.stack([self.vector] * len(texts))


GOOD = np.full(8, 8**-0.5, np.float32)
ZERO = np.zeros(8, np.float32)


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD[:7],
        np.append(GOOD, np.float32(0)),
        ZERO,
        np.where(np.arange(8) == 3, np.float32("nan"), GOOD),
        np.where(np.arange(8) == 3, np.float32("inf"), GOOD),
    ],
    ids=["short", "long", "zero", "nan", "infinite"],
)
async def test_a_vector_that_redis_would_lose_never_reaches_it(
    open_redis: OpenRedis, search: RedisServer, wrong: Vector
) -> None:
    embedder = Vectors(GOOD)
    driver = await open_redis(instead=embedder)
    embedder.vector = wrong
    with pytest.raises(DriverError):
        await driver.store("ada", "kettle")
    with pytest.raises(DriverError):
        await driver.store_knowledge_many([NewKnowledge(content="kettle", category="c")])
    with pytest.raises(DriverError):
        await driver.recall_global_knowledge("kettle")
    with search.client() as client:
        assert [key for key in client.scan_iter("*") if not key.endswith(b":meta")] == []


async def test_another_model_is_refused_and_the_same_under_another_name_is_not(
    open_redis: OpenRedis,
) -> None:
    await open_redis(instead=Vectors(GOOD))
    same = Vectors(GOOD)
    same.name = "renamed"
    await open_redis(instead=same)
    other = Vectors(np.where(np.arange(8) % 2, GOOD, -GOOD).astype(np.float32))
    with pytest.raises(ConfigurationError, match=r"^MEMORY_EMBEDDING_MODEL: 'made' \(8 dim"):
        await open_redis(instead=other)
    wider = Vectors(np.full(16, 0.25, np.float32), 16)
    with pytest.raises(ConfigurationError, match="8 dimensions"):
        await open_redis(instead=wider)
    await open_redis(instead=wider, namespace="another")


async def test_words_of_another_language_are_refused_once_there_are_some(
    open_redis: OpenRedis,
) -> None:
    await open_redis()
    german = RecallSettings(language="german")
    driver = await open_redis(recall=german)
    await driver.store("ada", "Kessel")
    with pytest.raises(ConfigurationError, match=r"^MEMORY_RECALL_LANGUAGE: .* german"):
        await open_redis()
    assert await contents(await open_redis(recall=german), "ada") == {"Kessel"}


async def test_namespaces_share_a_server_and_nothing_else(open_redis: OpenRedis) -> None:
    one, other = await open_redis(), await open_redis(namespace="memory.2")
    again = await open_redis()
    await one.store("ada", "kettle")
    await one.store_global_knowledge("copper", "metals")
    assert await contents(other, "ada") == set()
    assert await other.recall_global_knowledge("copper") == []
    assert one.identity() == again.identity() != other.identity()


async def test_a_server_that_was_emptied_is_opened_anew(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis()
    await driver.store("ada", "kettle")
    await driver.store_global_knowledge("copper", "metals")
    before = driver.identity()
    with search.client() as client:
        client.flushall()
    with pytest.raises(DatabaseChanged):
        await driver.store("ada", "basil")
    await driver.store("ada", "basil")
    await driver.store_global_knowledge("tin", "metals")
    assert await contents(driver, "ada") == {"basil"}
    assert [k.content for k in await driver.recall_global_knowledge("copper")] == ["tin"]
    assert driver.identity() != before


async def test_an_index_that_was_dropped_is_made_anew_with_what_is_there(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis()
    batch = [NewKnowledge(content=f"kettle {n}", category="c") for n in range(300)]
    await driver.store_knowledge_many(batch)
    with search.client() as client:
        client.execute_command("FT.DROPINDEX", "{memory}:index:1")
    with pytest.raises(DatabaseChanged):
        await driver.recall_global_knowledge("kettle")
    assert len(await driver.recall_global_knowledge("kettle", top_k=100)) == 100
    assert (await driver.health_check()).status == "ok"


async def test_nothing_acknowledged_is_lost_by_a_sigkill(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    """Stores, updates and deletes by eight writers, a server that dies under them, and is back."""
    driver = await open_redis()
    kept: dict[str, str] = {}
    deleted: set[str] = set()
    unsure: set[str] = set()

    async def write(writer: int) -> None:
        for n in range(1_000):
            what = f"{writer} {n}"
            try:
                memory = await driver.store("ada", what)
                kept[memory.memory_id] = what
                if n % 3 == 1:
                    unsure.add(memory.memory_id)
                    await driver.update(memory.memory_id, "ada", {"content": f"{what} again"})
                    kept[memory.memory_id] = f"{what} again"
                    unsure.discard(memory.memory_id)
                elif n % 3 == 2:
                    unsure.add(memory.memory_id)
                    assert await driver.delete(memory.memory_id, "ada")
                    deleted.add(memory.memory_id)
                    unsure.discard(memory.memory_id)
            except DriverUnavailable:
                return

    writers = [asyncio.create_task(write(n)) for n in range(8)]
    while len(kept) < 60:
        await asyncio.sleep(0.01)
    search.kill()
    await asyncio.gather(*writers)
    search.start()
    found = {m.memory_id: m.content async for m in driver.export_records() if m.user_id == "ada"}  # type: ignore[union-attr]  # memories alone were stored
    sure = {one: what for one, what in kept.items() if one not in deleted | unsure}
    assert sure.items() <= found.items()
    assert not deleted & found.keys()
    assert {m.memory_id for m in await driver.recall("ada", query="again", top_k=100)}
    await until_healthy(driver)


async def test_a_dead_server_is_unavailable_and_found_again(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis()
    await driver.store("ada", "kettle")
    search.kill()
    with pytest.raises(DriverUnavailable) as raised:
        await driver.store("ada", "lost")
    assert not raised.value.uncertain
    assert (await driver.health_check()).status == "unavailable"
    search.start()
    assert await contents(driver, "ada") == {"kettle"}
    await until_healthy(driver)


async def test_a_frozen_server_costs_the_time_limit_and_no_connection(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis(timeout=0.3, pool_size=1)
    await driver.store("ada", "kettle")
    search.freeze()
    try:
        with pytest.raises(DriverTimeout) as raised:
            await driver.store("ada", "late")
        assert raised.value.uncertain
        slow = asyncio.create_task(driver.get_knowledge("0190a9a0-0000-7000-8000-000000000001"))
        await asyncio.sleep(0)
        with pytest.raises(PoolExhausted):
            await asyncio.gather(
                *(driver.list_memories("ada") for _ in range(3)), return_exceptions=False
            )
        with pytest.raises((DriverTimeout, DriverUnavailable)):
            await slow
    finally:
        search.thaw()
    assert await contents(driver, "ada") >= {"kettle"}


async def test_a_full_pool_is_busy_and_not_lost(
    open_redis: OpenRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await open_redis(pool_size=1)
    await driver.store("ada", "kettle")
    monkeypatch.setattr("app.drivers.redis.driver._HEALTH_SECONDS", 0.0)
    calls = [asyncio.create_task(driver.recall("ada")) for _ in range(20)]
    await asyncio.sleep(0)
    busy = await driver.health_check()
    await asyncio.gather(*calls)
    assert (busy.status, busy.detail) == ("degraded", PoolExhausted().detail)
    assert (await driver.health_check()).status == "unavailable"  # in no time there is no answer


async def test_cancelled_calls_leave_no_answer_behind(open_redis: OpenRedis) -> None:
    """What one user's call did not read is never another's answer."""
    driver = await open_redis(pool_size=2)
    users = [f"user {n}" for n in range(20)]
    await driver.store_many([NewMemory(user_id=user, content=user) for user in users])
    for n in range(300):
        calls = [asyncio.create_task(driver.recall(user)) for user in users[:4]]
        for _ in range(n % 12):
            await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        for user, answer in zip(users, done, strict=False):
            if not isinstance(answer, asyncio.CancelledError):
                assert not isinstance(answer, BaseException)
                assert {memory.user_id for memory in answer} == {user}
    for user in users:
        assert await contents(driver, user) == {user}


async def test_a_search_that_runs_out_of_time_is_an_error_and_never_a_short_answer(
    open_redis: OpenRedis, search: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await open_redis()
    batch = [NewKnowledge(content=f"kettle {n}", category="c") for n in range(50)]
    await driver.store_knowledge_many(batch)
    with search.client() as client:
        many = client.pipeline(transaction=False)
        blob = np.random.default_rng(7).standard_normal(384).astype("<f4").tobytes()
        for n in range(30_000):
            one = f"{{memory}}:i:{n:032x}:0"
            many.hset(one, mapping={"k": "1", "c": "other", "d": "-", "x": "9" * 12, "v": blob})
        many.execute()

        async def ask() -> None:
            for _ in range(20):
                assert len(await driver.recall_global_knowledge("kettle", top_k=50)) == 50

        await ask()
        monkeypatch.setattr("app.drivers.redis.index.SEARCH_SHARE", 0.0001)  # 1 ms
        for policy in ("RETURN", "FAIL"):
            client.execute_command("FT.CONFIG", "SET", "ON_TIMEOUT", policy)
            with pytest.raises(DriverTimeout):
                await ask()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"), "maxmemory-policy is allkeys-lru"),
        (("CONFIG", "SET", "appendonly", "no"), "append-only file is off"),
        (("HSET", "{memory}:i:00:0", "k", "1", "v", "short"), "could not index"),
        (("DEL", "{memory}:i:{id}:0"), "the index has 0 windows of knowledge, and there are 1"),
        (("REPLICAOF", "127.0.0.1", "1"), "it is a replica"),
    ],
    ids=["eviction", "persistence", "failures", "behind", "replica"],
)
async def test_health_is_degraded_and_tells_why(
    open_redis: OpenRedis, search: RedisServer, change: tuple[str, ...], reason: str
) -> None:
    driver = await open_redis()
    knowledge = await driver.store_global_knowledge("copper", "metals")
    assert (await driver.health_check()).status == "ok"
    one = knowledge.knowledge_id.replace("-", "")
    with search.client() as client:
        client.execute_command(*(part.replace("{id}", one) for part in change))
    health = await driver.health_check()
    assert health.status == "degraded"
    assert reason in (health.detail or "")


async def test_a_full_server_refuses_a_batch_as_a_whole_and_deletes_still(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis()
    memory = await driver.store("ada", "kettle")
    with search.client() as client:
        client.config_set("maxmemory", "1mb")
    with pytest.raises(NotPermitted):
        await driver.store_many([NewMemory(user_id="ada", content=str(n)) for n in range(50)])
    with pytest.raises(NotPermitted):
        await driver.store_global_knowledge("copper", "metals")
    assert await contents(driver, "ada") == {"kettle"}
    assert await driver.delete(memory.memory_id, "ada")
    assert await contents(driver, "ada") == set()


async def test_a_password_and_an_account_without_administration_are_enough(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    with search.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", "memory", "on", ">p@ss/word", "~{memory}:*", "~{memory}"),
            *("+@all", "-@admin", "-@dangerous", "+info", "+ft.info", "-ft.config"),
        )
    url = f"unix://memory:p%40ss%2Fword@{search.socket}"
    driver = await open_redis(url=url)
    await driver.store("ada", "kettle")
    await driver.store_global_knowledge("copper", "metals")
    assert await contents(driver, "ada") == {"kettle"}
    assert len(await driver.recall_global_knowledge("copper")) == 1
    health = await driver.health_check()
    assert health.status == "degraded"
    assert "ON_TIMEOUT is not FAIL" in (health.detail or "")
    with pytest.raises(DriverUnavailable) as raised:
        await open_redis(url=url.replace("word", "hunter2"))
    assert raised.value.reason == "AuthenticationError"


async def test_a_redis_without_the_query_engine_is_told(
    embedder: Embedder, open_redis: OpenRedis
) -> None:
    from tests.redis_server import running

    with running() as plain, pytest.raises(ConfigurationError, match="has no query engine"):
        await open_redis(url=plain.url)


async def test_another_database_than_0_is_refused(open_redis: OpenRedis) -> None:
    with pytest.raises(ConfigurationError, match=r"^REDIS_URL: must lead to database 0"):
        await open_redis(url="redis://localhost/3")


async def test_the_newest_of_many_equal_texts_are_found(open_redis: OpenRedis) -> None:
    """A search that is cut keeps the oldest of equal distances."""
    driver = await open_redis()
    batch = [NewKnowledge(content="copper", category="c", metadata={"n": n}) for n in range(60)]
    stored = await driver.store_knowledge_many(batch)
    found = await driver.recall_global_knowledge("copper", top_k=7)
    assert [k.knowledge_id for k in found] == [k.knowledge_id for k in reversed(stored)][:7]
    found = await driver.recall_global_knowledge("copper", 3, filter={"metadata": {"n": {"lt": 5}}})
    assert [k.metadata["n"] for k in found] == [4, 3, 2]


async def test_what_expired_is_swept_from_every_key(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis()
    await driver.store("ada", "kettle", "c", ttl=0.001)
    await driver.store_global_knowledge("copper", "metals", doc_id="d", ttl=0.001)
    await asyncio.sleep(0.01)
    assert await contents(driver, "ada") == set()
    assert await driver.sweeper.sweep() == 2
    assert await driver.sweeper.sweep() == 0
    with search.client() as client:
        assert [*client.scan_iter("*")] == [b"{memory}:meta"]


async def test_deleting_leaves_no_key(open_redis: OpenRedis, search: RedisServer) -> None:
    driver = await open_redis()
    long = "a copper kettle on the windowsill " * 200
    first = [await driver.store(user, long, "c", ["t"]) for user in ("ada", "bob")]
    await driver.update(first[0].memory_id, "ada", {"conversation_id": "d"})
    knowledge = await driver.store_global_knowledge(long, "metals", doc_id="d")
    await driver.update_knowledge(knowledge.knowledge_id, {"category": "tools"})
    assert await driver.delete(first[0].memory_id)
    assert await driver.delete_user("bob") == 1
    assert await driver.delete_knowledge(knowledge.knowledge_id)
    with search.client() as client:
        assert [*client.scan_iter("*")] == [b"{memory}:meta"]
        assert client.hget("{memory}:meta", "windows") == b"0"


HOSTILE = ["a", "a,b", " a", "a ", "a|b", "*", "a*", "{a}", "A", "é", "e\u0301", "a" * 4_096]


async def test_hostile_categories_conversations_and_tags_are_themselves_alone(
    open_redis: OpenRedis,
) -> None:
    driver = await open_redis()
    for name in (each[:256] for each in HOSTILE):
        await driver.store(name, "kettle", name[:100], [name[:60]])
        await driver.store_global_knowledge("copper", name[:100], doc_id=name[:100])
    for name in (each[:256] for each in HOSTILE):
        [memory] = await driver.recall(name, name[:100], "kettle")
        assert (memory.user_id, memory.conversation_id) == (name, name[:100])
        [knowledge] = await driver.recall_global_knowledge("copper", category=name[:100])
        assert knowledge.category == name[:100]
        [knowledge] = await driver.recall_global_knowledge("copper", doc_id=name[:100])
        assert knowledge.doc_id == name[:100]


async def test_two_users_have_memories_of_one_id(open_redis: OpenRedis) -> None:
    from dataclasses import replace

    driver = await open_redis()
    ada = await driver.store("ada", "kettle")
    await driver.import_records([replace(ada, user_id="bob", content="basil")])
    assert await driver.owner_of(ada.memory_id) in {"ada", "bob"}
    assert await driver.delete(ada.memory_id, "ada")
    assert await driver.owner_of(ada.memory_id) == "bob"
    assert await contents(driver, "bob") == {"basil"}


def test_the_server_is_the_one_that_searches(search: RedisServer) -> None:
    with search.client() as client:
        assert isinstance(client, redis.Redis)
        assert client.info("server")["redis_version"].startswith("8.")
