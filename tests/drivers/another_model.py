"""Records, questions about them, and writes that go on while the records get another model."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random

import numpy as np

from app.core.memory.embedded import text_and_name
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, NewKnowledge, NewMemory, Record
from app.core.memory.reembedding import Reembedding
from app.embedding import Embedder
from tests.drivers.two_models import ALIKE, FIRST, SECOND

THINGS = ["kettle", "basil", "window", "copper", "rain", "garden", "lamp", "stove", "river", "cup"]


def texts(seed: int, count: int, words: int = 6) -> list[str]:
    random = Random(seed)
    return [" ".join(random.choices(THINGS, k=words)) + f" {n}" for n in range(count)]


async def fill(driver: RecordDriver) -> None:
    """Memories of some users, knowledge and a document, some of several windows."""
    for n, user in enumerate(("ada", "bob", "céline", "ud\u0301")):
        some = [
            NewMemory(
                user_id=user,
                content=text,
                conversation_id=f"c{k % 3}",
                metadata={"n": k},
                ttl=3_600 if k % 10 == 0 else None,
            )
            for k, text in enumerate(texts(n, 60))
        ]
        await driver.store_many(some)
    await driver.store("ada", " ".join(texts(9, 12)))
    batch = [NewKnowledge(content=text, category="metals") for text in texts(5, 40)]
    await driver.store_knowledge_many(batch)
    await driver.store_global_knowledge(" ".join(texts(7, 30)), "long")


def questions() -> list[str]:
    """Twelve of two words each."""
    return texts(77, 12, 2)


async def exported(driver: RecordDriver) -> list[Record]:
    return [record async for record in driver.export_records()]


async def answer(driver: RecordDriver, question: str) -> tuple[list[str], list[str]]:
    """The memories of ada, and the knowledge, that answer it best, best first."""
    memories = await driver.recall("ada", query=question, top_k=8)
    known = await driver.recall_global_knowledge(question, top_k=8, category="metals")
    return [memory.content for memory in memories], [one.content for one in known]


async def ranked(driver: RecordDriver) -> list[list[str]]:
    """What each question finds."""
    return [found for text in questions() for found in await answer(driver, text)]


@asynccontextmanager
async def steps(driver: RecordDriver, model: Embedder = SECOND) -> AsyncIterator[Reembedding]:
    found = driver.reembedding(model)
    try:
        await found.open()
        yield found
    finally:
        await found.close()


async def keep_missing(found: Reembedding) -> None:
    """Bring over what is missing, once."""
    async for records in found.missing():
        await found.keep(records)


def _nothing() -> None:
    pass


async def bring(found: Reembedding, told: Callable[[], None] = _nothing) -> None:
    """All steps but the last; `told` is called before each."""
    told()
    await found.begin()
    while True:
        told()
        async for records in found.missing():
            told()
            await found.keep(records)
        told()
        if await found.switch():
            return


async def reembed(driver: RecordDriver, model: Embedder = SECOND) -> None:
    async with steps(driver, model) as found:
        await bring(found)
        await found.end()


async def assert_vectors_are_of(model: Embedder, driver: RecordDriver) -> None:
    records = await exported(driver)
    assert records
    wanted = await model.embed_texts([text_and_name(record) for record in records])
    found = await driver.derived_of(records)
    for own, there in zip(wanted, found, strict=True):
        assert there is not None
        assert there.vectors.shape == own.shape
        np.testing.assert_allclose(there.vectors, own, atol=1e-6)


class Load:
    """Writes of users of its own, each of which has one writer, who knows what has to be there."""

    def __init__(self, services: list[RecordDriver]) -> None:
        self.services = services
        self.over = False
        self.users = {f"writer {n}" for n in range(6)}
        self.kept: dict[tuple[str | None, str], str] = {}
        self.document: list[str] = []
        self.answered = [0, 0]
        self.written = 0

    async def some(self, count: int = 150) -> None:
        """Wait for so many writes more."""
        wanted = self.written + count
        async with asyncio.timeout(60):
            while self.written < wanted:
                await asyncio.sleep(0.01)

    async def write(self, writer: int) -> None:
        random, user = Random(writer), f"writer {writer}"
        own: list[str] = []
        n = 0
        while not self.over:
            n += 1
            service = random.choice(self.services)
            what = f"{random.choice(THINGS)} {writer} {n}"
            act = random.choice(("store", "store", "store", "update", "delete", "forget", "expire"))
            if act == "forget" and n % 7 == 0:
                await service.delete_user(user)
                for one in own:
                    del self.kept[user, one]
                own = []
            elif act == "update" and own:
                one = random.choice(own)
                assert await service.update(one, user, {"content": what}) is not None
                self.kept[user, one] = what
            elif act == "delete" and own:
                one = own.pop(random.randrange(len(own)))
                assert await service.delete(one, user)
                del self.kept[user, one]
            elif act == "expire":
                await service.store(user, what, ttl=0.001)
            else:
                memory = await service.store(user, what)
                own.append(memory.memory_id)
                self.kept[user, memory.memory_id] = what
                found = await service.recall(user, query=what, top_k=len(own))
                assert memory.memory_id in {m.memory_id for m in found}
            self.written += 1

    async def read(self, answers: tuple[list[list[str]], list[list[str]]]) -> None:
        asked = questions()
        random = Random(5)
        while not self.over:
            service, n = random.choice(self.services), random.randrange(len(asked))
            for kind, found in enumerate(await answer(service, asked[n])):
                wanted = [own[2 * n + kind] for own in answers]
                assert found in wanted
                for model, own in enumerate(wanted):
                    self.answered[model] += found == own and wanted[0] != wanted[1]

    async def replace_documents(self) -> None:
        n = 0
        while not self.over:
            n += 1
            service = self.services[n % len(self.services)]
            self.document = [f"river stove {n} {part}" for part in range(4)]
            await service.put_document("d", category="documents", pieces=self.document)
            found = await service.recall_global_knowledge("river stove", 10, doc_id="d")
            assert sorted(k.content for k in found) == sorted(self.document)


async def until_told(driver: RecordDriver, *, goes_on: bool) -> None:
    """Wait until the driver's health tells that another model is to come, or no longer does."""
    async with asyncio.timeout(30):
        while ("reembedding" in (await driver.health_check()).facts) != goes_on:
            await asyncio.sleep(0.05)


async def assert_vectors_count_while_their_model_does(driver: RecordDriver) -> None:
    """Vectors that come with records, and that the model before has made, are made anew."""
    for n in range(20):
        await driver.store("ada", f"kettle {n}")
    records = await exported(driver)
    derived = await driver.derived_of(records)
    await reembed(driver, ALIKE)
    copies = [replace(record, user_id="bob") for record in records if isinstance(record, Memory)]
    await driver.import_records(copies, derived)
    assert len(await exported(driver)) == 40
    await assert_vectors_are_of(ALIKE, driver)
    assert (await driver.model() or FIRST).name == "alike"
