"""Updates: what is named changes, the rest stays, and nobody's change is lost."""

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory
from app.core.memory.requests import Replace
from app.errors import InvalidInput, PreconditionFailed
from app.wrappers.base import WrappingDriver
from tests.conformance.cases import WAYS, Case

OLD = "Ada bought a copper kettle."
NEW = "The night train to Lyon leaves on Fridays."


async def stored(driver: RecordDriver) -> Memory:
    """A memory of Ada's with every field."""
    return await driver.store("ada", OLD, "kitchen", ["home", "tea"], {"n": 1, "a": {"b": 1}})


async def updated(driver: RecordDriver, memory: Memory, patch: dict[str, Any]) -> Memory:
    """The memory after the patch, which the driver has too."""
    after = await driver.update(memory.memory_id, memory.user_id, patch)
    assert after is not None
    assert await driver.get(memory.memory_id, memory.user_id) == after
    return after


@pytest.mark.parametrize(
    "patch",
    [
        {"content": NEW},
        {"conversation_id": "travel"},
        {"tags": ["travel"]},
        {"content": NEW, "conversation_id": "travel", "tags": []},
        {"metadata": {"c": 2}},
    ],
    ids=lambda patch: "-".join(patch),
)
async def test_what_is_named_changes_and_the_rest_stays(
    driver: RecordDriver, patch: dict[str, Any]
) -> None:
    before = await stored(driver)
    other = await driver.store("ada", "another", "kitchen", ["tea"])
    after = await updated(driver, before, patch)
    changed = {**patch, "metadata": {**before.metadata, **patch.get("metadata", {})}}
    assert after == replace(before, **changed, updated_at=after.updated_at)
    assert before.updated_at == before.created_at < after.updated_at
    assert after.updated_at.utcoffset() == timedelta(0)
    assert await driver.get(other.memory_id, "ada") == other


async def test_every_update_has_a_later_version(driver: RecordDriver) -> None:
    memory = await stored(driver)
    for n in range(5):
        after = await updated(driver, memory, {"metadata": {"n": n + 2}})
        assert after.updated_at > memory.updated_at
        memory = after


async def test_null_takes_away(driver: RecordDriver) -> None:
    memory = await stored(driver)
    after = await updated(driver, memory, {"conversation_id": None, "tags": None})
    assert (after.conversation_id, after.tags, after.metadata) == (None, [], memory.metadata)
    after = await updated(driver, memory, {"metadata": {"a": {"b": None}}})
    assert after.metadata == {"n": 1, "a": {}}
    after = await updated(driver, memory, {"metadata": None})
    assert after.metadata == {}


async def test_metadata_is_merged_however_deep_it_is_and_keeps_its_types(
    driver: RecordDriver,
) -> None:
    metadata: dict[str, Any] = {"z": {"y": {"x": 1, "w": [1, {"v": None}]}}, "n": 1, "nil": None}
    memory = await driver.store("ada", OLD, metadata=metadata)
    patch = {"z": {"y": {"x": None, "u": 2}, "t": {"s": None}}, "n": 1.0, "big": 10**30}
    after = await updated(driver, memory, {"metadata": patch})
    expected = {
        "z": {"y": {"w": [1, {"v": None}], "u": 2}, "t": {}},
        "n": 1.0,
        "nil": None,
        "big": 10**30,
    }
    assert json.dumps(after.metadata) == json.dumps(expected)
    found = await driver.recall("ada")
    assert json.dumps(found[0].metadata) == json.dumps(expected)


async def test_knowledge_is_updated_as_memories_are(driver: RecordDriver) -> None:
    before = await driver.store_global_knowledge(OLD, "kitchen", "Care", "care", {"a": {"b": 1}})
    other = await driver.store_global_knowledge("another", "kitchen")
    patch = {"content": NEW, "category": "travel", "title": None, "metadata": {"a": {"c": 2}}}
    after = await driver.update_knowledge(before.knowledge_id, patch)
    assert after is not None
    assert after == replace(
        before,
        content=NEW,
        category="travel",
        title=None,
        metadata={"a": {"b": 1, "c": 2}},
        updated_at=after.updated_at,
    )
    assert after.updated_at > before.updated_at == before.created_at
    assert await driver.get_knowledge(before.knowledge_id) == after
    assert await driver.get_knowledge(other.knowledge_id) == other
    found = await driver.recall_global_knowledge(NEW, category="travel")
    assert [replace(each, score=None) for each in found] == [after]
    assert found[0].score == pytest.approx(1, abs=1e-4)
    found = await driver.recall_global_knowledge(OLD, category="kitchen")
    assert [each.knowledge_id for each in found] == [other.knowledge_id]


