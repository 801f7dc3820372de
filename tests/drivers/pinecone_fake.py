"""A small Pinecone that speaks HTTP on a real socket, with the traps of the real one.

It does what the data plane of a serverless index is documented or was seen to do. Its time is its
own: what is written is shown once so much of it has passed as `delays` say.
"""

import asyncio
import json
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from tests.drivers.pinecone_answers import (
    BODIES,
    DOCUMENTS,
    body_of,
    cut,
    namespace_in,
    parsed,
    problem,
    refusal,
    unauthorized,
    whole,
)
from tests.drivers.pinecone_filter import check, lets
from tests.drivers.pinecone_space import Space, Stored, checked
from tests.drivers.served import served

KEY = "pcsk_hunter2"
NAME = "memory"
LONGEST_URL = 16_384
LARGEST_BODY = 2 * 2**20
LARGEST_ANSWER = 4_194_304

Fault = Callable[[Request], Awaitable[Response | None]]
"""What is done before a route; its answer, if any, is given in place of the route's."""


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: Any


class FakePinecone:
    """The index's state, and switches for what can go wrong."""

    def __init__(self, dimension: int = 384) -> None:
        self.url = ""
        self.dimension = dimension
        self.metric = "cosine"
        self.schema: frozenset[str] | None = None
        """The fields that filters know; None: all."""
        self.spaces: dict[str, Space] = {}
        self.time = 0.0
        self.delays = dict.fromkeys(("query", "fetch", "list", "namespaces"), 0.0)
        """After how many of its seconds each kind of read shows a write."""
        self.lags: list[float] = [0.0]
        """How much later each of its servers, which answer in turn, shows it."""
        self.tells_lsn = True
        self.misses = False
        """Whether every other query misses one that it should find."""
        self.shuffles = True
        self.noise = 0.00112
        self.missing_differs = False
        self.most_namespaces = 100_000
        self.counts_as_text = False
        self.has_documents = False
        """Whether it is an index of documents, which takes no vectors and has none."""
        self.initializing = 0
        """So many looks at the index find it not ready."""
        self.asked: list[Asked] = []
        self.without_version = 0
        self.faults: deque[tuple[str, Fault]] = deque()
        """Each is done once, before the next request of a path that begins so."""
        self.lose_answers: deque[str] = deque()
        """For each, the next answer of a path that begins so is lost after it has been done."""
        self._server = AsyncExitStack()
        self._turn = 0
        self._by_metadata: deque[float] = deque(maxlen=5)
        self._random = random.Random(5)
        self._app = Starlette(
            routes=[
                Route("/vectors/upsert", self._upsert, methods=["POST"]),
                Route("/vectors/delete", self._delete, methods=["POST"]),
                Route("/vectors/fetch", self._fetch, methods=["GET"]),
                Route("/vectors/fetch_by_metadata", self._fetch_by_metadata, methods=["POST"]),
                Route("/vectors/list", self._list, methods=["GET"]),
                Route("/query", self._query, methods=["POST"]),
                Route("/describe_index_stats", self._stats, methods=["POST"]),
                Route("/namespaces", self._namespaces, methods=["GET"]),
                Route("/namespaces", self._make_namespace, methods=["POST"]),
                Route("/namespaces/{name}", self._namespace, methods=["GET"]),
                Route("/namespaces/{name}", self._drop_namespace, methods=["DELETE"]),
                Route("/indexes/{name}", self._describe, methods=["GET"]),
            ],
            exception_handlers={HTTPException: problem},
        )

    async def start(self) -> None:
        """Listen, on the same port as before."""
        port = int(self.url.rpartition(":")[2] or 0)
        self.url = await self._server.enter_async_context(served(self, port))

    async def kill(self) -> None:
        """Hang up on everybody, in the middle of whatever is done, and listen no more."""
        server, self._server = self._server, AsyncExitStack()
        await server.aclose()

    def fail(self, path: str, fault: Fault | Response, times: int = 1) -> None:
        """Do this in place of the next so many requests of the path."""

        async def answer(_: Request) -> Response | None:
            return fault if isinstance(fault, Response) else await fault(_)

        self.faults.extend([(path, answer)] * times)

    def calls(self, path: str) -> list[Asked]:
        """The requests of the path."""
        return [each for each in self.asked if each.path == path]

    def vectors(self, kind: str = "") -> dict[str, Stored]:
        """All that is kept, whatever is shown of it; of one `k` if it is given."""
        return {
            f"{name}/{one}": stored
            for name, space in self.spaces.items()
            for one, stored in space.now.items()
            if kind in ("", stored.metadata.get("k"))
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        request = Request(scope, _again(body, receive))
        path = scope["path"]
        headers = dict(request.headers)
        given = parsed(body)
        self.asked.append(
            Asked(request.method, path, request.query_params.multi_items(), headers, given)
        )
        self.without_version += "x-pinecone-api-version" not in headers
        app: Any = self._app
        fault = next((each for each in self.faults if path.startswith(each[0])), None)
        if fault is not None:
            self.faults.remove(fault)
            answer = await fault[1](request)
            app = answer if answer is not None else app
        elif headers.get("api-key") != KEY:
            app = unauthorized(path)
        elif len(path) + len(scope["query_string"]) > LONGEST_URL:
            app = HTMLResponse("<h1>414 Request-URI Too Large</h1>", 414)
        elif len(body) > LARGEST_BODY:
            app = refusal(3, "Your request is larger than the maximum supported size - 2MB", 400)
        elif path in BODIES and body and not given.keys() <= BODIES[path]:
            app = refusal(3, f"unknown fields {given.keys() - BODIES[path]}", 400)
        lost = next((each for each in self.lose_answers if path.startswith(each)), None)
        if lost is not None:
            self.lose_answers.remove(lost)
            await app(scope, _again(body, receive), _nowhere)
            start = {"type": "http.response.start", "status": 200}
            await send({**start, "headers": [(b"content-length", b"9")]})
            raise ConnectionAbortedError("the answer is lost")  # uvicorn hangs up
        await app(scope, _again(body, receive), _named(send))

    def _space(self, name: str, *, make: bool = False) -> Space | None:
        name = name or "__default__"
        if name not in self.spaces and make:
            if len(self.spaces) >= self.most_namespaces:
                raise HTTPException(403, "plain:Request failed. You've reached max namespaces")
            self.spaces[name] = Space()
        return self.spaces.get(name)

    def _seen(self, name: str, kind: str) -> tuple[dict[str, Stored], int]:
        """What a read of the kind shows, and up to which write."""
        space = self._space(name)
        if space is None or self.has_documents:
            return {}, 0
        lag = self.lags[self._turn % len(self.lags)]
        self._turn += 1
        if not self.delays[kind] and not lag:
            return space.seen(inf)
        return space.seen(self.time - self.delays[kind] - lag)

    def _written(self, answer: dict[str, Any], lsn: int) -> Response:
        headers = {"x-pinecone-request-lsn": str(lsn)} if self.tells_lsn else None
        return JSONResponse(answer, headers=headers)

    async def _upsert(self, request: Request) -> Response:
        if self.has_documents:
            raise HTTPException(400, DOCUMENTS)
        body = await body_of(request)
        vectors = body.get("vectors")
        if not isinstance(vectors, list) or not 1 <= len(vectors) <= 1_000:
            raise HTTPException(400, "an upsert takes 1 to 1000 vectors")
        kept = dict(checked(each, self.dimension) for each in vectors)
        space = self._space(namespace_in(body.get("namespace", "")), make=True)
        assert space is not None
        lsn = space.write(self.time, {**kept})
        return self._written({"upsertedCount": len(vectors)}, lsn)

    async def _delete(self, request: Request) -> Response:
        body = await body_of(request)
        wanted, ids = body.get("filter"), body.get("ids")
        if wanted is not None:
            check(wanted)
            if not wanted:
                raise HTTPException(400, "Delete with empty metadata filter is not allowed")
        elif not body.get("deleteAll") and (not isinstance(ids, list) or len(ids) > 1_000):
            raise HTTPException(400, "a delete takes up to 1000 ids")
        space = self._space(namespace_in(body.get("namespace", "")))
        if space is None:
            raise HTTPException(404, "Namespace not found")
        if wanted is not None:  # whatever the ids are
            ids = [one for one, each in space.now.items() if self._lets(wanted, each)]
        elif body.get("deleteAll"):
            ids = [*space.now]
        lsn = space.write(self.time, dict.fromkeys(ids or []))
        return self._written({}, lsn)

    def _lets(self, wanted: Any, stored: Stored) -> bool:
        return lets(
            wanted,
            stored.metadata,
            schema=self.schema,
            missing_differs=self.missing_differs,
        )

    async def _query(self, request: Request) -> Response:
        body = await body_of(request)
        top_k, vector = body.get("topK"), body.get("vector")
        if not isinstance(top_k, int) or not 1 <= top_k <= 10_000:
            raise HTTPException(400, "topK must be between 1 and 10000")
        wanted = body.get("filter") or {}
        check(wanted)
        if not isinstance(vector, list) or len(vector) != self.dimension:
            told = f"Vector dimension {len(vector or [])} does not match the dimension of the index"
            raise HTTPException(400, f"{told} {self.dimension}")
        name = namespace_in(body.get("namespace", ""))
        shown, lsn = self._seen(name, "query")
        found = [(one, each) for one, each in shown.items() if self._lets(wanted, each)]
        if self.misses and found and self._turn % 2:
            found.pop(self._random.randrange(len(found)))
        matches = self._matches(found, np.array(vector, np.float32), top_k, body)
        answer = {"matches": matches, "namespace": name, "usage": {"readUnits": 1}, "results": []}
        size = len(json.dumps(answer))
        if size > LARGEST_ANSWER:
            told = f"Error, message length too large: found {size} bytes, the limit is:"
            raise HTTPException(400, f"{told} {LARGEST_ANSWER} bytes")
        headers = {"x-pinecone-max-indexed-lsn": str(lsn)} if self.tells_lsn else None
        return JSONResponse(answer, headers=headers)

    def _matches(
        self, found: list[tuple[str, Stored]], vector: Any, top_k: int, body: dict[str, Any]
    ) -> list[dict[str, Any]]:
        if not found:
            return []
        values = np.stack([each.values for _, each in found])
        lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(vector)
        cosines = values @ vector / lengths
        nearest = np.argsort(-cosines, kind="stable")[:top_k].tolist()
        if self.shuffles:
            self._random.shuffle(nearest)
        matches = []
        for n in nearest:
            one, stored = found[n]
            noise = self._random.uniform(0, self.noise)
            match: dict[str, Any] = {"id": one, "score": float(cosines[n]) + noise}
            if body.get("includeValues"):
                match["values"] = stored.values.tolist()
            if body.get("includeMetadata"):
                match["metadata"] = stored.metadata
            matches.append(match)
        return matches

    async def _fetch(self, request: Request) -> Response:
        ids = request.query_params.getlist("ids")
        if not 1 <= len(ids) <= 1_000:
            raise HTTPException(400, "a fetch takes 1 to 1000 ids")
        name = namespace_in(request.query_params.get("namespace", ""))
        shown, _ = self._seen(name, "fetch")
        vectors = {one: whole(one, shown[one]) for one in ids if one in shown}
        answer = {"vectors": vectors, "namespace": name, "usage": {"readUnits": 1}}
        return JSONResponse(answer)

    async def _fetch_by_metadata(self, request: Request) -> Response:
        body = await body_of(request)
        wanted = body.get("filter") or {}
        check(wanted)
        if not wanted:
            raise HTTPException(400, "fetch by metadata needs a filter")
        if len(self._by_metadata) == 5 and self.time - self._by_metadata[0] < 1:
            raise HTTPException(429, "too many fetches by metadata per second for a namespace")
        self._by_metadata.append(self.time)
        shown, _ = self._seen(namespace_in(body.get("namespace", "")), "fetch")
        found = [one for one, each in shown.items() if self._lets(wanted, each)]
        self._random.shuffle(found)
        some = found[: body.get("limit", 100)]
        return JSONResponse({"vectors": {one: whole(one, shown[one]) for one in some}})

    async def _list(self, request: Request) -> Response:
        asked = request.query_params
        name, prefix = namespace_in(asked.get("namespace", "")), asked.get("prefix", "")
        shown, _ = self._seen(name, "list")
        ids = [one for one in sorted(shown) if one.startswith(prefix)]
        some, following = cut(ids, prefix, asked.get("limit"), asked.get("paginationToken"))
        answer = {"vectors": [{"id": one} for one in some], "namespace": name, "usage": {}}
        return JSONResponse({**answer, **following})

    async def _stats(self, request: Request) -> Response:
        namespaces = {
            name: {"vectorCount": len(self._seen(name, "namespaces")[0])} for name in self.spaces
        }
        answer: dict[str, Any] = {"namespaces": namespaces, "indexFullness": 0}
        answer["totalVectorCount"] = sum(each["vectorCount"] for each in namespaces.values())
        if not self.has_documents:
            answer |= {"dimension": self.dimension, "metric": self.metric, "vectorType": "dense"}
        return JSONResponse(answer)

    async def _namespaces(self, request: Request) -> Response:
        asked = request.query_params
        prefix = asked.get("prefix", "")
        delay = self.delays["namespaces"]
        shown = [
            name
            for name, space in sorted(self.spaces.items())
            if name.startswith(prefix) and (not space.log or space.log[0][0] <= self.time - delay)
        ]
        some, following = cut(shown, prefix, asked.get("limit"), asked.get("paginationToken"))
        found = [{"name": name, "record_count": self._count(name)} for name in some]
        return JSONResponse({"namespaces": found, "total_count": len(shown), **following})

    def _count(self, name: str) -> int | str:
        count = len(self._seen(name, "namespaces")[0])
        return str(count) if self.counts_as_text else count

    async def _make_namespace(self, request: Request) -> Response:
        name = namespace_in((await body_of(request)).get("name", ""))
        if name in self.spaces or name in ("", "__default__"):
            raise HTTPException(409, "Namespace already exists")
        self._space(name, make=True)
        return JSONResponse({"name": name, "record_count": 0})

    async def _namespace(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.spaces:
            raise HTTPException(404, "Namespace not found")
        return JSONResponse({"name": name, "record_count": self._count(name)})

    async def _drop_namespace(self, request: Request) -> Response:
        if self.spaces.pop(request.path_params["name"], None) is None:
            raise HTTPException(404, "Namespace not found")
        return JSONResponse({})

    async def _describe(self, request: Request) -> Response:
        self.initializing -= 1
        state = "Initializing" if self.initializing >= 0 else "Ready"
        described: dict[str, Any] = {
            "name": NAME,
            "host": self.url.removeprefix("http://"),
            "status": {"ready": state == "Ready", "state": state},
            "deletion_protection": "disabled",
        }
        place = {"cloud": "aws", "region": "us-east-1"}
        if request.headers.get("x-pinecone-api-version", "") >= "2026-07":
            values = {"type": "dense_vector", "dimension": self.dimension, "metric": self.metric}
            described["schema"] = {"fields": {"_values": values}}
            described["deployment"] = {"deployment_type": "managed", "environment": "aws", **place}
        else:
            described |= {"dimension": self.dimension, "metric": self.metric}
            described |= {"vector_type": "dense", "spec": {"serverless": place}}
        return JSONResponse(described)


def cut_off() -> Fault:
    """The connection is cut before anything was done."""

    async def fault(_: Request) -> Response | None:
        raise ConnectionAbortedError("cut off")

    return fault


def slow(until: asyncio.Event) -> Fault:
    """Nothing is done before the event."""

    async def fault(_: Request) -> Response | None:
        await until.wait()
        return None

    return fault


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then what follows it: that the client has left."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return left.pop() if left else await receive()

    return received


def _named(send: Send) -> Send:
    """Every answer names its request."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"x-pinecone-request-id", b"4711")]
            message = {**message, "headers": headers}
        await send(message)

    return named


async def _nowhere(message: Message) -> None:
    """Where a lost answer goes."""


@asynccontextmanager
async def running(dimension: int = 384) -> AsyncIterator[FakePinecone]:
    """A fake that listens on a free port of this machine."""
    fake = FakePinecone(dimension)
    await fake.start()
    try:
        yield fake
    finally:
        await fake.kill()
