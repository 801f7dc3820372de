"""Many clients at once, and exactly what they were answered."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from math import inf
from random import Random
from time import perf_counter
from typing import Any

import httpx

from tests.faults.server import Rows
from tests.service.service import Service
from tests.storm import times

WRITES = times(150, 2_000)
"""How many writes one scenario makes; `make storm` makes 2,000."""
CLIENTS = 24
BATCH = 4
TTL = 2
"""Seconds that some memories live."""


@dataclass
class Attempt:
    """A write, whatever became of it."""

    started: float
    ended: float = float("inf")
    acknowledged: bool = False


@dataclass
class Written(Attempt):
    """A content that a record was given, or may have been."""

    content: str = ""


@dataclass
class Stored:
    """A record whose store was acknowledged, and its updates."""

    user_id: str | None
    writes: list[Written]
    ends: float
    """From when on it is expired; infinite: never."""

    @property
    def stored(self) -> Written:
        """How it came."""
        return self.writes[0]

    def contents(self) -> set[str]:
        """What it may have: all that no acknowledged update replaced which began later."""
        acknowledged = [write.started for write in self.writes if write.acknowledged]
        return {each.content for each in self.writes if each.ended >= max(acknowledged)}


@dataclass
class Load:
    """Stores, updates and deletes of a scenario, and records that expire in the middle of it."""

    random: Random = field(default_factory=lambda: Random(17))
    stored: dict[str, Stored] = field(default_factory=dict)
    """By id."""
    deletes: dict[str, list[Attempt]] = field(default_factory=dict)
    """By id, or by user."""
    refused: list[httpx.Response] = field(default_factory=list)
    lost: int = 0
    """Requests without an answer."""
    made: int = 0
    over: bool = False

    async def run(self, services: Sequence[Service], count: int = WRITES) -> None:
        """Make so many writes, or as many as come before it is `over`; end after what expires."""
        left = iter(range(count))
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(httpx.AsyncClient(base_url=each.url, timeout=60))
                for each in services
            ]
            async with asyncio.TaskGroup() as tasks:
                for n in range(CLIENTS):
                    tasks.create_task(self._client(clients[n % len(clients)], left))
        await asyncio.sleep(TTL)

    async def progress(self, count: int) -> None:
        """Wait until that many more writes were tried."""
        aim = self.made + count
        async with asyncio.timeout(240):
            while self.made < aim and not self.over:
                await asyncio.sleep(0.005)

    async def _client(self, client: httpx.AsyncClient, left: Iterable[int]) -> None:
        for _ in left:
            if self.over:
                return
            try:
                await self._write(client)
            except httpx.TransportError:
                self.lost += 1
                await asyncio.sleep(0.1)
            self.made += 1

    async def _write(self, client: httpx.AsyncClient) -> None:
        kinds = ("store", "batch", "knowledge", "fleeting", "update", "delete", "user")
        user_id = f"user {self.random.randrange(12)}"
        kind = self.random.choices(kinds, (48, 8, 8, 8, 16, 20, 1))[0]
        if kind == "delete" and self.stored:
            await self._delete(client, self.random.choice(list(self.stored)))
        elif kind == "update" and self.stored:
            await self._update(client, self.random.choice(list(self.stored)))
        elif kind == "fleeting":
            await self._look_for_expired(client)
            await self._store(client, "/v1/memories", user_id, {"user_id": user_id, "ttl": TTL})
        elif kind == "user":
            await self._attempt(client, f"/v1/users/{user_id}/memories", user_id)
        elif kind == "knowledge":
            await self._store(client, "/v1/knowledge", None, {"category": "jars"})
        elif kind == "batch":
            await self._store_many(client, user_id)
        else:
            await self._store(client, "/v1/memories", user_id, {"user_id": user_id})

    def _text(self) -> str:
        return f"Jar {self.random.getrandbits(64):x}."

    async def _store(
        self, client: httpx.AsyncClient, path: str, user_id: str | None, fields: dict[str, Any]
    ) -> None:
        started = perf_counter()
        response = await client.post(path, json={**fields, "content": self._text()})
        self._answered(response, user_id, started, lambda body: [body])

    async def _update(self, client: httpx.AsyncClient, key: str) -> None:
        record = self.stored[key]
        written = Written(perf_counter(), content=self._text())
        record.writes.append(written)
        response = await client.patch(_path(key, record.user_id), json={"content": written.content})
        written.ended = perf_counter()
        if response.status_code == 200:
            written.acknowledged = True
        elif response.status_code != 404:  # deleted, expired, or where a fallback does not have it
            self._refused(response)
            written.ended = inf

    async def _look_for_expired(self, client: httpx.AsyncClient) -> None:
        """Whoever is away, nobody reads what has expired."""
        expired = [key for key, record in self.stored.items() if record.ends < perf_counter()]
        if expired:
            key = self.random.choice(expired)
            response = await client.get(_path(key, self.stored[key].user_id))
            if response.status_code != 404:
                self._refused(response)

    async def _store_many(self, client: httpx.AsyncClient, user_id: str) -> None:
        started = perf_counter()
        memories = [{"user_id": user_id, "content": self._text()} for _ in range(BATCH)]
        response = await client.post("/v1/memories/batch", json={"memories": memories})
        self._answered(response, user_id, started, lambda body: body["memories"])

    def _answered(
        self, response: httpx.Response, user_id: str | None, started: float, of: Any
    ) -> None:
        if response.status_code != 201:
            self._refused(response)
            return
        for record in of(response.json()):
            key = record.get("memory_id") or record["knowledge_id"]
            now = perf_counter()
            ends = inf if record["expires_at"] is None else now + TTL
            written = Written(started, now, acknowledged=True, content=record["content"])
            self.stored[key] = Stored(user_id, [written], ends)

    def _refused(self, response: httpx.Response) -> None:
        assert response.status_code in (503, 504), response.text
        self.refused.append(response)

    async def _delete(self, client: httpx.AsyncClient, key: str) -> None:
        await self._attempt(client, _path(key, self.stored[key].user_id), key)

    async def _attempt(self, client: httpx.AsyncClient, path: str, key: str) -> None:
        attempt = Attempt(perf_counter())
        self.deletes.setdefault(key, []).append(attempt)
        response = await client.delete(path)
        attempt.ended = perf_counter()
        if response.status_code in (200, 204):
            attempt.acknowledged = True
        elif response.status_code != 404:
            self._refused(response)

    def check(self, kept: Rows) -> None:
        """Every acknowledged store is there, once, unless a delete concerns it; no other is.

        What can expire need not be there.
        """
        assert self.stored
        contents = Counter(content for _, content in kept.values())
        assert set(contents.values()) <= {1}
        for key, record in self.stored.items():
            of_user = self.deletes.get(record.user_id, []) if record.user_id is not None else []
            mine = self.deletes.get(key, [])
            began, answered = record.stored.started, record.stored.ended
            if key in kept:
                user_id, content = kept[key]
                assert user_id == record.user_id
                assert content in record.contents(), f"{key} has an update less, or another's"
                assert not any(d.acknowledged for d in mine), f"{key} is back"
                again = any(d.acknowledged and d.started > answered for d in of_user)
                assert not again, f"{key} of {user_id} is back"
            elif record.ends == inf:
                assert mine or any(d.ended > began for d in of_user), f"{key} is lost"


def _path(key: str, user_id: str | None) -> str:
    return f"/v1/knowledge/{key}" if user_id is None else f"/v1/memories/{key}?user_id={user_id}"


async def pending(service: Service) -> dict[str, Any]:
    """What each driver still has to get."""
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        health = (await client.get("/health")).json()
    facts = health["driver"]["facts"]
    return dict(facts["pending"]) if "pending" in facts else {"journal": "away"}


async def settled(service: Service, seconds: float = 90) -> None:
    """Wait until every driver has everything."""
    left: dict[str, Any] = {}
    try:
        async with asyncio.timeout(seconds):
            while True:
                with suppress(httpx.TransportError):
                    left = await pending(service)
                    if not left:
                        return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"still pending: {left}\n{service.output[-6_000:]}") from None