async def test_another_users_memory_and_a_missing_one_look_the_same(driver: RecordDriver) -> None:
    memory = await stored(driver)
    for user in ("bob", "Ada"):
        assert await driver.update(memory.memory_id, user, {"content": NEW}) is None
    version = [memory.updated_at]
    assert await driver.update(memory.memory_id, "bob", {}, if_match=version) is None
    assert await driver.update(str(uuid4()), "ada", {"content": NEW}) is None
    assert await driver.update_knowledge(str(uuid4()), {"content": NEW}) is None
    assert await driver.update_knowledge(memory.memory_id, {"content": NEW}) is None
    assert await driver.recall("ada") == [memory]
    assert await driver.recall("bob") == []


async def test_a_deleted_record_is_not_updated(driver: RecordDriver) -> None:
    memory = await stored(driver)
    knowledge = await driver.store_global_knowledge(OLD, "kitchen")
    await driver.delete(memory.memory_id, "ada")
    await driver.delete_knowledge(knowledge.knowledge_id)
    assert await driver.update(memory.memory_id, "ada", {"content": NEW}) is None
    assert await driver.update_knowledge(knowledge.knowledge_id, {"content": NEW}) is None
    assert await driver.recall("ada") == []
    assert await driver.recall_global_knowledge(NEW) == []


async def test_an_id_in_capitals_is_the_same_id(driver: RecordDriver) -> None:
    memory = await stored(driver)
    after = await driver.update(memory.memory_id.upper(), "ada", {"tags": None})
    assert after is not None
    assert after.memory_id == memory.memory_id


async def test_recall_finds_the_new_content_and_not_the_old(driver: RecordDriver) -> None:
    memory = await stored(driver)
    other = await driver.store("ada", "Basil likes the sun.")
    await updated(driver, memory, {"content": NEW})
    by_vector = await driver.recall("ada", query=NEW)
    assert by_vector[0].memory_id == memory.memory_id
    assert by_vector[0].content == NEW
    assert by_vector[0].score == pytest.approx(1, abs=1e-4)
    by_old = {found.memory_id: found.score for found in await driver.recall("ada", query=OLD)}
    assert (by_old.get(memory.memory_id) or 0) < 0.95
    by_words = await driver.recall("ada", query="train", use_vector=False)
    assert [found.memory_id for found in by_words] == [memory.memory_id]
    assert await driver.recall("ada", query="kettle", use_vector=False) == []
    unchanged = await driver.recall("ada", query="basil", use_vector=False)
    assert [found.memory_id for found in unchanged] == [other.memory_id]


async def test_recall_goes_by_the_new_conversation_and_the_new_tags(driver: RecordDriver) -> None:
    memory = await stored(driver)
    await driver.recall("ada", "kitchen", query="kettle")
    await updated(driver, memory, {"conversation_id": "travel", "tags": ["work"]})
    for arguments in WAYS:
        moved = await driver.recall("ada", "travel", **arguments)
        assert [found.memory_id for found in moved] == [memory.memory_id]
        assert await driver.recall("ada", "kitchen", **arguments) == []
        assert await driver.recall("ada", exclude_tags=["work"], **arguments) == []
        kept = await driver.recall("ada", exclude_tags=["home", "tea"], **arguments)
        assert [found.memory_id for found in kept] == [memory.memory_id]
    assert (await driver.list_memories("ada", "kitchen")).memories == []
    assert len((await driver.list_memories("ada", "travel")).memories) == 1


async def test_an_answer_from_before_is_not_given_after_an_update(driver: RecordDriver) -> None:
    memory = await stored(driver)
    knowledge = await driver.store_global_knowledge(OLD, "kitchen")
    for _ in range(2):
        for arguments in WAYS:
            await driver.recall("ada", **arguments)
        await driver.recall_global_knowledge("kettle")
    await updated(driver, memory, {"content": f"{OLD} It whistles."})
    await driver.update_knowledge(knowledge.knowledge_id, {"content": f"{OLD} It whistles."})
    for arguments in WAYS:
        found = await driver.recall("ada", **arguments)
        assert [each.content for each in found] == [f"{OLD} It whistles."]
    known = await driver.recall_global_knowledge("kettle")
    assert [each.content for each in known] == [f"{OLD} It whistles."]


@pytest.mark.parametrize("content", [OLD, NEW])
async def test_an_update_whose_answer_was_lost_is_found_to_be_made(
    driver: RecordDriver, content: str
) -> None:
    if isinstance(driver, WrappingDriver):
        pytest.skip("it asks its drivers")
    memory = await updated(driver, await stored(driver), {"content": content, "tags": ["travel"]})
    knowledge = await driver.store_global_knowledge(OLD, "travel")
    for record in (memory, knowledge):
        assert await driver._replace(Replace(record, record.updated_at))
        later = replace(record, updated_at=record.updated_at + timedelta(seconds=1))
        assert not await driver._replace(Replace(later, later.updated_at))
    assert await driver.get(memory.memory_id, "ada") == memory
    assert await driver.get_knowledge(knowledge.knowledge_id) == knowledge


