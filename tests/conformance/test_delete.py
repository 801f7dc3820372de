"""Delete answers whether it deleted; missing and not yours look the same."""

from uuid import uuid4

import pytest

from app.core.memory.record_driver import RecordDriver
from app.errors import InvalidInput
from tests.conformance.cases import WAYS


async def test_a_deleted_memory_is_gone_everywhere(driver: RecordDriver) -> None:
    kept = await driver.store("ada", "a copper kettle", conversation_id="c")
    gone = await driver.store("ada", "a steel kettle", conversation_id="c")
    assert await driver.delete(gone.memory_id, "ada") is True
    for arguments in WAYS:
        found = await driver.recall("ada", conversation_id="c", **arguments)
        assert [memory.memory_id for memory in found] == [kept.memory_id]
    assert await driver.get(gone.memory_id, "ada") is None


async def test_a_second_delete_finds_nothing(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "kettle")
    assert await driver.delete(stored.memory_id, "ada") is True
    assert await driver.delete(stored.memory_id, "ada") is False


async def test_another_users_memory_is_not_deleted(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "kettle")
    assert await driver.delete(stored.memory_id, "bob") is False
    assert await driver.delete(stored.memory_id, "Ada") is False
    assert len(await driver.recall("ada")) == 1


async def test_without_a_user_any_memory_is_deleted(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "kettle")
    assert await driver.delete(stored.memory_id) is True
    assert await driver.delete(str(uuid4())) is False


async def test_an_id_in_capitals_is_the_same_id(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "kettle")
    assert await driver.delete(stored.memory_id.upper(), "ada") is True


async def test_a_malformed_id_is_refused(driver: RecordDriver, subtests: pytest.Subtests) -> None:
    for memory_id in ("", "x", "1", "%", "by-tag?tags=a", "\x00", "g" * 36):
        with subtests.test(memory_id=memory_id), pytest.raises(InvalidInput):
            await driver.delete(memory_id, "ada")


async def test_a_forgotten_user_has_nothing_and_others_keep_theirs(
    driver: RecordDriver,
) -> None:
    for n in range(3):
        await driver.store("ada", f"kettle {n}")
    await driver.store("bob", "kettle")
    assert await driver.delete_user("ada") == 3
    assert await driver.delete_user("ada") == 0
    assert await driver.recall("ada", query="kettle") == []
    assert len(await driver.recall("bob")) == 1


async def test_users_of_any_id_are_forgotten_each_by_itself(driver: RecordDriver) -> None:
    users = [".", "..", "org//team", "org/team", "a%2Fb", "a/b", " ", " ada", "ada ", "ada", "%"]
    for user_id in users:
        await driver.store(user_id, "kettle")
    for n, user_id in enumerate(users):
        assert await driver.delete_user(user_id) == 1
        for other in users[n + 1 :]:
            assert len(await driver.recall(other)) == 1
        assert await driver.recall(user_id) == []
    for user_id in ("", "\x00", "a\x00", "\ud800", "a" * 257):
        with pytest.raises(InvalidInput):
            await driver.delete_user(user_id)
