"""A filter finds what the evaluator lets through: on every driver, whatever keys and values."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given

from app.core.memory.filter import read_filter
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory, NewKnowledge, NewMemory
from app.settings import Limits
from tests.conformance.cases import WAYS, examples, on_drivers, on_wrappers
from tests.filters import HOSTILE, NESTED, PLAIN, Case, cases

LIMITS = Limits()


def let_through(records: Sequence[Memory], wanted: dict[str, Any]) -> set[str]:
    read = read_filter(wanted, LIMITS)
    return {memory.memory_id for memory in records if read.lets(memory)}


def ids(found: Sequence[Memory]) -> list[str]:
    return [memory.memory_id for memory in found]


async def check_memories(driver: RecordDriver, case: Case) -> None:
    user = str(uuid4())
    stored = await driver.store_many(
        [
            NewMemory(user_id=user, content="kettle", tags=tags, metadata=metadata)
            for metadata, tags in zip(*case[:2], strict=True)
        ]
    )
    for wanted in case[2]:
        right = let_through(stored, wanted)
        for way in WAYS:
            found = ids(await driver.recall(user, top_k=100, filter=wanted, **way))
            assert len(found) == len(set(found))
            assert set(found) == right, (way, wanted)
        page = await driver.list_memories(user, limit=100, filter=wanted)
        assert set(ids(page.memories)) == right, wanted


@on_drivers
@examples(25)
@given(case=cases())
async def test_a_filter_finds_the_memories_that_it_lets_through(
    driver: RecordDriver, case: Case
) -> None:
    await check_memories(driver, case)


@on_wrappers
@examples(5)
@given(case=cases())
async def test_a_filter_finds_the_same_through_a_wrapper(driver: RecordDriver, case: Case) -> None:
    await check_memories(driver, case)


async def check_knowledge(driver: RecordDriver, case: Case) -> None:
    run = str(uuid4())
    batch = [
        NewKnowledge(
            content="kettle",
            category=run if n % 2 else "other",
            doc_id=run if n % 3 else None,
            metadata={**metadata, "run": run},
        )
        for n, metadata in enumerate(case[0])
    ]
    stored = await driver.store_knowledge_many(batch)
    for own in case[2]:
        wanted = {"metadata": {**own["metadata"], "run": run}}
        read = read_filter(wanted, LIMITS, knowledge=True)
        for category in (None, run):
            for doc_id in (None, run):
                right = {
                    one.knowledge_id
                    for one in stored
                    if read.lets(one)
                    and category in (None, one.category)
                    and doc_id in (None, one.doc_id)
                }
                found = await driver.recall_global_knowledge(
                    "kettle", 100, category, doc_id=doc_id, filter=wanted
                )
                assert {one.knowledge_id for one in found} == right, (category, doc_id, wanted)


@on_drivers
@examples(15)
@given(case=cases())
async def test_a_filter_finds_the_knowledge_that_it_lets_through(
    driver: RecordDriver, case: Case
) -> None:
    await check_knowledge(driver, case)


@on_wrappers
@examples(3)
@given(case=cases())
async def test_a_filter_finds_the_same_knowledge_through_a_wrapper(
    driver: RecordDriver, case: Case
) -> None:
    await check_knowledge(driver, case)


@on_drivers
async def test_every_value_is_compared_with_every_other_as_the_evaluator_does(
    driver: RecordDriver,
) -> None:
    own = [{"k": value} for value in [*PLAIN, *NESTED]] + [{"other": 1}, {}]
    batch = [NewMemory(user_id="ada", content="kettle", metadata=metadata) for metadata in own]
    stored = await driver.store_many(batch)
    assert len(batch) <= 100
    for value in PLAIN:
        wanted = [{"eq": value}, {"nin": [value, "kettle"]}]
        if value is not None and not isinstance(value, bool):
            wanted += [{"gt": value}, {"lte": value}]
        for one in wanted:
            given: dict[str, Any] = {"metadata": {"k": one}}
            page = await driver.list_memories("ada", limit=100, filter=given)
            assert set(ids(page.memories)) == let_through(stored, given), one


@on_drivers
async def test_every_key_is_a_key_and_nothing_else(driver: RecordDriver) -> None:
    batch = [NewMemory(user_id="ada", content="kettle", metadata={key: key}) for key in HOSTILE]
    stored = await driver.store_many(batch)
    for memory, key in zip(stored, HOSTILE, strict=True):
        for wanted in (key, {"exists": True}, {"gte": key}):
            found = await driver.recall("ada", top_k=100, filter={"metadata": {key: wanted}})
            assert ids(found) == [memory.memory_id], (key, wanted)


async def test_a_filter_comes_before_the_limit(driver: RecordDriver) -> None:
    batch = [
        NewMemory(
            user_id="ada",
            content=f"kettle {n}",
            conversation_id=f"c{n % 2}",
            tags=["third"] if n % 3 == 0 else ["other"],
            metadata={"n": n, "third": n % 3 == 0},
        )
        for n in range(60)
    ]
    stored = await driver.store_many(batch)
    for wanted in ({"tags": {"any": ["third"]}}, {"metadata": {"third": True}}):
        for way in WAYS:
            found = await driver.recall("ada", top_k=20, filter=wanted, **way)
            assert len(found) == 20
            assert {memory.metadata["n"] % 3 for memory in found} == {0}
            found = await driver.recall("ada", "c1", top_k=10, filter=wanted, **way)
            assert {memory.metadata["n"] % 6 for memory in found} == {3}
            assert len(found) == 10
        listed: list[Memory] = []
        cursor: str | None = None
        while cursor is not None or not listed:
            page = await driver.list_memories("ada", cursor=cursor, limit=7, filter=wanted)
            assert len(page.memories) == 7 or page.next_cursor is None
            listed += page.memories
            cursor = page.next_cursor
        assert listed == stored[::-1][2::3]


async def test_a_filter_of_knowledge_comes_before_the_limit(driver: RecordDriver) -> None:
    batch = [
        NewKnowledge(
            content=f"kettle {n}",
            category=f"c{n % 2}",
            doc_id=f"d{n % 4}",
            metadata={"n": n, "third": n % 3 == 0},
        )
        for n in range(48)
    ]
    await driver.store_knowledge_many(batch)
    third: dict[str, Any] = {"metadata": {"third": True}}

    async def found(**more: Any) -> list[int]:
        records = await driver.recall_global_knowledge("kettle", **more)
        return sorted(record.metadata["n"] for record in records)

    assert await found(top_k=16, filter=third) == [*range(0, 48, 3)]
    assert await found(top_k=8, filter=third, category="c1") == [*range(3, 48, 6)]
    assert await found(top_k=12, doc_id="d1") == [*range(1, 48, 4)]
    assert await found(top_k=4, filter=third, doc_id="d1") == [*range(9, 48, 12)]
    assert await found(top_k=4, doc_id="d1", category="c0") == []
    assert await found(doc_id="d") == []


async def test_a_filter_finds_nothing_of_others(driver: RecordDriver) -> None:
    metadata = {"user_id": "bob", "k": 1}
    for user in ("ada", "bob"):
        await driver.store(user, "kettle", tags=["t"], metadata=metadata)
    await driver.store_global_knowledge("kettle", "c", metadata=metadata)
    wanted: list[dict[str, Any]] = [
        {"metadata": {"user_id": "bob"}},
        {"metadata": {"user_id": {"ne": "ada"}}},
        {"metadata": {"user_id": {"exists": True}, "nothing": {"exists": False}}},
        {"tags": {"any": ["t"], "none": ["s"]}},
        {"created": {"from": "2020-01-01T00:00:00Z"}},
    ]
    for one in wanted:
        for way in WAYS:
            found = await driver.recall("ada", filter=one, **way)
            assert [memory.user_id for memory in found] == ["ada"]
            assert await driver.recall("nobody", filter=one, **way) == []
        assert [m.user_id for m in (await driver.list_memories("ada", filter=one)).memories] == [
            "ada"
        ]
    knowledge = await driver.recall_global_knowledge("kettle", filter=wanted[0])
    assert [type(record) for record in knowledge] == [Knowledge]


MOMENTS = [
    datetime(1, 1, 3, 0, 0, 0, 1, UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(2026, 5, 8, 1, 30, tzinfo=timezone(timedelta(hours=9))),
    datetime(2026, 5, 7, 16, 30, 0, 1, UTC),
    datetime(9999, 12, 29, 23, 59, 59, 999_999, UTC),
]


async def test_a_span_begins_inside_and_ends_outside(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    batch = [NewMemory(user_id="ada", content="kettle", occurred_at=when) for when in MOMENTS]
    stored = await driver.store_many(batch)
    for n, moment in enumerate(MOMENTS):
        with subtests.test(moment=moment):
            for way in WAYS:
                spans = [({"from": moment.isoformat()}, stored[n:])]
                spans.append(({"to": moment.isoformat()}, stored[:n]))
                for span, right in spans:
                    found = await driver.recall("ada", filter={"occurred": span}, **way)
                    assert set(ids(found)) == set(ids(right))
    created = stored[0].created_at.isoformat()
    later = (stored[-1].created_at + timedelta(microseconds=1)).isoformat()
    for way in WAYS:
        for span, count in (
            ({"from": created, "to": later}, len(stored)),
            ({"to": created}, 0),
            ({"from": later}, 0),
        ):
            assert len(await driver.recall("ada", filter={"created": span}, **way)) == count


async def test_what_a_filter_finds_follows_updates_and_deletes(driver: RecordDriver) -> None:
    wanted: dict[str, Any] = {"metadata": {"state": "open"}}
    memory = await driver.store("ada", "kettle", metadata={"state": "open"})
    other = await driver.store("ada", "kettle", metadata={"state": "late"})

    async def found() -> set[str]:
        every = [await driver.recall("ada", filter=wanted, **way) for way in WAYS]
        assert every[0]
        assert len({frozenset(ids(one)) for one in every}) == 1
        return set(ids(every[0]))

    assert await found() == {memory.memory_id}
    await driver.update(other.memory_id, "ada", {"metadata": {"state": "open"}})
    assert await found() == {memory.memory_id, other.memory_id}
    await driver.update(memory.memory_id, "ada", {"metadata": {"state": None}})
    assert await found() == {other.memory_id}
    await driver.store("ada", "kettle", metadata={"state": ["late", "open"]})
    await driver.delete(other.memory_id, "ada")
    assert len(await found()) == 1