async def test_an_updated_memory_keeps_its_place_among_the_newest(driver: RecordDriver) -> None:
    memories = [await driver.store("ada", f"kettle {n}") for n in range(3)]
    after = await updated(driver, memories[1], {"content": NEW})
    expected = [memories[2], after, memories[0]]
    assert await driver.recall("ada") == expected
    assert (await driver.list_memories("ada")).memories == expected
    exported = [record async for record in driver.export_records()]
    assert sorted(exported, key=str) == sorted(expected, key=str)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"content": None}, "content", "string"),
    ({"content": ""}, "content", "empty"),
    ({"content": "x" * 32_769}, "content", "32768"),
    ({"content": "a\x00b"}, "content", "NUL"),
    ({"conversation_id": ""}, "conversation_id", "empty"),
    ({"conversation_id": "x" * 257}, "conversation_id", "256"),
    ({"tags": ["x"] * 65}, "tags", "64"),
    ({"tags": ["x", None]}, "tags", "string"),
    ({"metadata": {"a": "x" * 16_384}}, "metadata", "16384"),
    ({"metadata": {"a": float("nan")}}, "metadata", "NaN"),
    ({"metadata": []}, "metadata", "object"),
    ({"metadata": {"more": "x" * 9_000}}, "metadata", "16384"),
    (
        {"memory_id": str(uuid4())},
        "memory_id",
        "content, conversation_id, tags, occurred_at, metadata, expires_at, ttl",
    ),
    ({"user_id": "bob"}, "user_id", "changed"),
    ({"created_at": None}, "created_at", "changed"),
    ({"updated_at": None}, "updated_at", "changed"),
    ({"score": 1}, "score", "changed"),
]


