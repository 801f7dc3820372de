"""A recall for one user returns nothing of another, and nothing ever relaxes a scope."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory
from tests.conformance.cases import WAYS, examples, on_drivers, on_wrappers

LOOK_ALIKES = [
    ("ada", "Ada"),
    ("ada", "ada "),
    ("ada", " ada"),
    ("ada", "ad"),
    ("ada", "ada:sub"),
    ("ada", "ada%"),
    ("ada", "%"),
    ("ada", "a_a"),
    ("ada", "*"),
    ("ada", "ada*"),
    ("ada", "ada\n"),
    ("user:ada", "user/ada"),
    ("é", "e\u0301"),
    ("ß", "ss"),
    ("İstanbul", "istanbul"),
    ("ΟΔΟΣ", "οδος"),
    ("\u212a", "K"),
    ("\uff11", "1"),
    ("a\u200bda", "ada"),
    ("null", "None"),
    ("' or 1=1 --", "' or 1=1"),
    ('{"a":1}', '{"a": 1}'),
    ("a,b", "a"),
    ("\\", "\\\\"),
    ("🦊", "🐺"),
]
"""Pairs that some database, some collation or some pattern takes for one."""


async def everything_found(driver: RecordDriver, user_id: str) -> list[Memory]:
    """What every way of reading gives for the user."""
    found: list[Memory] = []
    found += await driver.recall(user_id, top_k=100)
    found += await driver.recall(user_id, query="a secret kettle", top_k=100)
    found += await driver.recall(user_id, query="secret", use_vector=False, top_k=100)
    found += await driver.recall(user_id, conversation_id="shared", top_k=100)
    found += await driver.recall(user_id, query="secret", exclude_tags=["other"], top_k=100)
    found += (await driver.list_memories(user_id, limit=100)).memories
    return found


def owners(found: Sequence[Memory]) -> set[str]:
    return {memory.user_id for memory in found}


async def test_users_that_look_alike_are_two(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    for one, other in LOOK_ALIKES:
        with subtests.test(one=one, other=other):
            for user in (one, other):
                secret = f"a secret of {user!r}"
                await driver.store(user, secret, conversation_id="shared", tags=[other])
            assert owners(await everything_found(driver, one)) == {one}
            assert owners(await everything_found(driver, other)) == {other}


user_ids = st.text(
    st.one_of(
        st.sampled_from("aA:%_*?/\\'\"\n\t ,;{}[]-éßİıſ🦊\u200b\u202e\u0301"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\x00"),
    ),
    min_size=1,
    max_size=40,
)


async def check_apart(driver: RecordDriver, one: str, other: str, tags: list[str]) -> None:
    stored = await driver.store(one, "a secret", conversation_id=other, tags=[*tags, other])
    assert owners(await everything_found(driver, one)) == {one}
    assert owners(await everything_found(driver, other)) <= {other}
    if other != one:
        assert not await driver.delete(stored.memory_id, other)
        assert await driver.get(stored.memory_id, other) is None
        await driver.delete_user(other)
        found = await driver.recall(one, top_k=100)
        assert stored.memory_id in {memory.memory_id for memory in found}


two_users = given(one=user_ids, other=user_ids, tags=st.lists(user_ids, max_size=4))


@on_drivers
@examples(30)
@two_users
async def test_no_user_id_reaches_another_users_memories(
    driver: RecordDriver, one: str, other: str, tags: list[str]
) -> None:
    await check_apart(driver, one, other, tags)


@on_wrappers
@examples(8)
@two_users
async def test_no_user_id_reaches_another_users_memories_through_a_wrapper(
    driver: RecordDriver, one: str, other: str, tags: list[str]
) -> None:
    await check_apart(driver, one, other, tags)


async def test_an_unknown_user_has_no_memories(driver: RecordDriver) -> None:
    await driver.store("ada", "a secret kettle")
    assert await everything_found(driver, "nobody") == []


async def test_a_conversation_with_too_little_is_not_filled_up(driver: RecordDriver) -> None:
    for n in range(5):
        await driver.store("ada", f"kettle {n}", conversation_id="kitchen")
    one = await driver.store("ada", "a kettle in the garden", conversation_id="garden")
    await driver.store("ada", "a kettle in no conversation")
    for arguments in WAYS:
        found = await driver.recall("ada", conversation_id="garden", **arguments)
        assert [memory.memory_id for memory in found] == [one.memory_id]


async def test_the_same_conversation_id_of_two_users_is_two_conversations(
    driver: RecordDriver,
) -> None:
    await driver.store("ada", "ada's kettle", conversation_id="1")
    await driver.store("bob", "bob's kettle", conversation_id="1")
    found = await driver.recall("ada", conversation_id="1", query="kettle")
    assert [memory.content for memory in found] == ["ada's kettle"]


async def test_one_id_of_two_users_is_two_memories(driver: RecordDriver) -> None:
    mine = await driver.store("ada", "ada's copper kettle")
    theirs = replace(mine, user_id="bob", content="the night train to Lyon")
    await driver.import_records([mine, theirs])
    for memory in (mine, theirs):
        found = await driver.recall(memory.user_id, query=memory.content)
        assert [one.content for one in found] == [memory.content]
    assert await driver.delete_user("ada") == 1
    assert await driver.recall("ada") == []
    assert await driver.recall("bob", query=theirs.content) != []
    assert await driver.delete(mine.memory_id, "bob")


async def test_memories_and_knowledge_do_not_mix(driver: RecordDriver) -> None:
    memory = await driver.store("ada", "a kettle of copper")
    knowledge = await driver.store_global_knowledge("a kettle of steel", "ada")
    assert owners(await driver.recall("ada", query="kettle")) == {"ada"}
    found = await driver.recall_global_knowledge("kettle")
    assert [record.knowledge_id for record in found] == [knowledge.knowledge_id]
    assert not await driver.delete(knowledge.knowledge_id, "ada")
    assert not await driver.delete_knowledge(memory.memory_id)
    assert owners(await driver.recall("ada", query="kettle")) == {"ada"}
    assert await driver.delete(memory.memory_id, "ada")
