"""Clients of a service that store, change, delete and recall, and what each was answered."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Any

import httpx

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Key, Knowledge, Memory, Record, key_of
from app.settings import Limits
from app.transfer.lines import read_record
from tests.drivers.answers import Answer, is_same, without_last
from tests.drivers.pgvector_reembedding import WORDS
from tests.storm import times

MOST = 40
"""Records that one client has of each kind: so one recall finds all of them."""
TOP_K = 50
PAUSE = 0.1
"""Seconds between two requests of a client."""
TEXTS = [f"{one} and {other} {n}" for one in WORDS for other in WORDS for n in range(3)]
"""What is stored and asked for: a model that judges is asked for the vector of each once."""


@dataclass(frozen=True)
class Recalled:
    """What a client asked, and what it was answered."""

    query: str
    kind: type[Record]
    started: float
    ended: float
    answer: Answer


def records_in(answer: dict[str, Any], user_id: str | None) -> Answer:
    """What was found: of knowledge the user is None."""
    found = answer["knowledge" if user_id is None else "memories"]
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    one = "knowledge_id" if user_id is None else "memory_id"
    return {as_told(each[one], each["content"]): each["score"] for each in found}


def as_told(one: str, content: str) -> str:
    """How an answer names a record: a content of before an update is another answer."""
    return f"{one}: {content}"


def without_ties(answer: Answer) -> Answer:
    """Without the last, and what is as good, where `top_k` may have left out the same."""
    return answer if len(answer) < TOP_K else without_last(answer)


@dataclass
class Client:
    """Whose memories and knowledge nobody else changes, so that it knows what has to be there."""

    http: httpx.AsyncClient
    user_id: str
    category: str
    writes: bool = True
    random: Random = field(default_factory=Random)
    kept: dict[Key, Record] = field(default_factory=dict)
    """As the service acknowledged it last."""
    history: list[Record | Key | Recalled] = field(default_factory=list)
    """What was stored or changed, what was deleted by its key, and what was recalled."""

    async def act(self) -> None:
        """Make one request, which has to succeed."""
        kind: type[Record] = self.random.choice((Memory, Knowledge))
        own = [key for key, record in self.kept.items() if isinstance(record, kind)]
        act = self.random.choice(("store", "batch", "update", "delete", "recall", "recall"))
        if not self.writes or act == "recall":
            await self.recall(kind, self.random.choice(TEXTS))
        elif own and (act == "delete" or len(own) >= MOST):
            await self.delete(self.random.choice(own))
        elif own and act == "update":
            await self.update(self.random.choice(own))
        elif act == "batch":
            await self.store(kind, 3)
        else:
            await self.store(kind, 1)

    async def store(self, kind: type[Record], count: int) -> None:
        """Store records, several in one batch; what the last one says is found at once."""
        owner = {"user_id": self.user_id} if kind is Memory else {"category": self.category}
        bodies = [{**owner, "content": self.random.choice(TEXTS)} for _ in range(count)]
        path, name = ("/memories", "memories") if kind is Memory else ("/knowledge", "knowledge")
        if count == 1:
            stored = [await self._request("POST", path, 201, bodies[0])]
        else:
            stored = (await self._request("POST", f"{path}/batch", 201, {name: bodies}))[name]
        for each in stored:
            self._acknowledged(each)
        await self.recall(kind, bodies[-1]["content"])

    async def update(self, key: Key) -> None:
        """Give the record another content, and look for that."""
        text = self.random.choice(TEXTS)
        self._acknowledged(await self._request("PATCH", self._path(key), 200, {"content": text}))
        await self.recall(Knowledge if key[0] is None else Memory, text)

    async def delete(self, key: Key) -> None:
        """Delete the record."""
        await self._request("DELETE", self._path(key), 204)
        del self.kept[key]
        self.history.append(key)

    async def recall(self, kind: type[Record], query: str) -> None:
        """Ask for what answers best."""
        body = {"query": query, "top_k": TOP_K}
        started = perf_counter()
        if kind is Memory:
            path, body["user_id"] = "/memories/recall", self.user_id
        else:
            path, body["category"] = "/knowledge/recall", self.category
        found = await self._request("POST", path, 200, body)
        answer = records_in(found, self.user_id if kind is Memory else None)
        self.history.append(Recalled(query, kind, started, perf_counter(), answer))

    def _path(self, key: Key) -> str:
        user_id, one = key
        return f"/knowledge/{one}" if user_id is None else f"/memories/{one}?user_id={user_id}"

    def _acknowledged(self, fields: dict[str, Any]) -> None:
        record = read_record(fields, Limits()).record
        self.kept[key_of(record)] = record
        self.history.append(record)

    async def _request(self, method: str, path: str, wanted: int, body: Any = None) -> Any:
        answer = await self.http.request(method, f"/v1{path}", json=body)
        assert answer.status_code == wanted, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


@asynccontextmanager
async def running(clients: Sequence[Client]) -> AsyncIterator[None]:
    """All of them make requests while the block runs; the first that fails ends it."""
    over = asyncio.Event()

    async def work(client: Client) -> None:
        while not over.is_set():
            await client.act()
            await asyncio.sleep(PAUSE)

    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(work(client))
        try:
            yield
        finally:
            over.set()


async def some(clients: Sequence[Client], count: int) -> None:
    """Wait until each of them has so many answers more."""
    aims = [len(client.history) + count for client in clients]
    async with asyncio.timeout(120):
        while any(len(each.history) < aim for each, aim in zip(clients, aims, strict=True)):
            await asyncio.sleep(0.01)


@dataclass
class Judged:
    """Which of two models the recalls of a client were answered by."""

    old: list[Recalled] = field(default_factory=list)
    new: list[Recalled] = field(default_factory=list)
    either: int = 0
    """Where both answer the same."""

    async def judge(self, client: Client, by_old: RecordDriver, by_new: RecordDriver) -> None:
        """Ask both drivers what the client asked, when they have what it had then.

        Fails at an answer that is neither's.
        """
        known: dict[tuple[str, type[Record]], list[Answer]] = {}
        for each in client.history:
            if isinstance(each, Recalled):
                asked = each.query, each.kind
                if asked not in known:
                    known[asked] = [await _asked(by, client, each) for by in (by_old, by_new)]
                self._count(each, *known[asked])
            else:
                known.clear()
                for by in (by_old, by_new):
                    await _done_again(by, each)

    def _count(self, recalled: Recalled, old: Answer, new: Answer) -> None:
        found = without_ties(recalled.answer)
        was_old, was_new = is_same(found, old), is_same(found, new)
        assert was_old or was_new, f"neither model answers {recalled.query!r} by {found}"
        if was_old and was_new:
            self.either += 1
        elif was_old:
            self.old.append(recalled)
        else:
            self.new.append(recalled)

    def assert_switched_once(self) -> None:
        """Both models answered, and none was asked by the old one after the new one answered."""
        for recalls in (self.old, self.new):
            for kind in (Memory, Knowledge):
                assert len([each for each in recalls if each.kind is kind]) >= times(10, 100)
        assert max(each.started for each in self.old) < min(each.ended for each in self.new)


async def _asked(driver: RecordDriver, client: Client, recalled: Recalled) -> Answer:
    found: Sequence[Record]
    if recalled.kind is Memory:
        found = await driver.recall(client.user_id, query=recalled.query, top_k=TOP_K)
    else:
        found = await driver.recall_global_knowledge(recalled.query, TOP_K, client.category)
    scores = {as_told(key_of(each)[1], each.content): each.score or 0.0 for each in found}
    return without_ties(scores)


async def _done_again(driver: RecordDriver, change: Record | Key) -> None:
    if not isinstance(change, tuple):
        await driver.import_records([change])
    elif change[0] is None:
        assert await driver.delete_knowledge(change[1])
    else:
        assert await driver.delete(change[1], change[0])
