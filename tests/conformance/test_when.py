"""When a memory happened: it comes back as it was given, and what is newest goes by it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, NewMemory
from app.errors import InvalidInput
from app.ranking import DATE

EAST = timezone(timedelta(hours=9))
WEST = timezone(-timedelta(hours=9, minutes=30))
NOON = datetime(2024, 2, 29, 12, 0, 0, 123_456, UTC)


async def every_read(driver: RecordDriver, memory: Memory) -> list[Memory | None]:
    """The memory, the only one, as each read gives it."""
    return [
        await driver.get(memory.memory_id, memory.user_id),
        *await driver.recall(memory.user_id),
        *await driver.recall(memory.user_id, query="kettle"),
        *(await driver.list_memories(memory.user_id)).memories,
        *[r async for r in driver.export_records() if isinstance(r, Memory)],
    ]


async def pages(driver: RecordDriver, limit: int, conversation: str | None = None) -> list[str]:
    """All of ada's memories, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page = await driver.list_memories("ada", conversation, cursor, limit)
        found += [memory.content for memory in page.memories]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize(
    "given",
    [
        NOON.astimezone(EAST),
        NOON.astimezone(WEST),
        NOON,
        NOON.astimezone(timezone(timedelta(hours=23, minutes=59))),
        datetime(1, 1, 3, tzinfo=EAST),
        datetime(1, 1, 4, 23, 59, 59, 999_999, WEST),
        datetime(9999, 12, 28, 23, 59, 59, 999_999, EAST),
        datetime(9999, 12, 29, tzinfo=WEST),
        datetime(1883, 11, 18, 12, tzinfo=timezone(-timedelta(hours=4, minutes=56))),
    ],
    ids=str,
)
async def test_the_moment_comes_back_with_its_offset(driver: RecordDriver, given: datetime) -> None:
    memory = await driver.store("ada", "kettle", occurred_at=given)
    assert memory.created_at != given
    found = await every_read(driver, memory)
    assert len(found) == 5
    for one in [memory, *found]:
        assert one is not None
        assert one.occurred_at.isoformat() == given.isoformat()


async def test_by_default_it_is_the_creation_and_without_an_offset_it_is_utc(
    driver: RecordDriver,
) -> None:
    naive, default = await driver.store_many(
        [
            NewMemory(user_id="ada", content="kettle", occurred_at=NOON.replace(tzinfo=None)),
            NewMemory(user_id="bob", content="kettle"),
        ]
    )
    assert naive.occurred_at.isoformat() == NOON.isoformat()
    assert await driver.recall("ada") == [naive]
    assert default.occurred_at == default.created_at
    assert await driver.recall("bob") == [default]
    assert default.occurred_at.utcoffset() == timedelta()


REFUSED: list[Any] = [
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1, 1, 1, 0, 0, tzinfo=EAST),
    datetime(9999, 12, 31, 23, tzinfo=WEST),
    datetime(9999, 12, 31),
    1_715_601_600,
    "yesterday",
    "2024-02-30T00:00:00Z",
]


