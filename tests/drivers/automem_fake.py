"""A small AutoMem that speaks HTTP on a real socket, with the traps of the real one.

It does what AutoMem 0.16.1 was seen or read to do, and keeps what it stores in two places as that
one does: a graph, which is written at once, and vectors, which follow.
"""

import hashlib
import json
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid4

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from app.embedding import Embedder
from tests.drivers.automem_ranking import (
    Node,
    a_result,
    by_score,
    found_by_keywords,
    merged,
    weigh,
)
from tests.drivers.served import served

TOKEN = "hunter2-token"  # noqa: S105 - no secret
LONGEST_URL = 4_094


class FakeAutomem:
    """The server's state, and switches for what can go wrong."""

    def __init__(self, embedder: Embedder) -> None:
        self.url = ""
        self.calls: list[tuple[str, str]] = []
        self.queries: list[dict[str, list[str]]] = []
        self.graph: dict[str, Node] = {}
        self.vectors: dict[str, tuple[Any, Node]] = {}
        self.unembedded: list[str] = []
        self.embeds_batches = True
        self.has_vectors = True
        self.vector_store_up = True
        """While it is not, AutoMem goes on without it, and says "connected" all the same."""
        self.lose_vector_calls = 0
        """So many calls of the vector store fail, which AutoMem swallows."""
        self.lose_provider_calls = 0
        """So many times the embedding provider fails: a hash becomes the vector, for good."""
        self.between_writes: Callable[[], Awaitable[None]] | None = None
        """Runs in a store after the graph has its memories, and before their vectors are there."""
        self.database_up = True
        self.summarises = False
        self.before: Callable[[Request], Awaitable[Response | None]] | None = None
        """Runs before a route; its answer, if any, is given in place of the route's."""
        self.lose_answers = 0
        """So many answers are lost on the way, after the route has done its work."""
        self.embedder = embedder
        self._app = Starlette(
            routes=[
                Route("/memory/batch", self._batch, methods=["POST"]),
                Route("/memory/by-tag", self._by_tag, methods=["GET"]),
                Route("/memory/by-tag", self._delete_by_tag, methods=["DELETE"]),
                Route("/memory/{memory_id}", self._get, methods=["GET"]),
                Route("/memory/{memory_id}", self._delete, methods=["DELETE"]),
                Route("/memory", self._store, methods=["POST"]),
                Route("/recall", self._recall, methods=["GET"]),
                Route("/health", self._health),
                Route("/enrichment/status", self._enrichment),
            ],
            exception_handlers={HTTPException: _problem, Exception: _problem},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = _closing(send)
        request = Request(scope, receive)
        self.calls.append((request.method, request.url.path))
        self.queries.append(parse_qs(scope["query_string"].decode()))
        app: Any = self._app
        if len(scope["path"]) + len(scope["query_string"]) > LONGEST_URL:
            app = HTMLResponse("<h1>Request-URI Too Long</h1>", 414)
        elif scope["path"] != "/health" and not self._knows(request):
            app = _error(401, "Unauthorized")
        elif self.before is not None and (answer := await self.before(request)) is not None:
            app = answer
        elif self.lose_answers and scope["path"] != "/health":
            self.lose_answers -= 1
            await app(scope, receive, _nowhere)
            headers = [(b"content-length", b"9")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            raise ConnectionAbortedError("the answer is lost")  # uvicorn hangs up
        await app(scope, receive, send)

    def _knows(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {TOKEN}"

    async def catch_up(self) -> None:
        """Embed what waits for it."""
        waiting, self.unembedded = self.unembedded, []
        await self._embed([self.graph[one] for one in waiting if one in self.graph])

    async def _embed(self, nodes: list[Node]) -> bool:
        """Put their vectors beside what they are now; False where the vector store is away."""
        nodes = json.loads(json.dumps(nodes))
        vectors: list[Any] = list(await self.embedder.embed([node["content"] for node in nodes]))
        if self.lose_provider_calls:
            self.lose_provider_calls -= 1
            vectors = [_placeholder(node["content"]) for node in nodes]
        if self.between_writes is not None:
            await self.between_writes()
        if not self._reaches_vectors():
            return False
        for node, vector in zip(nodes, vectors, strict=True):
            self.vectors[node.pop("id")] = (vector, node)
        return True

    def _reaches_vectors(self) -> bool:
        if self.lose_vector_calls:
            self.lose_vector_calls -= 1
            return False
        return self.has_vectors and self.vector_store_up

    def _forget_vector(self, memory_id: str) -> None:
        if self._reaches_vectors():
            self.vectors.pop(memory_id, None)

    def add(self, content: str, tags: list[str], **more: Any) -> str:
        """A memory of another client."""
        return self._keep({"content": content, "tags": tags, **more}, batch=False)

    def _keep(self, body: Any, *, batch: bool) -> str:
        content = str(body["content"]).strip()
        given = body.get("metadata")
        metadata: Node = dict(given) if isinstance(given, dict) else {}
        if self.summarises and len(content) > 500:
            if not batch:
                metadata |= {"original_content": content, "was_summarized": True}
            content = f"Summary: {content[:40]}"
        others = " ".join(node["content"] for node in list(self.graph.values())[-3:])
        metadata["entities"] = {"people": ["Somebody"]}
        metadata["enrichment"] = {"semantic_neighbors": [{"key_terms": others.split()[:20]}]}
        memory_id = str(uuid4())
        self.graph[memory_id] = {
            "id": memory_id,
            "content": content,
            "tags": [*body.get("tags", []), "entity:people:somebody"],
            "importance": float(body.get("importance", 0.5)),
            "confidence": float(body.get("confidence", 0.9)),
            "type": body.get("type") or "Memory",
            "timestamp": body.get("timestamp") or datetime.now(UTC).isoformat(),
            "metadata": metadata,
            "summary": others[:100],
        }
        return memory_id

    async def _store(self, request: Request) -> Response:
        body = await _json(request)
        _check(body)
        self._need_database()
        memory_id = self._keep(body, batch=False)
        self.unembedded.append(memory_id)
        return JSONResponse({"status": "success", "memory_id": memory_id, "qdrant": "queued"}, 201)

    async def _batch(self, request: Request) -> Response:
        memories = (await _json(request)).get("memories")
        if not isinstance(memories, list) or not 1 <= len(memories) <= 500:
            raise HTTPException(400, "Batch size limit is 500 memories per request")
        for body in memories:
            _check(body)
        self._need_database()
        ids = [self._keep(body, batch=True) for body in memories]
        if self.embeds_batches and self.has_vectors:
            stored = await self._embed([self.graph[one] for one in ids])
            vectors = f"stored ({len(ids)})" if stored else "failed"
        else:
            self.unembedded += ids
            vectors = "queued" if self.has_vectors else "unconfigured"
        answer = {"status": "success", "stored": len(ids), "memory_ids": ids, "qdrant": vectors}
        return JSONResponse(answer, 201)

    async def _get(self, request: Request) -> Response:
        node = self._node(request)
        return JSONResponse({"status": "success", "memory": node})

    async def _delete(self, request: Request) -> Response:
        memory_id = self._node(request)["id"]
        del self.graph[memory_id]
        self._forget_vector(memory_id)
        return JSONResponse({"status": "success", "memory_id": memory_id})

    def _node(self, request: Request) -> Node:
        memory_id = request.path_params["memory_id"]
        try:
            UUID(memory_id)
        except ValueError:
            raise HTTPException(400, "memory_id must be a valid UUID") from None
        self._need_database()
        if memory_id not in self.graph:
            raise HTTPException(404, "Memory not found")
        return self.graph[memory_id]

    def _tagged(self, request: Request) -> list[Node]:
        asked = {_fold(tag) for tag in request.query_params.getlist("tags") if tag.strip()}
        if not asked:
            raise HTTPException(400, "'tags' query parameter is required")
        self._need_database()
        found = [n for n in self.graph.values() if asked & {_fold(tag) for tag in n["tags"]}]
        found.sort(key=lambda node: node["id"])
        found.sort(key=lambda node: (node["importance"], node["timestamp"]), reverse=True)
        return found

    async def _by_tag(self, request: Request) -> Response:
        found = self._tagged(request)
        limit = max(1, min(_whole(request, "limit", 20), 200))
        offset = max(0, _whole(request, "offset", 0))
        memories = found[offset : offset + limit]
        more = len(found) > offset + limit
        return JSONResponse({"status": "success", "memories": memories, "has_more": more})

    async def _delete_by_tag(self, request: Request) -> Response:
        found = self._tagged(request)
        for node in found:
            del self.graph[node["id"]]
            self._forget_vector(node["id"])
        return JSONResponse({"status": "success", "deleted": len(found)})

    async def _recall(self, request: Request) -> Response:
        if not self.database_up:
            return JSONResponse({"status": "success", "count": 0, "results": []})
        asked = request.query_params
        query = asked.get("query", "").strip()
        limit = max(1, min(_whole(request, "limit", 5), 100))
        keep = _tag_filter(request)
        results: list[Node] = []
        if query not in {"", "*"} and self._reaches_vectors():
            vector = await self.embedder.embed_query(query)
            hits = [
                (float(np.dot(vector, other)), memory_id, payload)
                for memory_id, (other, payload) in self.vectors.items()
                if keep(payload)
            ]
            for cosine, memory_id, payload in sorted(hits, key=lambda h: -h[0])[:100]:
                results.append(a_result(memory_id, payload, "vector", cosine))
        if len(results) < limit:
            seen = {result["id"] for result in results}
            others = [n for n in self.graph.values() if n["id"] not in seen and keep(n)]
            results += found_by_keywords(others, query)[: limit - len(results)]
        for result in results:
            weigh(result, query)
        results.sort(key=by_score)
        results = merged(results)[:limit]
        drop = [_fold(t) for ts in asked.getlist("exclude_tags") for t in ts.split(",") if t]
        results = [
            result
            for result in results
            if not any(_fold(tag).startswith(t) for tag in result["memory"]["tags"] for t in drop)
        ]
        if asked.get("adaptive_floor", "true") == "true":
            best = max((result["final_score"] for result in results), default=0)
            results = [result for result in results if result["final_score"] >= 0.75 * best]
        if asked.get("state_mode", "current") == "current":
            results = [result for result in results if not result["memory"].get("t_invalid")]
        for result in results:
            others = [n for n in self.graph.values() if n["id"] != result["id"]][-5:]
            result["relations"] = [{"type": "RELATES_TO", "memory": node} for node in others]
        return JSONResponse({"status": "success", "count": len(results), "results": results})

    async def _health(self, request: Request) -> Response:
        count = len(self.graph) if self.database_up else None
        return JSONResponse(
            {
                "status": "healthy",
                "falkordb": "connected",
                "qdrant": "connected" if self.has_vectors else "disconnected",
                "memory_count": count,
                "vector_count": len(self.vectors) if self.vector_store_up else None,
                "sync_status": "synced" if count == len(self.vectors) else "drift_detected",
                "vector_dimensions": {"configured": 384, "mismatch": False},
            }
        )

    async def _enrichment(self, request: Request) -> Response:
        return JSONResponse({"status": "running"})

    def _need_database(self) -> None:
        if not self.database_up:
            raise HTTPException(500, "Failed to reach FalkorDB at falkor.internal:6379")


def _tag_filter(request: Request) -> Callable[[Node], bool]:
    asked = request.query_params
    tags = [_fold(tag) for tag in asked.getlist("tags") if tag.strip()]
    every = all if asked.get("tag_mode") == "all" else any
    exact = asked.get("tag_match") == "exact"

    def keep(node: Node) -> bool:
        has = [_fold(tag) for tag in node["tags"]]
        if not tags:
            return True
        return every(tag in has if exact else any(h.startswith(tag) for h in has) for tag in tags)

    return keep


def _fold(tag: str) -> str:
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in tag.strip())


def _check(body: Any) -> None:
    """Refuse what AutoMem refuses, and fail where AutoMem fails."""
    content = body.get("content") if isinstance(body, dict) else None
    if content is not None and not isinstance(content, str):
        raise RuntimeError("content.strip")
    if not content or not content.strip():
        raise HTTPException(400, "'content' is required")
    if len(content.strip()) > 2_000:
        raise HTTPException(400, f"Content exceeds maximum length: {content[:50]}")
    if not _keeps(body):
        raise RuntimeError("the database can't keep it")


def _keeps(value: Any) -> bool:
    """Whether its database takes the value: no NUL, no lone surrogate, no NaN."""
    if isinstance(value, dict):
        return all(map(_keeps, [*value.keys(), *value.values()]))
    if isinstance(value, list):
        return all(map(_keeps, value))
    if isinstance(value, str):
        return re.search("[\x00\ud800-\udfff]", value) is None
    return not isinstance(value, float) or math.isfinite(value)


def _whole(request: Request, name: str, default: int) -> int:
    try:
        return int(request.query_params.get(name, default))
    except ValueError:
        return default


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except ValueError:
        raise HTTPException(400, "JSON body is required") from None


def _error(code: int, message: str) -> JSONResponse:
    return JSONResponse({"status": "error", "code": code, "message": message}, code)


async def _problem(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return _error(error.status_code, error.detail)
    return _error(500, "Internal server error")


def _placeholder(content: str) -> Any:
    """A vector that tells nothing of the content but its hash."""
    seed = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8])
    vector = np.random.default_rng(seed).normal(size=384)
    return vector / np.linalg.norm(vector)


def _closing(send: Send) -> Send:
    """Every answer ends its connection, as those of AutoMem's server do."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), (b"connection", b"close")]
            message = {**message, "headers": headers}
        await send(message)

    return closing


async def _nowhere(message: Message) -> None:
    """Where a lost answer goes."""


@asynccontextmanager
async def running(embedder: Embedder) -> AsyncIterator[FakeAutomem]:
    """A fake that listens on a free port of this machine."""
    fake = FakeAutomem(embedder)
    async with served(fake) as fake.url:
        yield fake
