"""What a driver still has to delete uses up no limit, however much of it there is."""

from uuid import UUID

from app.core.memory.cursor import Cursor
from app.core.memory.moments import EPOCH
from app.core.memory.pages import filled
from app.core.memory.records import Memory, NewKnowledge, NewMemory
from app.core.memory.requests import Page
from app.errors import DriverUnavailable
from tests.conformance.cases import WAYS
from tests.wrappers.conftest import OpenReplicated
from tests.wrappers.held import Held
from tests.wrappers.settled import settle

MANY = 230
"""More than a caller may ask for at once."""


def seven(user_id: str) -> list[NewMemory]:
    return [NewMemory(user_id=user_id, content="old kettle")] * 7


async def test_what_a_replica_still_has_to_delete_does_not_use_up_the_limit(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(acknowledge="journal")
    left = await driver.store_many(seven("ada"))
    for user in ("ada", "bob"):
        new = NewMemory(user_id=user, content="kettle", conversation_id="kitchen")
        await driver.store_many([new] * MANY)
    await settle(driver)
    first.error = DriverUnavailable()
    assert await driver.delete_many("ada", "kitchen") == MANY
    assert await driver.delete_user("bob") == MANY
    again = await driver.store_many(seven("bob"))
    assert len(await second.ids()) == 7 + 2 * MANY
    second.calls.clear()
    assert await driver.recall("bob", top_k=5) == again[:1:-1]
    assert (await driver.list_memories("bob", limit=5)).memories == again[:1:-1]
    assert second.calls == ["recall", "page"], "it is not asked for what the forgotten user had"
    for user, own in (("ada", left), ("bob", again)):
        for arguments in WAYS:
            found = await driver.recall(user, top_k=5, **arguments)
            assert [memory.content for memory in found] == ["old kettle"] * 5
        page = await driver.list_memories(user, limit=5)
        assert page.memories == own[:1:-1]
        page = await driver.list_memories(user, cursor=page.next_cursor, limit=5)
        assert (page.memories, page.next_cursor) == (own[1::-1], None)


async def test_a_document_that_a_replica_still_has_to_delete_does_not_use_up_the_limit(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(acknowledge="journal")
    old = NewKnowledge(content="old kettle", category="kitchen")
    left = await driver.store_knowledge_many([old] * 7)
    await driver.put_document("manual", category="kitchen", pieces=["kettle"] * MANY)
    await settle(driver)
    first.error = DriverUnavailable()
    assert await driver.delete_document("manual") == MANY
    assert len(await second.ids()) == 7 + MANY
    found = await driver.recall_global_knowledge("kettle", 5)
    assert [record.content for record in found] == ["old kettle"] * 5
    assert (await driver.list_knowledge(limit=7)).knowledge == left[::-1]


async def test_a_page_is_short_where_too_much_is_hidden() -> None:
    cursor = Cursor(EPOCH, UUID(int=1)).encode()
    limits: list[int] = []

    async def read(part: Page) -> tuple[list[Memory], str | None]:
        limits.append(part.limit)
        return [], cursor

    assert await filled(Page(user_id="ada", limit=5), read) == ([], cursor)
    assert limits == [5] + [100] * 100
