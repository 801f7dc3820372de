"""Users are listed by their ids, with how many memories each has."""

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewMemory, UserCount, UserPage
from app.errors import CapabilityMissing, InvalidInput
from tests.conformance.expiring import until_expired

NAMES = ["\n", " ada", ".", "..", "A", "Ada", "a%2Fb", "ada", "ada\x01", "ada ", "bob", "org//team",
         "~", "é", "ﬀ", "\U0001f600", "\U0010ffff"]  # fmt: skip
"""In code-point order: UTF-16 has the last two before the one ahead of them."""


@pytest.fixture
async def lists(driver: RecordDriver) -> RecordDriver:
    """The driver, of those that list users."""
    if "list_users" not in driver.capabilities():
        with pytest.raises(CapabilityMissing):
            await driver.list_users()
        pytest.skip("it does not list users")
    return driver


async def store(driver: RecordDriver, counts: dict[str, int]) -> None:
    batch = [
        NewMemory(user_id=user_id, content="kettle")
        for user_id, count in counts.items()
        for _ in range(count)
    ]
    await driver.store_many(batch)


async def listed(driver: RecordDriver, limit: int) -> list[UserCount]:
    """All users, from pages of that size."""
    users: list[UserCount] = []
    cursor = None
    while True:
        page = await driver.list_users(cursor, limit)
        assert len(page.users) <= limit
        users += page.users
        if page.next_cursor is None:
            return users
        cursor = page.next_cursor


async def test_pages_have_every_user_once_by_code_points(lists: RecordDriver) -> None:
    counts = {name: 1 + n % 3 for n, name in enumerate(NAMES)}
    await store(lists, dict(sorted(counts.items(), reverse=True)))
    await lists.store_global_knowledge("kettle", "kitchen")
    wanted = [UserCount(name, counts[name]) for name in sorted(NAMES)]
    for limit in (1, 3, len(NAMES), 100):
        assert await listed(lists, limit) == wanted
    assert (await lists.list_users(limit=len(NAMES))).next_cursor is None
    assert (await lists.list_users(limit=3)).next_cursor is not None


async def test_without_memories_there_is_no_user(lists: RecordDriver) -> None:
    assert await lists.list_users() == UserPage([], None)
    await lists.store_global_knowledge("kettle", "kitchen")
    assert await lists.list_users() == UserPage([], None)


async def test_every_delete_is_counted_at_once(lists: RecordDriver) -> None:
    await store(lists, {"ada": 3, "bob": 3, "cleo": 3})
    memory = await lists.store("ada", "a copper kettle", "c")
    assert await lists.delete(memory.memory_id, "ada")
    await lists.update((await lists.store("bob", "basil", "c")).memory_id, "bob", {"tags": ["x"]})
    assert await lists.delete_many("bob", "c") == 1
    assert await lists.delete_user("cleo") == 3
    wanted = [UserCount("ada", 3), UserCount("bob", 3)]
    assert await listed(lists, 1) == await listed(lists, 50) == wanted


async def test_what_has_expired_does_not_count(lists: RecordDriver) -> None:
    await store(lists, {"ada": 2})
    for user_id in ("ada", "bob"):
        await lists.store(user_id, "kettle", ttl=0.001)
        await until_expired(lists, user_id, 2 if user_id == "ada" else 0)
    assert await listed(lists, 1) == [UserCount("ada", 2)]


async def test_pages_stay_exact_while_others_write(lists: RecordDriver) -> None:
    await store(lists, dict.fromkeys("bdfhj", 2))
    first = await lists.list_users(limit=2)
    await lists.delete_user("d")  # where the page ended
    await store(lists, {"a": 1, "e": 1, "f": 1})
    rest = await lists.list_users(first.next_cursor, limit=100)
    assert [*first.users, *rest.users] == [
        UserCount(name, count)
        for name, count in [("b", 2), ("d", 2), ("e", 1), ("f", 3), ("h", 2), ("j", 2)]
    ]


async def test_a_cursor_that_no_page_gave_is_refused(
    lists: RecordDriver, subtests: pytest.Subtests
) -> None:
    for cursor in ("", "x", "é", "AA==", "YWRh\n", "YWRh=", "/w==", "_w=="):
        with subtests.test(cursor=cursor), pytest.raises(InvalidInput):
            await lists.list_users(cursor)
    for limit in (0, 101, True):
        with subtests.test(limit=limit), pytest.raises(InvalidInput):
            await lists.list_users(limit=limit)
