"""What AutoMem mixes up stays apart: each of its leaks, and the defence against it."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from app.core.memory.records import Memory
from app.drivers.automem import AutomemDriver
from app.drivers.automem.mapping import KEY, Tags
from tests.conformance.cases import WAYS
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.conftest import OpenAutomem

TAGS = Tags("")
HIS = "zanzibar"


async def everything_said(driver: AutomemDriver, user_id: str) -> str:
    """All that any way of reading gives for the user, as text."""
    said: list[Any] = [await driver.recall(user_id, top_k=100, **way) for way in WAYS]
    said.append((await driver.list_memories(user_id)).memories)
    said += [[await driver.get(m.memory_id, user_id)] for m in said[0]]
    said.append(await driver.recall_global_knowledge("kettle"))
    return json.dumps([asdict(m) for found in said for m in found if m is not None], default=str)


async def test_relations_and_enrichment_of_other_users_are_never_passed_on(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await automem.store("bob", f"the kettle of {HIS}", tags=[HIS])
    await automem.store("ada", "a copper kettle")
    [of_ada] = [n for n in fake.graph.values() if "copper" in n["content"]]
    assert HIS in json.dumps(of_ada["metadata"]["enrichment"])
    said = await everything_said(automem, "ada")
    assert "copper" in said
    assert HIS not in said
    assert "entity:" not in said


async def test_a_tag_that_reads_like_a_scope_tag_is_only_a_tag(automem: AutomemDriver) -> None:
    hostile = [TAGS.user("ada"), TAGS.knowledge, TAGS.everything, "user:ada"]
    stored = await automem.store("bob", f"a kettle of {HIS}", tags=hostile)
    assert HIS not in await everything_said(automem, "ada")
    assert (await automem.recall("bob"))[0].tags == hostile
    assert await automem.delete_user("ada") == 0
    assert await automem.get(stored.memory_id, "bob") == stored


async def copied_to_ada(fake: FakeAutomem, **changes: Any) -> str:
    """Bob's memory once more, under Ada's tags, as another client of AutoMem could make it."""
    [node] = fake.graph.values()
    tags = [TAGS.everything, TAGS.user("ada"), TAGS.conversation("ada", "c"), TAGS.record("x")]
    made = fake.add(node["content"], tags, metadata={**node["metadata"], **changes})
    await fake._embed([fake.graph[made]])
    return made


async def test_the_owner_of_every_record_is_checked(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await automem.store("bob", f"a kettle of {HIS}", conversation_id="c")
    await copied_to_ada(fake)
    assert HIS not in await everything_said(automem, "ada")
    for way in WAYS:
        assert await automem.recall("ada", conversation_id="c", **way) == []
    assert await automem.delete_user("ada") == 0
    assert len(fake.graph) == 2


@pytest.mark.parametrize(
    "box",
    [
        None,
        {},
        7,
        {"v": 1},
        {"v": 1, "record": "{"},
        {"v": 1, "record": "[]"},
        {"v": 1, "record": '{"memory_id": "by-tag?tags=a", "user_id": "ada"}'},
    ],
    ids=str,
)
async def test_what_is_no_record_of_ours_is_not_passed_on(
    automem: AutomemDriver, fake: FakeAutomem, box: Any
) -> None:
    await automem.store("bob", f"a kettle of {HIS}")
    await copied_to_ada(fake, **{KEY: box})
    assert HIS not in await everything_said(automem, "ada")


async def test_a_recall_asks_for_one_exact_scope_and_for_nothing_else(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await automem.recall("ada", query="a kettle", exclude_tags=["conversation:5"])
    await automem.recall("ada", "5", "a kettle")
    await automem.recall_global_knowledge("a kettle", category="kitchen")
    expected = [TAGS.user("ada"), TAGS.conversation("ada", "5"), TAGS.category("kitchen")]
    asked = [query for query in fake.queries if "query" in query]
    for query, tag in zip(asked, expected, strict=True):
        assert query["tags"] == [tag]
        assert query["tag_match"] == ["exact"]
        assert query["adaptive_floor"] == ["false"]
        assert query["state_mode"] == ["history"]
        for leak in ("expand_relations", "expand_entities", "scope_fallback"):
            assert query[leak] == ["false"]
        # It drops what merely starts with the tag, and after the limit.
        assert "exclude_tags" not in query


async def test_tags_are_hex_of_one_length_and_keyed(open_automem: OpenAutomem) -> None:
    hostile = ["ada", "Ada", " ada", "ada:sub", "İstanbul", "*", "", "a,b", "user:ada"]
    made = {TAGS.user(user) for user in hostile} | {TAGS.conversation("ada", c) for c in hostile}
    assert len(made) == 2 * len(hostile)
    assert all(re.fullmatch(r"mds[uc]_[0-9a-f]{40}", tag) for tag in made)
    assert Tags("key").user("ada") != TAGS.user("ada")
    await (await open_automem(tag_secret=SecretStr("key"))).store("ada", "a copper kettle")
    assert await (await open_automem()).recall("ada") == []
    assert len(await (await open_automem(tag_secret=SecretStr("key"))).recall("ada")) == 1


async def test_no_call_deletes_by_tag(automem: AutomemDriver, fake: FakeAutomem) -> None:
    for user in ("ada", "bob"):
        stored = await automem.store(user, "kettle", conversation_id="shared", tags=["x"])
    fake.calls.clear()
    await automem.delete(stored.memory_id, "bob")
    assert await automem.delete_user("ada") == 1
    deletes = [path for method, path in fake.calls if method == "DELETE"]
    assert len(deletes) == 2
    assert "/memory/by-tag" not in deletes


LEGACY = {"legacy_tag": "user:{user_id}"}


async def legacy(fake: FakeAutomem, tag: str, content: str, **more: Any) -> str:
    made = fake.add(content, [tag], **more)
    await fake._embed([fake.graph[made]])
    return made


async def test_what_other_clients_stored_is_not_read_by_default(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    theirs = await legacy(fake, "user:ada", "a steel kettle")
    assert "steel" not in await everything_said(automem, "ada")
    assert await automem.get(theirs, "ada") is None
    assert await automem.delete(theirs, "ada") is False


async def test_a_legacy_scope_reads_what_other_clients_tagged_for_the_user_and_no_more(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(**LEGACY)
    for tag in ("user:ada:sub", "user:Ada", "user/ada", "user:bob", "User:ada"):
        await legacy(fake, tag, f"a kettle of {HIS}")
    for box in (7, {"v": 1, "record": "{"}):
        await legacy(fake, "user:ada", f"a kettle of {HIS}", metadata={KEY: box})
    when = datetime(2024, 5, 1, 12, tzinfo=UTC)
    theirs = await legacy(
        fake, "user:ada", "a steel kettle", timestamp=when.isoformat(), importance=0.9
    )
    ours = await automem.store("ada", "a copper kettle", tags=["user:ada"])
    expected = Memory(
        memory_id=theirs,
        user_id="ada",
        content="a steel kettle",
        tags=["user:ada"],
        created_at=when,
    )
    assert HIS not in await everything_said(automem, "ada")
    assert await automem.recall("ada") == [ours, expected]
    assert (await automem.list_memories("ada")).memories == [ours, expected]
    for way in WAYS[1:]:
        found = await automem.recall("ada", **way)
        assert {memory.content for memory in found} == {ours.content, "a steel kettle"}
    assert await automem.get(theirs, "ada") == expected
    assert await automem.get(theirs, "bob") is None
    for user in ("ada ", "Ada", "ada:sub"):
        found = await automem.recall(user)
        assert theirs not in {memory.memory_id for memory in found}
    assert await automem.recall("ada", conversation_id="c") == []


async def test_a_legacy_scope_is_read_only_unless_allowed(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    theirs = [await legacy(fake, "user:ada", f"a steel kettle {n}") for n in range(3)]
    reading = await open_automem(**LEGACY)
    assert await reading.delete(theirs[0], "ada") is False
    assert await reading.delete_user("ada") == 0
    assert len(fake.graph) == 3
    writing = await open_automem(**LEGACY, legacy_writable=True)
    assert await writing.delete(theirs[0], "bob") is False
    assert await writing.delete(theirs[0]) is False
    assert await writing.delete(theirs[0], "ada") is True
    assert await writing.delete_user("ada") == 2
