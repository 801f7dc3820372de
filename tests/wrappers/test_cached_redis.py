"""Redis shared, gone, frozen, restored and back."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import redis.exceptions
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.core.memory.base import DriverContext
from app.embedding.base import Embedder, SharedVectors, Vector
from app.embedding.query_cache import QueryCache
from app.errors import ConfigurationError
from app.logs import get_logger
from app.settings import CacheSettings, DatabaseSettings, Limits, NamedDriver, Settings
from app.wrappers.cache.identity import configured
from app.wrappers.cache.redis import _ERRORS
from app.wrappers.cached import CachedDriver, new_store
from tests.redis_server import RedisServer, running
from tests.wrappers.backend import Backend
from tests.wrappers.conftest import NewCached
from tests.wrappers.flaky import OneVector
from tests.wrappers.test_cached import was_cached

SECRET = "hunter2"  # noqa: S105


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The events that are logged."""
    # A logger that was used before may be bound to how logs were configured then.
    fresh = get_logger("app.reachability")
    monkeypatch.setattr("app.reachability._log", fresh)
    with capture_logs() as events:
        yield events


async def until(true: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.02)


async def healthy(driver: CachedDriver) -> bool:
    return (await driver.health_check()).status == "ok"


async def contents(driver: CachedDriver, user_id: str = "ada") -> set[str]:
    return {memory.content for memory in await driver.recall(user_id, top_k=100)}


async def test_replicas_share_answers_and_see_each_others_writes(
    cached_in_redis: NewCached, backend: Backend
) -> None:
    one, two = cached_in_redis(), cached_in_redis()
    stored = await one.store("ada", "kettle")
    await one.recall("ada")
    assert was_cached(await two.recall("ada"))
    assert backend.asked == 1
    await two.store("ada", "teapot")
    assert await contents(one) == {"kettle", "teapot"}
    assert await contents(two) == {"kettle", "teapot"}
    await one.delete(stored.memory_id)
    assert await contents(two) == {"teapot"}


async def test_killed_redis_is_done_without_and_found_again(
    cached_in_redis: NewCached, redis: RedisServer, logs: list[Any]
) -> None:
    driver = cached_in_redis()
    await driver.store("ada", "one")
    await driver.recall("ada")
    assert was_cached(await driver.recall("ada"))
    redis.kill()
    for n in range(5):
        await driver.store("ada", f"without {n}")
        found = await driver.recall("ada")
        assert len(found) == 2 + n
        assert not was_cached(found)
    health = await driver.health_check()
    assert (health.status, health.detail) == (
        "degraded",
        "Redis can't be reached: answers are computed",
    )
    assert [event["event"] for event in logs] == ["backend_away"]
    redis.start()
    await until(lambda: healthy(driver))
    assert [event["event"] for event in logs] == ["backend_away", "backend_back"]
    await driver.recall("ada")
    assert was_cached(await driver.recall("ada"))


async def test_a_service_starts_without_its_redis(
    cached_in_redis: NewCached, redis: RedisServer
) -> None:
    redis.kill()
    driver = cached_in_redis()
    await driver.open()
    await driver.store("ada", "kettle")
    assert await contents(driver) == {"kettle"}
    redis.start()
    await until(lambda: healthy(driver))


async def test_a_frozen_redis_costs_one_timeout_and_not_one_for_each_call(
    cached_in_redis: NewCached, redis: RedisServer
) -> None:
    driver, other = cached_in_redis(timeout=0.4), cached_in_redis()
    await driver.store("ada", "kettle")
    assert await contents(driver) == await contents(other) == {"kettle"}
    redis.freeze()
    try:
        started = perf_counter()
        await asyncio.gather(*(driver.recall("ada") for _ in range(5)))
        assert perf_counter() - started < 2
        started = perf_counter()
        for n in range(20):
            await driver.store("ada", f"teapot {n}")
        assert len(await contents(driver)) == 21
        assert perf_counter() - started < 0.4
    finally:
        redis.thaw()
    await until(lambda: healthy(driver))
    # What it could not tell Redis it has told, so that the other one is right as well.
    assert len(await contents(other)) == 21
    assert len(await contents(driver)) == 21


