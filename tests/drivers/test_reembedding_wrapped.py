"""Another model for the drivers under a wrapping driver, one after the other, under load."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, Record, key_of
from app.drivers.redis import RedisDriver
from app.settings import FailoverSettings, JournalSettings, Limits, RedisSettings
from app.settings import ReplicatedSettings as Replicated
from app.transfer.reembed import reembed
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.conftest import NewDatabase
from tests.drivers.another_model import assert_vectors_are_of, steps
from tests.drivers.answers import QUESTIONS, Answer, answers, assert_same, is_same
from tests.drivers.pgvector_reembedding import MODELS, NEW, OLD, WORDS, driver_on, many
from tests.drivers.search_server import search
from tests.storm import times
from tests.transfer.records import by_place, every_record

__all__ = ["search"]

Wrapping: TypeAlias = FailoverDriver | ReplicatedDriver


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.drivers.pgvector.coming.ComingModel.every", 0.1)
    monkeypatch.setattr("app.drivers.pgvector.reembedding.LOOKS_SECONDS", 0.5)
    monkeypatch.setattr("app.drivers.redis.following.Following.every", 0.1)
    monkeypatch.setattr("app.drivers.redis.services.SILENT_SECONDS", 0.8)


@pytest.fixture(params=["pgvector", "redis"])
async def inner(request: pytest.FixtureRequest, new_database: NewDatabase) -> list[RecordDriver]:
    """Two drivers of one kind, not opened, which can load both models."""
    if request.param == "pgvector":
        return [driver_on(await new_database()) for _ in range(2)]
    url = SecretStr(request.getfixturevalue("search").url)
    groups = [RedisSettings(url=url, namespace=name) for name in ("one", "two")]
    others = MODELS.__getitem__
    return [RedisDriver(each, OLD, Limits(), embedder_of=others) for each in groups]


@asynccontextmanager
async def wrapped(kind: str, inner: list[RecordDriver], folder: Path) -> AsyncIterator[Wrapping]:
    """A wrapping driver over both, open."""
    for n, driver in enumerate(inner):
        driver.name = f"driver {n}"
    journal = JournalSettings(path=folder / "journal")
    made: Wrapping
    if kind == "failover":
        made = FailoverDriver(inner, FailoverSettings(), journal, OLD, Limits())
    else:
        made = ReplicatedDriver(inner, Replicated(), journal, OLD, Limits())
    async with made as whole:
        yield whole


class Load:
    """Writers of their own users, and a reader of one whose memories stay as they are."""

    def __init__(self, driver: Wrapping) -> None:
        self._driver = driver
        self._over = asyncio.Event()
        self.kept: dict[str, Record] = {}
        self.recalled: list[dict[str, tuple[Answer, Answer]]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for n in range(times(3, 8)):
                tasks.create_task(self._write(n))
            tasks.create_task(self._read())
            try:
                yield
                await asyncio.sleep(0.3)
            finally:
                self._over.set()

    async def _read(self) -> None:
        while not self._over.is_set():
            self.recalled.append(await answers(self._driver))

    async def _write(self, writer: int) -> None:
        random, user, own = Random(writer), f"writer {writer}", list[str]()
        while not self._over.is_set():
            act = random.choice(("store", "store", "update", "delete"))
            text = f"{random.choice(WORDS)} {random.random()}"
            act = "delete" if len(own) == 50 else act
            if act == "store" or not own:
                memory: Memory | None = await self._driver.store(user, text)
            elif act == "update":
                memory = await self._driver.update(random.choice(own), user, {"content": text})
            else:
                memory, one = None, own.pop(random.randrange(len(own)))
                assert await self._driver.delete(one, user)
                del self.kept[one]
            if memory is not None:
                self.kept[memory.memory_id] = memory
                own = [*{*own, memory.memory_id}]
            found = await self._driver.recall(user, query=text, top_k=100)
            assert {m.memory_id: m.content for m in found} == {
                one: self.kept[one].content for one in own
            }

    def assert_each_is_one_models(
        self, old: dict[str, tuple[Answer, Answer]], new: dict[str, tuple[Answer, Answer]]
    ) -> None:
        """Every answer is as before, or as after; both came."""
        seen = {"old": 0, "new": 0}
        for found in self.recalled:
            for question in QUESTIONS:
                for kind in (0, 1):
                    own = found[question][kind]
                    was_old = is_same(own, old[question][kind])
                    assert was_old != is_same(own, new[question][kind]), question
                    seen["old" if was_old else "new"] += 1
        assert min(seen.values()) > 0


@pytest.mark.parametrize("kind", ["failover", "replicated"])
async def test_under_load_no_request_fails_and_each_answer_is_one_of_the_two_models(
    inner: list[RecordDriver], kind: str, tmp_path: Path
) -> None:
    fixed = many(times(150, 1_500))
    async with wrapped(kind, inner, tmp_path) as whole:
        await whole.import_records(fixed)
        old, load = await answers(whole), Load(whole)
        async with load.running():
            for driver in inner:
                async with steps(driver, NEW) as work:
                    await reembed(work)
        new = await answers(whole)
        load.assert_each_is_one_models(old, new)
        async with asyncio.timeout(60):
            while (await whole.health_check()).facts.get("pending"):
                await asyncio.sleep(0.1)
        assert {each.status for each in (await whole.health_check()).drivers} == {"ok"}
        wanted = by_place([*fixed, *load.kept.values()])
        for driver in inner[: 1 if kind == "failover" else 2]:
            async with asyncio.timeout(60):
                while by_place(await every_record(driver)) != wanted:
                    await asyncio.sleep(0.1)
            await assert_vectors_are_of(NEW, driver)
            assert_same(await answers(driver), new)
        assert {key_of(each) for each in await every_record(whole)} >= set(map(key_of, fixed))
