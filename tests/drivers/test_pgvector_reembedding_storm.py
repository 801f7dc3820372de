"""Another model while everybody stores, changes, deletes and recalls; and processes are killed."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from app.core.memory.records import Memory
from app.drivers.pgvector import PgvectorDriver
from app.transfer.reembed import reembed
from tests.conftest import NewDatabase
from tests.drivers.answers import KNOWN, Answer, answers, assert_same, is_same
from tests.drivers.pgvector_reembedding import (
    NEW,
    OLD,
    SAME_SIZE,
    WORDS,
    assert_all_by,
    driver_on,
    filled,
    many,
    process,
    reembedded,
    way_to,
    what_there_is,
)
from tests.other_models import LetterModel
from tests.storm import times
from tests.transfer.records import by_place, every_record


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.drivers.pgvector.coming.ComingModel.every", 0.1)
    monkeypatch.setattr("app.drivers.pgvector.reembedding.LOOKS_SECONDS", 0.5)


class Load:
    """Clients that write and recall until they are told to end, and what must be there then."""

    def __init__(self, drivers: list[PgvectorDriver], seed: int = 5) -> None:
        self._drivers = drivers
        self._random = Random(seed)
        self._over = False
        self.kept: dict[str, Memory] = {}
        self.deleted: set[str] = set()
        self._expiring: dict[str, datetime] = {}
        self.recalled: list[tuple[str, tuple[Answer, Answer]]] = []
        self.writes = 0

    @asynccontextmanager
    async def running(self, clients: int = 6) -> AsyncIterator[None]:
        """While the block runs, and a little longer."""
        tasks = [asyncio.create_task(self._write(n)) for n in range(clients)]
        tasks += [asyncio.create_task(self._recall(each)) for each in self._drivers]
        try:
            yield
            await asyncio.sleep(0.5)
        finally:
            self._over = True
            await asyncio.gather(*tasks)

    async def _write(self, client: int) -> None:
        """Each client writes to its own user: so it knows what is there."""
        own: list[str] = []
        user = f"writer {client}"
        while not self._over:
            driver = self._random.choice(self._drivers)
            kind = self._random.choice(("store", "store", "update", "delete", "fleeting"))
            text = f"{self._random.choice(WORDS)} {self._random.random()}"
            if kind == "store" or not own:
                talk = self._random.choice((None, "talk"))
                stored = await driver.store(user, text, talk)
                self.kept[stored.memory_id] = stored
                own.append(stored.memory_id)
            elif kind == "update":
                one = self._random.choice(own)
                changed = await driver.update(one, user, {"content": text})
                assert changed is not None
                self.kept[one] = changed
            elif kind == "delete":
                one = own.pop(self._random.randrange(len(own)))
                assert await driver.delete(one, user)
                del self.kept[one]
                self.deleted.add(one)
            else:
                soon = datetime.now(UTC) + timedelta(seconds=0.5)
                fleeting = await driver.store(user, text, expires_at=soon)
                self._expiring[fleeting.memory_id] = soon
                await driver.sweeper.sweep()
            self.writes += 1
            now = datetime.now(UTC)
            gone = {one for one, end in self._expiring.items() if end <= now} | self.deleted
            found = await driver.recall(user, query=text, top_k=3)
            assert not {each.memory_id for each in found} & gone

    async def _recall(self, driver: PgvectorDriver) -> None:
        while not self._over:
            for question, found in (await answers(driver)).items():
                self.recalled.append((question, found))


async def whole(url: str, load: Load, model: LetterModel) -> None:
    """All that was written is there as it was acknowledged, by that model, and nothing else is."""
    async with driver_on(url, model) as driver:
        await asyncio.sleep(0.6)
        await driver.sweeper.sweep()
        records = await every_record(driver)
        of_writers = {
            each.memory_id: each
            for each in records
            if isinstance(each, Memory) and each.user_id.startswith("writer")
        }
        assert by_place([*of_writers.values()]) == by_place([*load.kept.values()])
        await assert_all_by(model, url, records)


@pytest.mark.parametrize("model", [NEW, SAME_SIZE], ids=["another dimension", "same dimension"])
async def test_under_load_no_request_fails_and_each_answer_is_one_of_the_two_models(
    new_database: NewDatabase, model: LetterModel, root: Path
) -> None:
    url = await new_database()
    before = await what_there_is(url)
    async with driver_on(url) as one, driver_on(url) as other:
        await one.import_records(many(times(300, 3_000)))
        by_old = await answers(one)
        load = Load([one, other])
        async with load.running():
            await asyncio.sleep(0.5)
            count = await reembedded(url, model)
        by_new = await answers(one)
        assert_same(await answers(other), by_new)
        assert count >= 300
        assert load.writes > 50
        seen = {"old": 0, "new": 0}
        for question, found in load.recalled:
            for kind in (0, 1):
                old = is_same(found[kind], by_old[question][kind])
                new = is_same(found[kind], by_new[question][kind])
                assert old or new, question
                assert not (old and new), question
                seen["old" if old else "new"] += 1
        assert min(seen.values()) > 0
    await whole(url, load, model)
    assert await what_there_is(url) == before


async def test_killed_at_random_moments_and_run_again_it_ends_as_if_it_never_was(
    new_database: NewDatabase, root: Path
) -> None:
    random = Random(11)
    for round_ in range(times(1, 10)):
        url = await new_database()
        before = await what_there_is(url)
        async with driver_on(url) as one, driver_on(url) as other:
            await one.import_records(many(times(300, 2_000)))
            load = Load([one, other], seed=round_)
            async with load.running(3):
                for _ in range(times(4, 6)):
                    running = await process(root, url)
                    waiting = asyncio.create_task(running.wait())
                    await asyncio.wait([waiting], timeout=random.uniform(0.8, 5.0))
                    if running.returncode is None:
                        running.send_signal(signal.SIGKILL)
                    await waiting
                    if running.returncode == 0:
                        break
                if running.returncode != 0:
                    assert await (await process(root, url)).wait() == 0
            assert load.writes > 20
        await whole(url, load, NEW)
        assert await what_there_is(url) == before


async def kept(driver: PgvectorDriver) -> None:
    """Wait until the user is kept in memory."""
    async with asyncio.timeout(30):
        while not (await driver.health_check()).facts["resident_users"]:
            await driver.recall(KNOWN, query="kettle")
            await asyncio.sleep(0.05)


async def test_who_is_kept_in_memory_is_so_again_by_the_new_model(
    new_database: NewDatabase,
) -> None:
    url = await new_database()
    async with driver_on(url) as driver:
        await driver.import_records(many(60))
        await kept(driver)
        await reembedded(url)
        by_new = await answers(driver)
        await kept(driver)
        assert_same(await answers(driver), by_new)
        async with driver_on(url, NEW) as fresh:
            assert_same(await answers(fresh), by_new)
    assert OLD.dimension != NEW.dimension


@pytest.mark.parametrize("model", [NEW, SAME_SIZE], ids=["another dimension", "same dimension"])
async def test_a_user_kept_since_the_last_delete_is_read_anew_after_the_switch(
    new_database: NewDatabase, model: LetterModel
) -> None:
    """The delete is the last change of the user in both places."""
    url = await new_database()
    async with driver_on(url) as driver:
        await driver.import_records(many(60))
        async with way_to(url, model) as work:
            await filled(work)
            [memory] = await driver.recall(KNOWN, top_k=1)
            assert await driver.delete(memory.memory_id, KNOWN)
            await kept(driver)
            await reembed(work)
        async with driver_on(url, model) as fresh:
            assert_same(await answers(driver), await answers(fresh))