async def test_a_redis_that_was_away_for_a_moment_is_soon_told_of_writes(
    cached_in_redis: NewCached, redis: RedisServer
) -> None:
    driver, other = cached_in_redis(timeout=0.2), cached_in_redis()
    await other.recall("ada", top_k=100)
    redis.freeze()
    try:
        await driver.recall("basil")  # waits for all of the timeout
    finally:
        redis.thaw()
    await driver.store("ada", "kettle")
    await until(lambda: healthy(driver), seconds=0.7)
    assert await contents(other) == {"kettle"}


async def test_what_a_restored_snapshot_brings_back_is_not_served(
    cached_in_redis: NewCached, redis: RedisServer, backend: Backend
) -> None:
    one, two = cached_in_redis(), cached_in_redis()
    await one.store("ada", "old")
    await one.recall("ada", top_k=100)
    assert was_cached(await two.recall("ada", top_k=100))
    redis.save()
    await one.store("ada", "new")
    redis.kill()
    redis.start()
    with redis.client() as client:
        assert client.keys("memory-cache:value:*")
    for driver in (two, one, cached_in_redis()):
        assert await contents(driver) == {"old", "new"}
    for driver in (one, two):
        await until(lambda driver=driver: healthy(driver))  # type: ignore[misc]
        assert await contents(driver) == {"old", "new"}


async def test_a_writer_that_loses_redis_before_it_could_tell_leaves_nothing_old(
    cached_in_redis: NewCached, redis: RedisServer, backend: Backend
) -> None:
    one, two = cached_in_redis(), cached_in_redis()
    await one.store("ada", "old")
    await two.recall("ada", top_k=100)
    redis.save()

    async def lose() -> None:
        redis.kill()

    backend.after = lose
    await one.store("ada", "new")
    backend.after = backend.dawdle
    assert await contents(one) == {"old", "new"}
    redis.start()
    for _ in range(20):
        assert await contents(two) == {"old", "new"}
        assert await contents(one) == {"old", "new"}
        await asyncio.sleep(0.1)
    await until(lambda: healthy(one))
    assert was_cached(await one.recall("ada", top_k=100))


async def test_a_writer_that_dies_while_it_writes_leaves_nothing_old(
    redis: RedisServer, cached_in_redis: NewCached, backend: Backend
) -> None:
    other = cached_in_redis()
    await other.recall("ada")
    assert was_cached(await other.recall("ada"))
    code = (
        "import asyncio, os, sys\n"
        "from pydantic import SecretStr\n"
        "from app.wrappers.cached import CachedDriver, new_store\n"
        "from app.settings import CacheSettings, Limits\n"
        "from tests.wrappers.backend import Backend\n"
        "async def main():\n"
        "    backend = Backend()\n"
        "    async def die(): os._exit(9)\n"
        "    backend.after = die\n"
        "    store = new_store(CacheSettings(url=SecretStr(sys.argv[1])))\n"
        "    await CachedDriver(backend, store, 'test', Limits()).store('ada', 'new')\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[2]
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code, redis.url], cwd=root, check=False
    )
    assert died.returncode == 9
    await backend.store("ada", "new")  # what it wrote
    for _ in range(2):
        found = await other.recall("ada")
        assert len(found) == 1
        assert not was_cached(found)


