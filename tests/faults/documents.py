"""Documents that are put again and again, and readers who may see one put of each, whole."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.faults.server import Rows
from tests.service.service import Service

_DOCUMENTS = 3
_SIZES = (0, 4, 11, 2, 7, 3)
"""Pieces by the number of the put; before the first there is none, as after one that deletes."""
_AGAIN_SECONDS = 0.02
_MOST_SECONDS = 240.0


@dataclass
class _Document:
    """What its one writer asked for, by the numbers of the puts."""

    name: str
    sent: int = 0
    answered: int = 0
    ids: list[str] = field(default_factory=list)
    """Of the last answer."""

    def contents(self, number: int) -> list[str]:
        """The pieces of that put, in their order."""
        pieces = range(_SIZES[number % len(_SIZES)])
        return [f"Kettle {self.name}, put {number}, piece {piece}." for piece in pieces]

    def check(self, seen: Iterable[str], oldest: int) -> None:
        """What a reader found is one whole put: the `oldest`, or one that was sent since."""
        found = sorted(seen)
        puts = range(oldest, self.sent + 1)
        assert found in [sorted(self.contents(number)) for number in puts], (oldest, found)


class Documents:
    """Writers of documents, each of which sends a put until it is answered, and then the next."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.cut = 0
        """Puts whose service was gone before it answered."""
        self.reads = 0
        self._documents = [_Document(f"{n}") for n in range(_DOCUMENTS)]
        self._services: list[Service] = []
        self._clients: dict[str, httpx.AsyncClient] = {}

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[None]:
        """Write and read until the end of the block, and then until each put has its answer."""
        over = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as tasks:
                for document in self._documents:
                    tasks.create_task(self._write(document, over))
                    tasks.create_task(self._read(document, over))
                try:
                    yield
                finally:
                    over.set()
        finally:
            for client in self._clients.values():
                await client.aclose()

    def use(self, *services: Service) -> None:
        """Write to the first of the services from now on, and read from all of them."""
        for each in services:
            if each.url not in self._clients:
                self._clients[each.url] = httpx.AsyncClient(base_url=each.url, timeout=60)
        self._services = [*services]

    async def progress(self, count: int) -> None:
        """Wait until each document was put so many times more."""
        aims = [(each, each.answered + count) for each in self._documents]
        async with asyncio.timeout(_MOST_SECONDS):
            while any(each.answered < aim for each, aim in aims):
                await asyncio.sleep(0.005)

    def check(self, kept: Rows) -> None:
        """The backend has the records that the last answers told of, and nothing else."""
        last = [
            (one, (None, content))
            for each in self._documents
            for one, content in zip(each.ids, each.contents(each.answered), strict=True)
        ]
        assert kept == dict(last)

    async def _write(self, document: _Document, over: asyncio.Event) -> None:
        while not over.is_set():
            document.sent += 1
            while not await self._put(document):
                await asyncio.sleep(_AGAIN_SECONDS)
            document.answered = document.sent

    async def _put(self, document: _Document) -> bool:
        """Ask for the last put; whether it was answered."""
        client = self._clients[self._services[0].url]
        path = f"/v1/knowledge/documents/{document.name}"
        pieces = [{"content": content} for content in document.contents(document.sent)]
        try:
            if pieces:
                response = await client.put(path, json={"category": "c", "pieces": pieces})
            else:
                response = await client.delete(path)
        except httpx.TransportError:
            self.cut += 1
            return False
        if response.status_code != 200:
            assert response.status_code in (503, 504), response.text
            return False
        kept = response.json()["knowledge"] if pieces else []
        document.ids = [record["knowledge_id"] for record in kept]
        return True

    async def _read(self, document: _Document, over: asyncio.Event) -> None:
        while not over.is_set():
            oldest = document.answered
            client = self._clients[self.random.choice(self._services).url]
            try:
                response = await self._ask(client, document.name)
            except httpx.TransportError:
                response = None
            if response is not None and response.status_code == 200:
                found: list[dict[str, Any]] = response.json()["knowledge"]
                document.check((record["content"] for record in found), oldest)
                self.reads += 1
            elif response is not None:
                assert response.status_code in (503, 504), response.text
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _ask(self, client: httpx.AsyncClient, doc_id: str) -> httpx.Response:
        """List the document, or recall it."""
        if self.random.random() < 0.5:
            return await client.get("/v1/knowledge", params={"doc_id": doc_id, "limit": 100})
        body = {"query": "kettle", "top_k": 100, "doc_id": doc_id}
        return await client.post("/v1/knowledge/recall", json=body)
