"""Copies to backends that are asked over HTTP, and back."""

import asyncio
from pathlib import Path

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, Record, key_of
from app.embedding import Embedder
from app.settings import JournalSettings, Limits, ReplicatedSettings
from app.transfer.copying import Copied, copy, verify
from app.transfer.state import State
from app.wrappers.replicated import ReplicatedDriver
from tests.conformance.makers import Maker, Surroundings, automem, pgvector, pinecone, weaviate
from tests.conftest import NewDatabase
from tests.drivers.pgvector_reembedding import many
from tests.storm import times
from tests.transfer.records import by_place, every_record, hostile_records

pytestmark = pytest.mark.parametrize("elsewhere", [automem, pinecone, weaviate])

WRITERS = 4


def _none() -> str:
    raise AssertionError("no driver here is on Redis")


@pytest.fixture
def around(
    embedder: Embedder, new_database: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Surroundings:
    """What drivers are made of; batches are so small that a few records fill several."""
    monkeypatch.setattr("app.transfer.batches.MOST", 25)
    return Surroundings(embedder, new_database, _none, _none, Limits(), tmp_path)


async def copied(source: RecordDriver, target: RecordDriver, state: Path) -> Copied:
    return await copy(source, target, State.read(state, {}))


async def test_everything_is_the_same_there_and_back_again(
    elsewhere: Maker, around: Surroundings, tmp_path: Path
) -> None:
    records = [*hostile_records(), *many(times(60, 600))]
    async with pgvector(around) as source, elsewhere(around) as there, pgvector(around) as back:
        await source.import_records(records)
        for one, other, state in ((source, there, "there"), (there, back, "back")):
            told = await copied(one, other, tmp_path / state)
            assert (told.records, told.vectors, told.deleted) == (len(records), False, 0)
            assert (await verify(one, other)).none
        assert by_place(await every_record(back)) == by_place(records)


async def test_a_copy_again_brings_what_changed_and_nothing_that_was_deleted(
    elsewhere: Maker, around: Surroundings, tmp_path: Path
) -> None:
    """The first copy was killed after it had brought all, and before it looked what had gone."""
    records = many(30)
    async with elsewhere(around) as source, pgvector(around) as target:
        await source.import_records(records)
        await copied(source, target, tmp_path / "first")
        state = State.read(tmp_path / "second", {})
        await state.begin([key_of(each) for each in records])
        changed, gone = [key_of(each) for each in records if isinstance(each, Memory)][:2]
        known = next(key_of(each) for each in records if not isinstance(each, Memory))
        assert await source.update(changed[1], str(changed[0]), {"content": "changed"})
        assert await source.delete(gone[1], gone[0])
        assert await source.delete_knowledge(known[1])
        told = await copied(source, target, tmp_path / "second")
        assert (told.records, told.deleted) == (len(records) - 2, 2)
        assert (await verify(source, target)).none
        kept = {key_of(each): each.content for each in await every_record(target)}
        assert kept.keys() == set(map(key_of, records)) - {gone, known}
        assert kept[changed] == "changed"


async def test_what_is_written_to_both_while_it_is_copied_is_the_same_in_the_end(
    elsewhere: Maker, around: Surroundings, tmp_path: Path
) -> None:
    journal = JournalSettings(path=tmp_path / "journal")

    async def write(driver: RecordDriver, records: list[Record]) -> None:
        for n, record in enumerate(records):
            user_id, one = key_of(record)
            if user_id is None:
                assert await driver.delete_knowledge(one)
            elif n % 2:
                assert await driver.delete(one, user_id)
            else:
                assert await driver.update(one, user_id, {"content": f"changed {n}"})
            if n % 5 == 0:
                await driver.store("ada", f"new {n}")

    async with pgvector(around) as source, elsewhere(around) as target:
        await source.import_records(many(200))
        inner = [source, target]
        async with ReplicatedDriver(
            inner, ReplicatedSettings(acknowledge="all"), journal, around.embedder, Limits()
        ) as both:
            last_first = (await every_record(source))[::-1]  # so the writers meet the copy
            async with asyncio.TaskGroup() as tasks:
                for n in range(WRITERS):
                    tasks.create_task(write(both, last_first[n::WRITERS]))
                await copied(source, target, tmp_path / "state")
            async with asyncio.timeout(60):
                while (await both.health_check()).facts.get("pending"):
                    await asyncio.sleep(0.1)
            assert (await verify(source, target)).none
            contents = {record.content for record in await every_record(target)}
            assert {what.partition(" ")[0] for what in contents} == {"changed", "new"}