async def test_more_writes_than_can_be_remembered_are_told_as_one(
    cached_in_redis: NewCached, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.wrappers.cache.redis._MOST_OWED", 10)
    monkeypatch.setattr("app.wrappers.cache.redis.UNCERTAIN_SECONDS", 0.5)
    driver, other = cached_in_redis(timeout=0.3), cached_in_redis()
    for n in range(30):
        await other.recall(f"user {n}", top_k=100)
    redis.freeze()
    try:
        for n in range(30):
            await driver.store(f"user {n}", "kettle")
    finally:
        redis.thaw()
    await until(lambda: healthy(driver))
    for n in range(30):
        assert await contents(other, f"user {n}") == {"kettle"}
    await asyncio.sleep(0.6)
    await other.recall("user 3")
    assert was_cached(await other.recall("user 3"))


async def test_a_full_redis_is_done_without(backend: Backend) -> None:
    with running("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as redis:
        driver = CachedDriver(
            backend, new_store(CacheSettings(url=SecretStr(redis.url))), "test", Limits()
        )
        for n in range(40):
            await driver.store(f"user {n}", "x" * 30_000)
            assert len(await driver.recall(f"user {n}")) == 1
        assert (await driver.health_check()).status == "degraded"
        await driver.close()


async def test_bytes_of_others_under_our_keys_are_no_answer(
    cached_in_redis: NewCached, redis: RedisServer
) -> None:
    driver = cached_in_redis()
    await driver.store("ada", "kettle")
    await driver.recall("ada")
    with redis.client() as client:
        (key,) = client.keys("memory-cache:value:*")
        stamp = client.get(key)[:32]
        for value in (
            b"",
            b"nonsense",
            stamp,
            stamp + b"[]",
            stamp + b'"x"\n{"a":1}',
            stamp + b"\xff",
        ):
            client.set(key, value)
            assert len(await driver.recall("ada")) == 1


async def test_every_key_has_an_end(cached_in_redis: NewCached, redis: RedisServer) -> None:
    driver = cached_in_redis()
    await driver.store("Quint", "kettle")
    await driver.recall("Quint")
    with redis.client() as client:
        assert client.keys("*")
        assert all(client.pttl(key) > 0 for key in client.keys("*"))
        assert not [key for key in client.keys("*") if b"Quint" in key]


async def test_differently_configured_services_share_writes_and_no_answers(
    backend: Backend, redis: RedisServer
) -> None:
    settings = CacheSettings(url=SecretStr(redis.url))
    one, two = (
        CachedDriver(backend, new_store(settings), name, Limits()) for name in ("one", "two")
    )
    await one.recall("ada")
    assert not was_cached(await two.recall("ada"))
    await two.store("ada", "kettle")
    assert await contents(one) == {"kettle"}
    await one.close()
    await two.close()


def test_another_database_is_another_configuration() -> None:
    def of(url: str, ranking: str = "fused") -> str:
        inner = NamedDriver(type="pgvector", options={"url": url})
        named = {"main": NamedDriver(type="cached", inner=("pg",)), "pg": inner}
        settings = Settings(driver="main", named=named)
        settings = settings.model_copy(
            update={"recall": settings.recall.model_copy(update={"ranking": ranking})}
        )
        return configured(DriverContext("main", settings, OneVector()))

    one = of("postgresql://db/one")
    assert one == of("postgresql://db/one")
    assert len({one, of("postgresql://db/two"), of("postgresql://db/one", "vector")}) == 3
    plain = Settings(database=DatabaseSettings(url=SecretStr("postgresql://db/one")))
    assert configured(DriverContext("main", plain, OneVector())) != one


async def test_a_password_works_and_is_told_nowhere(backend: Backend, logs: list[Any]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with running("--port", str(port), password=SECRET) as redis:
        url = SecretStr(f"redis://:{SECRET}@127.0.0.1:{port}/3")
        driver = CachedDriver(backend, new_store(CacheSettings(url=url)), "test", Limits())
        await driver.recall("ada")
        assert was_cached(await driver.recall("ada"))
        wrong = CacheSettings(url=SecretStr(f"redis://:{SECRET}x@127.0.0.1:{port}"))
        refused = CachedDriver(backend, new_store(wrong), "test", Limits())
        assert await refused.recall("ada") == []
        redis.kill()
        health = [repr(await each.health_check()) for each in (driver, refused)]
        assert SECRET not in "".join([*health, repr(logs)])
        assert str(port) not in repr(logs)
        await driver.close()
        await refused.close()


@pytest.mark.parametrize("url", ["redis://h/0?health_check_interval=x", "redis://h?ssl_ca_certs=x"])
def test_a_url_that_the_client_refuses_is_told_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="MEMORY_CACHE_URL"):
        new_store(CacheSettings(url=SecretStr(url)))


@pytest.mark.parametrize(
    "url", ["rediss://ada:p%40ss@host:6380/1", "unix:///run/redis.sock?db=2", "redis://[::1]"]
)
def test_every_kind_of_url_is_taken_without_io(url: str) -> None:
    assert new_store(CacheSettings(url=SecretStr(url))).kind == "redis"


@pytest.mark.parametrize("url", ["redis://[::1", "redis://", "unix://", "http://x", "redis://h:0"])
def test_a_url_that_is_none_is_refused_by_the_settings(url: str) -> None:
    with pytest.raises(ValueError, match="must look like redis://"):
        CacheSettings(url=SecretStr(url))


def test_every_error_of_the_client_is_caught() -> None:
    errors = [each for each in vars(redis.exceptions).values() if isinstance(each, type)]
    ours = [
        each
        for each in errors
        if each.__module__ == "redis.exceptions"
        and issubclass(each, Exception)
        # Of the client for Redis Cluster, and of the one that blocks.
        and not issubclass(each, redis.exceptions.RedisClusterException)
        and each.__name__ not in {"ChildDeadlockedError", "IncorrectPolicyType"}
    ]
    assert len(ours) > 20
    assert all(issubclass(each, _ERRORS) for each in ours)


@pytest.mark.parametrize(("missing", "url"), [("cachetools", ""), ("redis", "redis://host")])
def test_an_absent_extra_is_named(missing: str, url: str, root: Path) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from app.core.memory.manager import MemoryDriverManager\n"
        "from app.settings import CacheSettings, NamedDriver, Settings\n"
        f"cache = CacheSettings(url={url!r} or None)\n"
        "named = {'main': NamedDriver(type='cached', inner=('inmemory',))}\n"
        "settings = Settings(driver='main', named=named, cache=cache)\n"
        "try: MemoryDriverManager(settings).driver()\n"
        "except ValueError as error: print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert f"needs {missing}" in said
    assert "pip install 'memory-driver-service[cache]'" in said


def test_in_process_works_without_the_client_of_redis(root: Path) -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from app.core.memory.manager import MemoryDriverManager\n"
        "from app.settings import NamedDriver, Settings\n"
        "named = {'main': NamedDriver(type='cached', inner=('inmemory',))}\n"
        "print(type(MemoryDriverManager(Settings(driver='main', named=named)).driver()).__name__)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == "CachedDriver"


async def test_replicas_share_the_vectors_of_queries(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model(Embedder):
        """Counts what it computes."""

        name, dimension, max_tokens = "model", 3, None

        def __init__(self) -> None:
            self.computed = 0
            self._cache = QueryCache(10, self._compute)

        async def open(self) -> None: ...

        async def close(self) -> None: ...

        async def _compute(self, text: str) -> Vector:
            self.computed += 1
            return np.array([len(text), 0.25, -1], np.float32)

        def share_queries(self, vectors: SharedVectors) -> None:
            self._cache.share(self, vectors)

        async def embed_query(self, text: str) -> Vector:
            return await self._cache.get(text)

        async def embed(self, texts: Sequence[str]) -> Vector:
            raise NotImplementedError

    monkeypatch.setattr("app.wrappers.cache.redis.ANSWER_SECONDS", 5.0)
    settings = Settings(cache=CacheSettings(url=SecretStr(redis.url)))
    models, drivers = [Model(), Model()], []
    for model in models:
        context = DriverContext("main", settings, model, (Backend(),))
        drivers.append(CachedDriver.from_context(context))
    for model in models:
        vector = await model.embed_query("kettle")
        assert vector.tolist() == [6.0, 0.25, -1.0]
        assert vector.dtype == np.float32
    assert [model.computed for model in models] == [1, 0]
    redis.kill()
    assert (await models[1].embed_query("basil")).tolist() == [5.0, 0.25, -1.0]
    for driver in drivers:
        await driver.close()