async def test_what_cannot_be_kept_is_refused_by_name_and_changes_nothing(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    memory = await driver.store("ada", OLD, metadata={"much": "x" * 9_000})
    for patch, field, limit in REFUSED:
        with subtests.test(field=field, limit=limit):
            with pytest.raises(InvalidInput, match=limit) as refusal:
                await driver.update(memory.memory_id, "ada", {"tags": ["good"], **patch})
            assert refusal.value.loc[0] == field
            assert await driver.get(memory.memory_id, "ada") == memory
    for name in ("category", "content"):
        with subtests.test(name=name), pytest.raises(InvalidInput, match=name):
            await driver.update_knowledge(str(uuid4()), {name: None})
    with pytest.raises(InvalidInput, match="UUID"):
        await driver.update("x", "ada", {})
    with pytest.raises(InvalidInput, match="changed"):
        await driver.update(str(uuid4()), "ada", {"colour": "red"})


async def test_a_record_is_changed_only_where_it_has_the_wanted_version(
    driver: RecordDriver,
) -> None:
    memory = await stored(driver)
    knowledge = await driver.store_global_knowledge(OLD, "kitchen")
    off = [memory.updated_at + timedelta(microseconds=n) for n in (-1, 1)]
    versions: list[list[datetime]] = [[], off]
    for if_match in versions:
        with pytest.raises(PreconditionFailed):
            await driver.update(memory.memory_id, "ada", {"content": NEW}, if_match=if_match)
        with pytest.raises(PreconditionFailed):
            await driver.update(memory.memory_id, "ada", {}, if_match=if_match)
        with pytest.raises(PreconditionFailed):
            await driver.update_knowledge(
                knowledge.knowledge_id, {"content": NEW}, if_match=if_match
            )
    assert await driver.get(memory.memory_id, "ada") == memory
    assert await driver.get_knowledge(knowledge.knowledge_id) == knowledge

    wanted = [*off, memory.updated_at]
    after = await driver.update(memory.memory_id, "ada", {"content": NEW}, if_match=wanted)
    assert after is not None
    assert after.content == NEW
    with pytest.raises(PreconditionFailed):
        await driver.update(memory.memory_id, "ada", {"content": OLD}, if_match=wanted)
    assert await driver.get(memory.memory_id, "ada") == after


async def test_a_patch_that_changes_nothing_leaves_the_version(driver: RecordDriver) -> None:
    memory = await stored(driver)
    knowledge = await driver.store_global_knowledge(OLD, "kitchen", "Care")
    same = {"content": OLD, "tags": ["home", "tea"], "metadata": {"n": 1, "absent": None}}
    patches: list[dict[str, Any]] = [{}, same, {"metadata": {"a": {}}}]
    for patch in patches:
        assert await updated(driver, memory, patch) == memory
    assert await driver.update_knowledge(knowledge.knowledge_id, {"title": "Care"}) == knowledge
    after = await updated(driver, memory, {"metadata": {"n": True}})
    assert after.metadata["n"] is True
    assert after.updated_at > memory.updated_at


async def test_what_a_caller_does_with_a_patch_and_its_answer_changes_nothing(
    driver: RecordDriver,
) -> None:
    memory = await stored(driver)
    patch: dict[str, Any] = {"tags": ["x"], "metadata": {"c": {"d": [1]}}}
    after = await driver.update(memory.memory_id, "ada", patch)
    assert after is not None
    patch["tags"].append("y")
    patch["metadata"]["c"]["d"].append(2)
    after.tags.append("z")
    after.metadata["a"].clear()
    after.metadata["c"]["d"].append(3)
    (found,) = await driver.recall("ada")
    assert found.tags == ["x"]
    assert found.metadata == {"n": 1, "a": {"b": 1}, "c": {"d": [1]}}


async def test_concurrent_updates_of_different_keys_all_survive(
    case: Case, driver: RecordDriver
) -> None:
    memory = await driver.store("ada", OLD)
    patches: list[dict[str, Any]] = [{"metadata": {f"key {n}": n}} for n in range(8)]
    answers = await asyncio.gather(
        *(driver.update(memory.memory_id, "ada", patch) for patch in patches)
    )
    found = await driver.get(memory.memory_id, "ada")
    assert found is not None
    assert found in answers
    if case.compares_and_sets:
        assert found.metadata == {f"key {n}": n for n in range(8)}
        assert len({answer.updated_at for answer in answers if answer is not None}) == 8


async def test_of_concurrent_updates_that_want_one_version_one_is_made(
    case: Case, driver: RecordDriver
) -> None:
    memory = await driver.store("ada", OLD)

    async def update(n: int) -> Memory | None:
        try:
            return await driver.update(
                memory.memory_id, "ada", {"content": f"{NEW} {n}"}, if_match=[memory.updated_at]
            )
        except PreconditionFailed:
            return None

    made = [answer for answer in await asyncio.gather(*map(update, range(4))) if answer is not None]
    assert await driver.get(memory.memory_id, "ada") in made
    if case.compares_and_sets:
        assert len(made) == 1


async def test_an_import_replaces_what_is_older_and_nothing_else(driver: RecordDriver) -> None:
    memory = await stored(driver)
    knowledge = await driver.store_global_knowledge(OLD, "kitchen")
    after = await updated(driver, memory, {"content": NEW, "tags": ["work"]})
    known = await driver.update_knowledge(knowledge.knowledge_id, {"content": NEW})
    assert known is not None
    await driver.import_records([memory, knowledge])
    assert await driver.get(memory.memory_id, "ada") == after
    assert await driver.get_knowledge(knowledge.knowledge_id) == known

    later = max(after.updated_at, known.updated_at) + timedelta(microseconds=1)
    newer = replace(after, content="Basil likes the sun.", tags=["garden"], updated_at=later)
    knowledge = replace(known, content="Basil likes the sun.", category="g", updated_at=later)
    for _ in range(2):
        await driver.import_records([newer, knowledge])
        await driver.import_records([memory])
    assert await driver.get(memory.memory_id, "ada") == newer
    assert await driver.get_knowledge(knowledge.knowledge_id) == knowledge
    assert await driver.recall("ada") == [newer]
    assert await driver.recall("ada", query="train", use_vector=False) == []
    found = await driver.recall("ada", query="basil", use_vector=False)
    assert [each.memory_id for each in found] == [memory.memory_id]
    again = await driver.recall_global_knowledge("Basil likes the sun.", category="g")
    assert [each.knowledge_id for each in again] == [knowledge.knowledge_id]
    assert again[0].score == pytest.approx(1, abs=1e-4)


async def test_a_forgotten_user_has_no_updated_memories_either(driver: RecordDriver) -> None:
    memories = [await stored(driver) for _ in range(3)]
    bobs = await driver.store("bob", OLD)
    for memory in memories[:2]:
        await updated(driver, memory, {"content": NEW})
    assert await driver.delete_user("ada") == 3
    for memory in memories:
        assert await driver.get(memory.memory_id, "ada") is None
        assert await driver.update(memory.memory_id, "ada", {"content": OLD}) is None
    for arguments in WAYS:
        assert await driver.recall("ada", **arguments) == []
    assert await driver.recall("bob") == [bobs]
