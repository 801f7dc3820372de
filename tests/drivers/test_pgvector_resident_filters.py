"""Users who are kept in the service's memory, recalled with a filter."""

from random import Random
from typing import Any

import pytest

from app.core.memory.records import Memory, NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.sql import recall as sql
from app.embedding import Embedder
from app.settings import RecallSettings
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.resident import WINDOW, Chance, become_resident, execute, residents, statements
from tests.storm import times

OPEN: dict[str, Any] = {"metadata": {"state": "open"}}
AFTER: dict[str, Any] = {"occurred": {"from": "2030-01-01T00:00:00Z"}}
TAGGED: dict[str, Any] = {"tags": {"any": ["t"]}}


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
async def driver(url: str, open_driver: OpenDriver, embedder: Embedder) -> PgvectorDriver:
    """Ada is resident, with six memories: every second one is open, the first three are tagged."""
    driver = await open_driver(url, instead=Chance(embedder.dimension), pool_max_size=1)
    await driver.store_many(
        [
            NewMemory(
                user_id="ada",
                content=f"kettle {n}",
                conversation_id="talk" if n < 4 else None,
                tags=["t"] if n < 3 else [],
                metadata={"state": "late" if n % 2 else "open", "n": n},
            )
            for n in range(6)
        ]
    )
    await become_resident(driver, "ada")
    return driver


async def found(
    driver: PgvectorDriver, wanted: dict[str, Any], conversation: str | None = None
) -> list[str]:
    memories = await driver.recall("ada", conversation, query="kettle", top_k=100, filter=wanted)
    return sorted(memory.content.removeprefix("kettle ") for memory in memories)


async def test_a_recall_with_a_filter_asks_postgresql_once(driver: PgvectorDriver) -> None:
    async with statements(driver) as seen:
        assert await found(driver, OPEN) == ["0", "2", "4"]
        assert await found(driver, OPEN, "talk") == ["0", "2"]
        assert await found(driver, {**OPEN, **TAGGED}) == ["0", "2"]
        assert await found(driver, {"metadata": {"state": {"ne": "open"}, "n": {"gt": 2}}}) == [
            "3",
            "5",
        ]
        assert await found(driver, AFTER) == []
    assert seen == [sql.CHANGED] * 5


CHANGES = {
    "metadata": "update memories set metadata = '{\"state\": \"open\"}' where content = 'kettle 1'",
    "all metadata": "update memories set metadata = '{}'",
    "tags": "update memories set tags = '{x,t}' where content = 'kettle 5'",
    "occurred_at": "update memories set occurred_at = '2031-01-01' where content = 'kettle 4'",
    "delete": "delete from memories where content = 'kettle 0'",
    "another form": """
        update memories set metadata = '{"\\u006b": "\\u0000", "state": "\\u006fpen", "n": 1e999}'
        where content = 'kettle 1'
    """,
}


@pytest.mark.parametrize("change", CHANGES)
async def test_the_next_recall_knows_of(
    url: str, driver: PgvectorDriver, open_driver: OpenDriver, embedder: Embedder, change: str
) -> None:
    """What any client changes: it is found as a driver finds it that keeps nobody."""
    alone = await open_driver(
        url, instead=Chance(embedder.dimension), recall=RecallSettings(resident_mb=0)
    )
    wanted: list[dict[str, Any]] = [OPEN, TAGGED, AFTER]
    wanted += [{"metadata": {"state": {"ne": "open"}}}, {"metadata": {"n": {"gte": 3}}}]
    before = [await found(driver, one) for one in wanted]
    assert before == [await found(alone, one) for one in wanted]
    await execute(url, CHANGES[change])
    after = [await found(driver, one) for one in wanted]
    assert after == [await found(alone, one) for one in wanted] != before
    assert await residents(driver) == 1


async def test_what_filters_compare_is_counted_and_makes_room(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    """Each of two users takes 3 MB of 8, and 2 MB more with the columns of eight keys."""
    driver = await open_driver(
        url,
        instead=Chance(embedder.dimension),
        recall=RecallSettings(resident_mb=8),
        pool_max_size=1,
    )
    keys = [f"key {n}" for n in range(8)]
    for user in ("ada", "bob"):
        for start in (0, 600):
            await driver.store_many(
                [
                    NewMemory(
                        user_id=user,
                        content=f"kettle {n}",
                        metadata={key: f"{key} of {n}" for key in keys},
                    )
                    for n in range(start, start + 600)
                ]
            )
    await become_resident(driver, "ada", "bob")
    before = (await driver.health_check()).facts["resident_mb"]
    assert before < 8
    for key in keys:
        wanted = {"metadata": {key: f"{key} of 700"}}
        for user in ("ada", "bob"):
            (memory,) = await driver.recall(user, query="kettle", filter=wanted)
            assert memory.content == "kettle 700"
        facts = (await driver.health_check()).facts
        assert facts["resident_mb"] <= 8
        if facts["resident_users"] < 2:
            return
    pytest.fail(f"two users are kept still: {facts}")


@pytest.mark.parametrize("seed", range(times(2, 20)))
async def test_filters_stay_right_while_memories_come_change_and_go(
    driver: PgvectorDriver, seed: int
) -> None:
    """Texts of one window and of several; most of the memories go once, so that vectors move."""
    chance = Random(seed)
    kept: dict[str, Memory] = {}
    async for record in driver.export_records("ada"):
        assert isinstance(record, Memory)
        kept[record.content] = record
    for step in range(150):
        if step == 100:
            for memory in [*kept.values()][3:]:
                await driver.delete(memory.memory_id, "ada")
            kept = dict([*kept.items()][:3])
        elif kept and chance.random() < 0.2:
            memory = kept.pop(chance.choice([*kept]))
            await driver.delete(memory.memory_id, "ada")
        elif kept and chance.random() < 0.2:
            memory = kept[chance.choice([*kept])]
            patch = {"metadata": {"state": chance.choice(["open", "late"])}}
            changed = await driver.update(memory.memory_id, "ada", patch)
            assert changed is not None
            kept[memory.content] = changed
        else:
            content = f"kettle {step + 10}{WINDOW * chance.randrange(3)}"
            kept[content] = await driver.store(
                "ada", content, metadata={"state": chance.choice(["open", "late"])}
            )
        if chance.random() < 0.3:
            expected = [m.content for m in kept.values() if m.metadata["state"] == "open"]
            wanted = sorted(content.removeprefix("kettle ") for content in expected)
            assert await found(driver, OPEN) == wanted[:100]
    assert await residents(driver) == 1
