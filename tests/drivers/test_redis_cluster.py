"""A shard of a cluster, to which one hash tag brings all keys of a namespace."""

import pytest

from app.core.memory.records import NewKnowledge, NewMemory
from app.errors import DriverUnavailable
from tests.drivers.redis_nodes import Nodes, nodes
from tests.drivers.search_server import OpenRedis, open_redis, search

__all__ = ["nodes", "open_redis", "search"]

SLOTS = 16_384


def node(nodes: Nodes) -> int:
    return nodes.server("--cluster-enabled", "yes")


def give(nodes: Nodes, port: int, first: int = 0, last: int = SLOTS - 1) -> None:
    """Let the node have the slots."""
    with nodes.client(port) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)


def until_it_serves(nodes: Nodes, port: int) -> None:
    with nodes.client(port) as client:
        nodes.until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")


async def test_a_shard_with_all_of_the_namespace_keeps_every_promise(
    open_redis: OpenRedis, nodes: Nodes
) -> None:
    port = node(nodes)
    give(nodes, port)
    until_it_serves(nodes, port)
    driver = await open_redis(url=f"redis://127.0.0.1:{port}")
    batch = [NewMemory(user_id="ada", content=f"kettle {n}", metadata={"n": n}) for n in range(50)]
    stored = await driver.store_many(batch)
    await driver.store("bob", "basil")
    knowledge = [NewKnowledge(content=f"copper {n}", category="metals") for n in range(50)]
    await driver.store_knowledge_many(knowledge)
    await driver.put_document("d", category="c", pieces=["tin", "zinc"])
    assert await driver.recall("ada", top_k=50) == stored[::-1]
    assert (await driver.recall("ada", query="kettle 7"))[0].content == "kettle 7"
    assert len(await driver.recall_global_knowledge("copper", 50, category="metals")) == 50
    updated = await driver.update(stored[0].memory_id, "ada", {"content": "a pot"})
    assert updated is not None
    assert await driver.get(stored[0].memory_id, "ada") == updated
    assert await driver.delete(stored[1].memory_id, "ada")
    named = {"metadata": {"n": {"lt": 9}}}
    assert await driver.delete_many("ada", filter=named) == 8
    assert await driver.delete_document("d") == 2
    assert [each.user_id for each in (await driver.list_users()).users] == ["ada", "bob"]
    assert await driver.delete_user("ada") == 41
    assert len([record async for record in driver.export_records()]) == 51
    with nodes.client(port) as client:
        slots = {client.execute_command("CLUSTER", "KEYSLOT", key) for key in client.keys("*")}
    assert len(slots) == 1


async def test_a_shard_without_the_namespace_names_the_one_that_has_it(
    open_redis: OpenRedis, nodes: Nodes
) -> None:
    here, there = node(nodes), node(nodes)
    with nodes.client(here) as client:
        slot = client.execute_command("CLUSTER", "KEYSLOT", "{memory}:meta")
    give(nodes, there, 0, slot)
    give(nodes, here, slot + 1)
    with nodes.client(here) as client:
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", there)
    for port in (here, there):
        until_it_serves(nodes, port)
    with pytest.raises(DriverUnavailable) as raised:
        await open_redis(url=f"redis://127.0.0.1:{here}")
    assert raised.value.reason.endswith(f"the keys are on the shard at 127.0.0.1:{there}")
    assert not raised.value.uncertain
    driver = await open_redis(url=f"redis://127.0.0.1:{there}")
    stored = await driver.store("ada", "kettle")
    assert await driver.recall("ada") == [stored]
