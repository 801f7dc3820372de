"""A primary that Sentinels name: found, followed to another server, by TLS, with passwords."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from app.drivers.redis import RedisDriver
from app.errors import DriverError, DriverUnavailable, MemoryServiceError
from tests.drivers.redis_nodes import Nodes, free_port, nodes
from tests.drivers.search_server import OpenRedis, open_redis, search
from tests.drivers.tls_front import Authority, Streams, context, in_front

__all__ = ["nodes", "open_redis", "search"]

QUICK = (
    "sentinel down-after-milliseconds main 300",
    "sentinel failover-timeout main 3000",
)
"""A Sentinel that takes a server for dead which is silent for 0.3 s."""


def replicated(nodes: Nodes) -> tuple[int, int]:
    """The ports of a primary and of a replica that has what it has."""
    first = nodes.server()
    second = nodes.server("--replicaof", "127.0.0.1", str(first))
    with nodes.client(first) as primary:
        nodes.until(lambda: primary.wait(1, 100) == 1)
    return first, second


def url_of(*sentinels: int) -> str:
    places = ",".join(f"127.0.0.1:{port}" for port in sentinels)
    return f"redis+sentinel://{places}/main"


async def contents(driver: RedisDriver, user_id: str = "ada") -> set[str]:
    return {memory.content for memory in await driver.recall(user_id, top_k=100)}


async def test_a_connection_to_a_primary_that_became_a_replica_is_left(
    open_redis: OpenRedis, nodes: Nodes
) -> None:
    first, second = replicated(nodes)
    watching = nodes.sentinel(first)
    driver = await open_redis(url=url_of(watching))
    await driver.store("ada", "kettle")
    with nodes.client(first) as primary:
        assert primary.wait(1, 10_000) == 1
        assert primary.hlen("{memory}:names") == 1
    with nodes.client(second) as replica:
        replica.replicaof("NO", "ONE")
    with nodes.client(watching) as guard:
        guard.execute_command("SENTINEL", "REMOVE", "main")
        guard.execute_command("SENTINEL", "MONITOR", "main", "127.0.0.1", second, 1)
    with nodes.client(first) as old:
        old.replicaof("127.0.0.1", second)
    with pytest.raises(DriverUnavailable) as raised:
        await driver.store("ada", "refused")  # on the connection to the old one
    assert not raised.value.uncertain
    await driver.store("ada", "basil")
    assert await contents(driver) == {"kettle", "basil"}
    with nodes.client(second) as primary:
        assert primary.zcard("{memory}:users") == 1


@pytest.mark.parametrize("end", [Nodes.kill, Nodes.freeze], ids=["killed", "frozen"])
async def test_a_failover_under_writes_loses_nothing_that_the_new_primary_has(
    open_redis: OpenRedis, nodes: Nodes, end: Callable[[Nodes, int], None]
) -> None:
    """Four writers, a primary that dies, a replica that the Sentinel makes the primary."""
    first, second = replicated(nodes)
    watching = nodes.sentinel(first, *QUICK)
    driver = await open_redis(url=url_of(watching), timeout=1.0)
    stored: dict[str, str] = {}
    deleted: set[str] = set()
    promoted = done = False

    async def write(writer: int) -> None:
        n = 0
        while not done:
            n += 1
            what = f"{writer} {n}"
            try:
                memory = await driver.store("ada", what)
                if n % 5:
                    stored[memory.memory_id] = what
                elif await driver.delete(memory.memory_id, "ada") and promoted:
                    deleted.add(memory.memory_id)
            except DriverError:
                await asyncio.sleep(0.02)

    async def more(count: int) -> None:
        wanted = len(stored) + count
        async with asyncio.timeout(60):
            while len(stored) < wanted:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as writers:
        for n in range(4):
            writers.create_task(write(n))
        await more(60)
        before = set(stored)
        with nodes.client(first) as primary, nodes.client(second) as replica:
            offset = primary.info("replication")["master_repl_offset"]
            nodes.until(lambda: replica.info("replication")["slave_repl_offset"] >= offset)
            end(nodes, first)
            await asyncio.to_thread(
                nodes.until, lambda: replica.info("replication")["role"] == "master"
            )
        direct = await open_redis(url=f"redis://127.0.0.1:{second}")
        has = {memory.memory_id async for memory in direct.export_records()}  # type: ignore[union-attr]  # memories alone were stored
        unsure = set(stored) - before
        promoted = True
        await more(60)
        after = set(stored) - before - unsure
        done = True
    found = {m.memory_id: m.content async for m in direct.export_records()}  # type: ignore[union-attr]  # memories alone were stored
    sure = before | after | (has & stored.keys())
    assert len(after) >= 60
    assert {one: stored[one] for one in sure}.items() <= found.items()
    assert not deleted & found.keys()


async def test_a_sentinel_that_is_dead_or_hangs_costs_a_part_of_the_time_limit(
    open_redis: OpenRedis, nodes: Nodes
) -> None:
    first = nodes.server()
    hangs, watching = nodes.sentinel(first), nodes.sentinel(first)
    nodes.freeze(hangs)
    driver = await open_redis(url=url_of(free_port(), hangs, watching), timeout=2.0)
    await driver.store("ada", "kettle")
    assert await contents(driver) == {"kettle"}


async def test_without_any_sentinel_no_connection_is_made(
    open_redis: OpenRedis, nodes: Nodes
) -> None:
    first = nodes.server()
    watching = nodes.sentinel(first)
    driver = await open_redis(url=url_of(watching), timeout=1.0)
    nodes.kill(watching)
    with nodes.client(first) as primary:
        primary.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(DriverUnavailable) as raised:
        await driver.store("ada", "kettle")
    assert not raised.value.uncertain
    assert (await driver.health_check()).status == "unavailable"


async def test_a_closed_driver_leaves_the_sentinels(open_redis: OpenRedis, nodes: Nodes) -> None:
    first = nodes.server()
    watching = nodes.sentinel(first)
    driver = await open_redis(url=url_of(watching))
    await driver.store("ada", "kettle")
    await driver.close()
    with nodes.client(watching) as guard:

        def alone() -> bool:
            callers = guard.client_list(_type="normal")
            return len(callers) == 1

        await asyncio.to_thread(nodes.until, alone)
    await driver.open()
    assert await contents(driver) == {"kettle"}


async def test_sentinels_and_the_primary_have_passwords_of_their_own(
    open_redis: OpenRedis, nodes: Nodes
) -> None:
    first = nodes.server("--requirepass", "hunter2")
    watching = nodes.sentinel(
        first, "sentinel auth-pass main hunter2", "user watcher on >hunter3 ~* &* +@all"
    )
    with nodes.client(watching) as guard:
        guard.execute_command("ACL", "SETUSER", "default", "off")
    at = f"127.0.0.1:{watching}/main"
    sentinels = "sentinel_username=watcher&sentinel_password=hunter3"
    driver = await open_redis(url=f"redis+sentinel://:hunter2@{at}?{sentinels}")
    await driver.store("ada", "kettle")
    for wrong in (
        f"redis+sentinel://:hunter2@{at}",
        f"redis+sentinel://:hunter3@{at}?{sentinels}",
        f"redis+sentinel://:hunter2@{at}?{sentinels}4",
    ):
        with pytest.raises(MemoryServiceError) as raised:
            await open_redis(url=wrong)
        assert isinstance(raised.value, DriverUnavailable)
        assert "hunter" not in f"{raised.value} {raised.value.reason}"


async def test_sentinels_and_the_primary_are_reached_by_tls(
    open_redis: OpenRedis, nodes: Nodes, tmp_path: Path
) -> None:
    """The Sentinel watches what speaks TLS with the driver, and plainly with the Sentinel."""
    ours = Authority(tmp_path / "ours")
    tls = context(ours.certificate("127.0.0.1"))
    first = nodes.server()

    async def primary() -> Streams:
        return await asyncio.open_connection("127.0.0.1", first)

    async with in_front(primary, tls) as before_primary:
        watching = await asyncio.to_thread(nodes.sentinel, before_primary)

        async def sentinel() -> Streams:
            return await asyncio.open_connection("127.0.0.1", watching)

        async with in_front(sentinel, tls) as before_sentinel:
            url = f"rediss+sentinel://127.0.0.1:{before_sentinel}/main"
            driver = await open_redis(url=f"{url}?ssl_ca_certs={ours.file}")
            await driver.store("ada", "kettle")
            assert await contents(driver) == {"kettle"}
            with pytest.raises(DriverUnavailable):
                await open_redis(url=url)
            await driver.close()
