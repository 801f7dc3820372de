"""Puts of documents through a journal: late, twice, while drivers are away, and never half."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge
from app.core.memory.requests import Put
from app.errors import DriverUnavailable
from tests.wrappers.flaky import Journalled
from tests.wrappers.scripted import ScriptedDriver, Shape, holders
from tests.wrappers.stories import lost, rest, tell

SHAPES = [
    Shape(acknowledge="journal"),
    Shape(acknowledge="all"),
    Shape(kind="failover", writes="journal"),
    Shape(kind="replicated over failover", acknowledge="journal"),
]


async def put(driver: RecordDriver, *contents: str) -> list[Knowledge]:
    return await driver.put_document("manual", category="c", pieces=[*contents])


async def contents(driver: RecordDriver) -> list[str]:
    """Of the document's records, in its order."""
    page = await driver.list_knowledge(doc_id="manual")
    return [record.content for record in page.knowledge]


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2], SHAPES[3]])
def test_a_put_while_the_primary_is_away_is_read_at_once_and_whole(
    shape: Shape, tmp_path: Path
) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        await put(driver, "a", "b", "c")
        leaves[0].away = True
        await put(driver, "d", "e")
        assert await contents(driver) == ["d", "e"]
        beside = await driver.store_global_knowledge("f", "c", doc_id="manual")
        assert await contents(driver) == ["d", "e", "f"]
        assert await driver.get_knowledge(beside.knowledge_id) == beside
        assert await driver.delete_document("manual") == 3
        assert await contents(driver) == []
        await put(driver, "g")
        leaves[0].away = False
        await rest(driver)
        assert await contents(driver) == ["g"]
        for leaf in holders(driver):
            assert [record.content for record in leaf.kept.values()] == ["g"]

    tell(shape, tmp_path, story)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_put_whose_answer_is_lost_is_made_everywhere_and_once(
    shape: Shape, tmp_path: Path
) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        await put(driver, "a", "b")
        leaves[0].fates.append(lost)
        with suppress(DriverUnavailable):  # as it may be uncertain
            await put(driver, "c", "d", "e")
        await rest(driver)
        assert await contents(driver) == ["c", "d", "e"]
        for leaf in holders(driver):
            assert [record.content for record in leaf.kept.values()] == ["c", "d", "e"]

    tell(shape, tmp_path, story)


@pytest.mark.parametrize("shape", [Shape(), Shape(kind="failover")])
def test_a_primary_that_is_known_to_be_away_refuses_a_put_for_certain(
    shape: Shape, tmp_path: Path
) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        await put(driver, "a")
        await rest(driver)
        driver.members.primary.reachability.lost("gone")
        with pytest.raises(DriverUnavailable) as refusal:
            await put(driver, "b")
        assert not refusal.value.uncertain
        assert await driver.members.journal.count() == 0
        assert [r.content for leaf in holders(driver) for r in leaf.kept.values()] == ["a"] * len(
            holders(driver)
        )

    tell(shape, tmp_path, story)


def test_a_driver_ends_with_the_later_put_in_whatever_order_it_gets_them(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        earlier, later = [
            Put("manual", pieces, before=pieces[0].created_at - timedelta(milliseconds=1))
            for pieces in (await put(driver, "a", "a"), await put(driver, "b", "b"))
        ]
        for order in ((earlier, later), (later, earlier), (later, earlier, later, earlier)):
            leaf = ScriptedDriver("alone", leaves[0].random)
            for each in order:
                await leaf._put(each)
            assert [record.content for record in leaf.kept.values()] == ["b", "b"]

    tell(Shape(), tmp_path, story)
