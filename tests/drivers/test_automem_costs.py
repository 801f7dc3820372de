"""A filter, a delete of many and a list of users cost the calls that AutoMem's page says."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.core.memory.records import Memory, NewKnowledge, NewMemory
from app.drivers.automem import AutomemDriver
from tests.drivers.automem_fake import FakeAutomem

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
COUNT = 950
PAGES = COUNT / 190


async def fill(driver: AutomemDriver) -> list[Memory]:
    """Ada's memories; every tenth is of the project x."""
    new = [
        NewMemory(
            user_id="ada",
            content=f"kettle number {n}",
            metadata={"project": "y" if n % 10 else "x"},
            occurred_at=NOON + timedelta(minutes=n),
        )
        for n in range(COUNT)
    ]
    return await driver.store_many(new)


OF_X = {"metadata": {"project": "x"}}


def calls(fake: FakeAutomem) -> Counter[str]:
    """How many calls of each method there were since the last look."""
    found = Counter(method for method, _ in fake.calls)
    fake.calls.clear()
    return found


@pytest.mark.parametrize(
    ("wanted", "most"),
    [
        ({"filter": OF_X, "top_k": 10}, 1),
        ({"filter": OF_X, "top_k": 50}, PAGES),
        ({"filter": {"metadata": {"project": "z"}}}, PAGES + 1),
        ({"filter": OF_X, "query": "kettle number 7", "top_k": 2}, 2),
        ({"filter": OF_X, "query": "kettle number 7", "top_k": 90}, PAGES + 2),
        ({"filter": OF_X, "query": "kettle number 7", "use_vector": False}, PAGES + 1),
    ],
)
async def test_a_recall_with_a_filter(
    automem: AutomemDriver, fake: FakeAutomem, wanted: dict[str, Any], most: float
) -> None:
    await fill(automem)
    fake.calls.clear()
    found = await automem.recall("ada", **wanted)
    assert calls(fake)["GET"] <= most
    assert all(memory.metadata == wanted["filter"]["metadata"] for memory in found)


async def test_a_list_costs_a_call_a_page_and_with_a_filter_what_it_passes_over(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await fill(automem)
    fake.calls.clear()
    for wanted, limit, more in ((None, 50, 0.0), (OF_X, 10, 2 * PAGES)):
        pages, cursor = 0, None
        while cursor is not None or not pages:
            page = await automem.list_memories("ada", None, cursor, limit, filter=wanted)
            pages, cursor = pages + 1, page.next_cursor
        assert calls(fake)["GET"] <= pages + more


async def test_a_delete_of_many(automem: AutomemDriver, fake: FakeAutomem) -> None:
    stored = await fill(automem)
    fake.calls.clear()
    assert await automem.delete_many("ada", filter=OF_X, dry_run=True) == 95
    assert calls(fake)["GET"] <= PAGES + 1
    assert await automem.delete_many("ada", filter=OF_X) == 95
    made = calls(fake)
    assert made["DELETE"] == 95
    assert made["GET"] <= 95 / 60 + 2 * PAGES + 2
    assert len(fake.graph) == COUNT - 95
    before = stored[COUNT // 2].created_at + timedelta(milliseconds=1)
    left = await automem.delete_many("ada", before=before)
    made = calls(fake)
    assert made["DELETE"] == left > 0
    assert made["GET"] <= left / 60 + 4 * PAGES


async def test_a_page_of_users(automem: AutomemDriver, fake: FakeAutomem) -> None:
    await automem.store_many(
        [NewMemory(user_id=f"user {n % 40:02}", content=f"kettle {n}") for n in range(COUNT)]
    )
    await automem.store_knowledge_many(
        [NewKnowledge(content=f"kettle {n}", category="c") for n in range(190)]
    )
    fake.calls.clear()
    page = await automem.list_users(limit=30)
    assert calls(fake)["GET"] <= PAGES + 2
    assert [user.user_id for user in page.users] == [f"user {n:02}" for n in range(30)]
    rest = await automem.list_users(page.next_cursor, limit=30)
    assert rest.next_cursor is None
    assert sum(user.memories for user in [*page.users, *rest.users]) == COUNT