async def test_what_is_no_moment_is_refused_and_nothing_is_stored(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    memory = await driver.store("ada", "kettle")
    for given in REFUSED:
        with subtests.test(given=given):
            for refused in (
                driver.store("ada", "x", occurred_at=given),
                driver.update(memory.memory_id, "ada", {"occurred_at": given}),
            ):
                with pytest.raises(InvalidInput) as refusal:
                    await refused
                assert refusal.value.loc == ("occurred_at",)
    assert await driver.recall("ada") == [memory]


async def test_the_newest_are_those_that_happened_last(driver: RecordDriver) -> None:
    # In the order of the moments; by their own clocks, and by the store, they are in others.
    moments = {
        "first": datetime(1, 1, 3, tzinfo=UTC),
        "second": datetime(2024, 3, 1, 1, tzinfo=EAST),
        "third": datetime(2024, 2, 29, 20, tzinfo=UTC),
        "fourth": datetime(2024, 2, 29, 12, tzinfo=WEST),
        "last": datetime(9999, 12, 29, tzinfo=UTC),
    }
    for content in ("third", "last", "first", "fourth", "second"):
        await driver.store("ada", content, "kitchen", occurred_at=moments[content])
    await driver.store("ada", "now", "kitchen")
    expected = ["last", "now", "fourth", "third", "second", "first"]
    for conversation in (None, "kitchen"):
        for top_k in (3, 6):
            found = await driver.recall("ada", conversation, top_k=top_k)
            assert [memory.content for memory in found] == expected[:top_k]
        for limit in (1, 2, 4, 6):
            assert await pages(driver, limit, conversation) == expected


async def test_pages_continue_amid_memories_of_one_moment(driver: RecordDriver) -> None:
    offsets = (UTC, EAST, WEST)
    stored = await driver.store_many(
        [
            NewMemory(user_id="ada", content=str(n), occurred_at=NOON.astimezone(offsets[n % 3]))
            for n in range(7)
        ]
    )
    expected = [memory.content for memory in stored[::-1]]
    for limit in (1, 2, 3, 7):
        assert await pages(driver, limit) == expected
    assert [memory.content for memory in await driver.recall("ada")] == expected


async def test_pages_have_everything_once_while_others_store_and_delete(
    driver: RecordDriver,
) -> None:
    stored = await driver.store_many(
        [
            NewMemory(user_id="ada", content=f"stays {n}", occurred_at=NOON + timedelta(days=n))
            for n in range(12)
        ]
    )
    goes = [
        await driver.store("ada", f"goes {n}", occurred_at=NOON + timedelta(days=n, hours=1))
        for n in range(12)
    ]
    found: list[Memory] = []
    cursor = None
    while True:
        page = await driver.list_memories("ada", cursor=cursor, limit=3)
        found += page.memories
        cursor = page.next_cursor
        if cursor is None:
            break
        last = page.memories[-1]
        # Where the page ended, before that and behind it.
        await driver.delete(last.memory_id, "ada") if last in goes else None
        for days in (-1, 0, 1):
            moment = last.occurred_at + timedelta(days=days)
            await driver.store("ada", "new", occurred_at=moment)
        await driver.delete(goes.pop().memory_id, "ada")
        assert len(found) < 100
    places = [(memory.occurred_at, memory.memory_id) for memory in found]
    assert places == sorted(set(places), reverse=True)
    stays = [memory.content for memory in found if memory.content.startswith("stays")]
    assert stays == [memory.content for memory in stored[::-1]]


async def test_an_update_moves_the_memory(driver: RecordDriver) -> None:
    first, second = [
        await driver.store("ada", name, occurred_at=NOON + timedelta(days=n))
        for n, name in enumerate(("first", "second"))
    ]
    moved = await driver.update(
        first.memory_id, "ada", {"occurred_at": (NOON + timedelta(days=2)).astimezone(EAST)}
    )
    assert moved is not None
    assert moved.updated_at > first.updated_at
    assert await driver.recall("ada") == [moved, second]
    assert (await driver.list_memories("ada")).memories == [moved, second]
    assert (await driver.recall("ada"))[0].occurred_at.utcoffset() == timedelta(hours=9)
    west = await driver.update(
        first.memory_id, "ada", {"occurred_at": moved.occurred_at.astimezone(WEST)}
    )
    assert west is not None
    assert west.updated_at > moved.updated_at
    (found, _) = await driver.recall("ada")
    assert found.occurred_at.isoformat() == west.occurred_at.isoformat()
    same = await driver.update(first.memory_id, "ada", {"occurred_at": west.occurred_at})
    assert same == west
    back = await driver.update(first.memory_id, "ada", {"occurred_at": None})
    assert back is not None
    assert back.occurred_at == back.created_at == first.created_at
    assert await driver.recall("ada") == [back, second]


async def test_an_import_keeps_it(driver: RecordDriver) -> None:
    memory = await driver.store("ada", "kettle", occurred_at=NOON.astimezone(EAST))
    copy = replace(memory, user_id="bob")
    await driver.import_records([copy])
    (found,) = await driver.recall("bob")
    assert found == copy
    assert found.occurred_at.isoformat() == memory.occurred_at.isoformat()
    later = replace(
        copy,
        occurred_at=NOON.astimezone(WEST),
        updated_at=memory.updated_at + timedelta(microseconds=1),
    )
    await driver.import_records([later])
    (found,) = await driver.recall("bob")
    assert found.occurred_at.isoformat() == later.occurred_at.isoformat()


async def test_the_day_is_that_of_the_given_offset(driver: RecordDriver) -> None:
    if "explain_recall" not in driver.capabilities():
        return
    given = {
        "east": "2023-05-08T01:30:00+09:00",
        "utc": "2023-05-07T23:00:00+00:00",
        "west": "2023-05-07T22:30:00-05:00",
    }
    for content, moment in given.items():
        metadata = {"date": "2020-01-01"}  # what is said counts, not what the metadata tells
        at = datetime.fromisoformat(moment)
        await driver.store("ada", content, metadata=metadata, occurred_at=at)

    async def named(query: str) -> set[str]:
        found = await driver.recall("ada", query=query, explain=True)
        points = {one.content: one.explanation and one.explanation.date for one in found}
        return {content for content, point in points.items() if point == DATE}

    assert await named("What happened on 8 May 2023?") == {"east"}
    assert await named("What happened on 7 May 2023?") == {"east", "utc", "west"}
    assert await named("What happened on 1 January 2020?") == set()


async def test_years_at_both_ends_of_the_calendar_are_found(driver: RecordDriver) -> None:
    first, last = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
    stored = [await driver.store("ada", "kettle", occurred_at=at) for at in (first, last)]
    for query in ("kettle", "the kettle of 8 May", "the kettle of 9999", "the kettle yesterday"):
        for use_vector in (True, False):
            found = await driver.recall("ada", query=query, use_vector=use_vector)
            assert {memory.memory_id for memory in found} == {one.memory_id for one in stored}
