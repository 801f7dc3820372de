"""After each delete nothing of the record is written anywhere, but what a guide says.

The tables, keys, indexes and files are found by asking what there is: a new one takes part.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from app.core.memory.base import DriverHealth
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, deletable_from
from tests.clocks import let_pass
from tests.conformance.cases import WAYS, Case, on_drivers
from tests.conformance.left import Places, Rows
from tests.conformance.makers import Surroundings
from tests.wrappers.held import until

MARK = "xylotwig"
"""A word of everything that is deleted, and of nothing else."""
LONG = f"The {MARK} stands by the kettle, and the basil wants water on Sundays. " * 15
HALF_A_DAY = timedelta(hours=12)

STAYS = (
    *("memory_changes", "journal_tombstones", "sqlite_sequence", ":generation:", ":vector:"),
    *("Mark put", "memory-k put"),
)
"""What is left on purpose, and has nothing of a record but ids; docs/api.md tells for how long."""
CHANGES = (":stamps",)
"""What has as many fields as before, with other values."""
CACHE = "memory-cache:"
"""Where answers are kept: some of those to other questions may be gone, too."""


@pytest.fixture
def places(around: Surroundings) -> Places:
    return Places(around)


@pytest.fixture
async def driver(case: Case, places: Places) -> AsyncIterator[RecordDriver]:
    async with case.driver(places.around) as driver:
        yield driver


async def _store(driver: RecordDriver, user_id: str = "ada", **more: Any) -> Memory:
    """A memory that has the mark wherever there is room."""
    return await driver.store(
        user_id, LONG, f"about {MARK}", [MARK, "x"], {MARK: MARK, "n": 7}, **more
    )


async def _store_knowledge(driver: RecordDriver, **more: Any) -> str:
    stored = await driver.store_global_knowledge(
        LONG, f"{MARK}s", f"On {MARK}", more.pop("doc_id", f"{MARK}.md"), {MARK: MARK}, **more
    )
    return stored.knowledge_id


async def _put(driver: RecordDriver, doc_id: str = "kettles", text: str = LONG) -> None:
    await driver.put_document(
        doc_id,
        category=f"{MARK}s" if MARK in text else "c",
        text=text,
        piece_chars=500,
        metadata={"about": text[:20]},
    )


async def _read(driver: RecordDriver) -> None:
    """Read in every way, and again: whatever is kept of answers and of users is kept then."""
    for _ in range(3):
        for way in WAYS:
            await driver.recall("ada", top_k=50, **way)
        for wanted in ({"tags": {"any": [MARK]}}, {"metadata": {MARK: {"exists": True}}}):
            await driver.recall("ada", query=f"{MARK} kettle", filter=wanted)
        await driver.recall("ada", f"about {MARK}", MARK)
        await driver.recall_global_knowledge(f"{MARK} kettle")
        await driver.recall_global_knowledge(MARK, category=f"{MARK}s")
        await driver.list_memories("ada")


async def _deleted(driver: RecordDriver) -> None:
    memory = await _store(driver)
    await _read(driver)
    assert await driver.delete(memory.memory_id, "ada")


async def _deleted_whoever_owns_it(driver: RecordDriver) -> None:
    memory = await _store(driver)
    await _read(driver)
    assert await driver.delete(memory.memory_id)


async def _updated_and_deleted(driver: RecordDriver) -> None:
    memory = await _store(driver)
    await driver.update(memory.memory_id, "ada", {"content": f"{LONG} Again.", "tags": [MARK]})
    await _read(driver)
    assert await driver.delete(memory.memory_id, "ada")


async def _many_deleted(driver: RecordDriver) -> None:
    for _ in range(3):
        await _store(driver)
    await _read(driver)
    assert await driver.delete_many("ada", filter={"tags": {"any": [MARK]}}) == 3


async def _forgotten(driver: RecordDriver) -> None:
    await _store(driver, user_id="eve")
    await _store(driver, user_id="eve", ttl=1_000)
    for way in WAYS:
        await driver.recall("eve", **way)
        await driver.recall("eve", **way)
    assert await driver.delete_user("eve") == 2


async def _knowledge_deleted(driver: RecordDriver) -> None:
    stored = await _store_knowledge(driver)
    await _read(driver)
    assert await driver.delete_knowledge(stored)


async def _replaced(driver: RecordDriver) -> None:
    """The put replaces three pieces and a record by what was there before all of it."""
    await _put(driver)
    await _store_knowledge(driver, doc_id="kettles")
    await _read(driver)
    await driver.delete_document("kettles")
    await _put(driver)
    await _read(driver)
    await _put(driver, text="A short one.")
    await driver.delete_document("kettles")


async def _document_deleted(driver: RecordDriver) -> None:
    await _put(driver)
    await _store_knowledge(driver, doc_id="kettles")
    await _read(driver)
    assert await driver.delete_document("kettles") > 2


async def _expired(driver: RecordDriver) -> None:
    """Answers that are kept end by the clock of whoever keeps them, which is not let run."""
    memory = await _store(driver, ttl=1)
    await _store_knowledge(driver, ttl=1)
    await _read(driver)
    await asyncio.sleep(1)
    due = deletable_from(memory)
    assert due is not None
    let_pass(driver, due + HALF_A_DAY)
    for leaf in driver.leaves():
        if hasattr(leaf, "sweeper"):
            await leaf.sweeper.sweep()
        else:
            sweeps = await driver.store("ada", "It deletes where it stores.")
            await driver.delete(sweeps.memory_id, "ada")


WAYS_TO_GO = {
    "delete": _deleted,
    "delete without a user": _deleted_whoever_owns_it,
    "delete after an update": _updated_and_deleted,
    "delete_many": _many_deleted,
    "forget": _forgotten,
    "delete_knowledge": _knowledge_deleted,
    "put_document": _replaced,
    "delete_document": _document_deleted,
    "expiry": _expired,
}


async def _written(driver: RecordDriver, places: Places) -> Rows:
    """What is written, and the figures of what is kept, once every driver has everything."""

    async def delivered() -> bool:
        return not any([state.facts.get("pending") async for state in _states(driver)])

    await until(delivered)
    rows = await places.written()
    figures = [state.facts.get("entries", 0) async for state in _states(driver)]
    return rows | {CACHE: [f"answer {n}" for n in range(sum(figures))]}


async def _states(driver: RecordDriver) -> AsyncIterator[DriverHealth]:
    states = [await driver.health_check()]
    for state in states:
        states += state.drivers
        yield state


def _left(before: Rows, after: Rows) -> Rows:
    """What there is more than before, or less, by place."""
    found = {}
    for name in before | after:
        was, there = before.get(name, []), after.get(name, [])
        if any(each in name for each in CHANGES):
            was, there = [str(len(was))], [str(len(there))]
        if CACHE in name and len(there) <= len(was):  # the same question may be answered anew
            continue
        if was != there and not any(each in name for each in STAYS):
            found[name] = sorted({*was} ^ {*there})
    return found


@on_drivers
async def test_what_is_kept_is_found_where_it_is_written(
    driver: RecordDriver, places: Places
) -> None:
    await _store(driver)
    await _store_knowledge(driver)
    await _read(driver)
    rows = await _written(driver, places)
    lent = places.lent
    if places.databases or places.servers or lent.fakes or lent.weaviates:
        assert MARK in repr(rows)
    if lent.pinecones:  # which has its records compressed
        assert any("-u-" in name for name in rows)


@pytest.mark.parametrize("go", WAYS_TO_GO.values(), ids=WAYS_TO_GO)
async def test_nothing_is_left_of_what_is_deleted(
    case: Case, driver: RecordDriver, places: Places, go: Callable[[RecordDriver], Awaitable[None]]
) -> None:
    if go in (_replaced, _document_deleted) and not case.keeps_documents:
        pytest.skip("it keeps no documents")
    await driver.store("ada", "A kettle of copper.", "kitchen", ["x"], {"n": 7})
    await driver.store("bob", "Another kettle.", ttl=1_000_000)
    await driver.store_global_knowledge("Kettles boil water.", "kitchen")
    await _read(driver)
    before = await _written(driver, places)
    await go(driver)
    after = await _written(driver, places)
    text = repr(after)
    assert MARK not in text
    assert MARK.encode().hex() not in text
    assert _left(before, after) == {}
