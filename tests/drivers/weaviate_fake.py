"""A small Weaviate that speaks HTTP on a real socket, with the traps of the real one.

It does what Weaviate 1.39 was read to do, and no more of its API than the driver uses.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from tests.drivers.weaviate_filters import Refused, Stored
from tests.drivers.weaviate_messages import REPLIES, read, unknown_fields, written
from tests.drivers.weaviate_store import Collection, full_property

KEY = "hunter2-key"

_CONNECT = "/v1/grpc-web/weaviate.v1.Weaviate/"


class FakeWeaviate:
    """The server's state, and switches for what can go wrong."""

    def __init__(self) -> None:
        self.url = ""
        self.version = "1.39.7"
        self.key: str | None = KEY
        """None: there is no authentication, and a header of it is refused."""
        self.collections: dict[str, Collection] = {}
        self.calls: list[str] = []
        """REST calls as their method and path, gRPC's by their names."""
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.unknown: list[str] = []
        """Fields that were sent, and that Weaviate drops without a word."""
        self.under_way = 0
        self.nodes = 3
        self.has_grpc_web = True
        self.is_in_maintenance = False
        self.is_read_only = False
        self.tells_one_of_many = False
        """Whether a batch on a read-only shard is told to have one error (before 1.38.10)."""
        self.has_memory = True
        self.delete_most = 10_000
        """Objects that one call deletes."""
        self.drops_a_hit = False
        """Whether a search without a filter, or beyond the cutoff, misses the nearest."""
        self.indexes_later = False
        """Whether a vector is only found after `settle`."""
        self.lags = False
        """Whether a copy that searches ask gets writes that not all must have only at `settle`."""
        self.before: Callable[[str], Awaitable[Response | None]] | None = None
        """Runs before a call; its answer, if any, is given in place of the call's."""
        self.lose_answers = 0
        """So many answers to batches are lost, after the call has done its work."""
        self.cut_after: int | None = None
        """Objects of the next batch after which the connection is cut; the others are not kept."""
        self.refuse_at: int | None = None
        """The place of an object that the next batch refuses; it keeps the others."""
        self._listening: asyncio.Server | None = None
        self._state = ServerState()

    def of(self, name: str) -> Collection:
        """The one collection whose name ends so."""
        [found] = [each for key, each in self.collections.items() if key.endswith(name)]
        return found

    def settle(self) -> None:
        for each in self.collections.values():
            each.settle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["path"]
        name = path.removeprefix(_CONNECT) if path.startswith(_CONNECT) else ""
        call = name or f"{request.method} {path}"
        self.calls.append(call)
        self.under_way += 1
        try:
            answer = await self._answered(call, name, request)
        finally:
            self.under_way -= 1
        if name == "BatchObjects" and self.lose_answers:
            self.lose_answers -= 1
            headers = [(b"content-length", b"9")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            raise ConnectionAbortedError("the answer is lost")  # uvicorn hangs up
        await answer(scope, receive, send)

    async def _answered(self, call: str, name: str, request: Request) -> Response:
        body = await request.body()
        if not self._knows(request):
            return Response("unauthorized", 401)
        if self.before is not None and (answer := await self.before(call)) is not None:
            return answer
        if not name:
            return await self._rest(request, body)
        if not self.has_grpc_web or request.headers.get("connect-protocol-version") != "1":
            message = f"path {request.url.path} was not found"
            return JSONResponse({"code": 404, "message": message}, 404)
        if self.is_in_maintenance:
            return _problem(503, "unavailable", "the server is in maintenance mode")
        given = json.loads(body)
        self.bodies.append((name, given))
        wrong = unknown_fields(name, given)
        if wrong is not None:
            self.unknown.append(wrong)
        try:
            reply = self._called(name, read(name, given))
            return JSONResponse(reply if isinstance(reply, dict) else written(reply))
        except Refused as error:
            return _problem(500, "unknown", str(error))

    def _knows(self, request: Request) -> bool:
        given = request.headers.get("authorization")
        return given is None if self.key is None else given == f"Bearer {self.key}"

    async def _rest(self, request: Request, body: bytes) -> Response:
        match request.method, request.url.path.split("/")[2:]:
            case "GET", ["meta"]:
                return JSONResponse({"version": self.version, "hostname": "http://[::]:8080"})
            case "GET", ["schema", name]:
                found = self.collections.get(name)
                return (
                    Response(status_code=404) if found is None else JSONResponse(found.definition)
                )
            case "GET", ["schema", name, "shards"]:
                return JSONResponse([self._shard(self.collections[name])])
            case "POST", ["schema"]:
                given = json.loads(body)
                if given["class"] in self.collections:
                    message = f"class name {given['class']} already exists"
                elif given.get("replicationConfig", {}).get("factor", 1) > self.nodes:
                    message = "not enough storage replicas"
                else:
                    message = ""
                if message:
                    return JSONResponse({"error": [{"message": message}]}, 422)
                self.collections[given["class"]] = Collection(given)
                return JSONResponse(self.collections[given["class"]].definition)
            case "DELETE", ["schema", name]:
                self.collections.pop(name, None)
                return Response(status_code=200)
        return JSONResponse({"code": 404, "message": "path was not found"}, 404)

    def _shard(self, collection: Collection) -> dict[str, Any]:
        status = "READONLY" if self.is_read_only else "READY"
        return {"name": "one", "status": status, "vectorQueueSize": len(collection.unindexed)}

    def _called(self, name: str, request: Any) -> Any:
        if name == "BatchObjects":
            return self._batch(request)
        found = self.collections.get(request.collection)
        if found is None:
            raise Refused(f"could not find class {request.collection} in schema")
        if name == "Search":
            return found.search(request, drops_a_hit=self.drops_a_hit)
        if name == "BatchDelete":
            return self._delete(found, request)
        reply = REPLIES["Aggregate"]()
        admits = found.admits(request.filters)
        reply.single_result.objects_count = sum(map(admits, found.objects.values()))
        return reply

    def _batch(self, request: Any) -> Any:
        if not self.has_memory:
            raise Refused("cannot process batch: not enough memory")
        reply = REPLIES["BatchObjects"]()
        some, self.cut_after = self.cut_after, None
        refused_at, self.refuse_at = self.refuse_at, None
        if some is not None:
            self.lose_answers = 1
        for n, each in enumerate(request.objects[:some]):
            try:
                if n == refused_at:
                    raise Refused("the object can't be kept")
                self._keep(each, request.consistency_level)
            except Refused as error:
                if self.is_read_only and self.tells_one_of_many and n:
                    continue
                refused = reply.errors.add()
                refused.index, refused.error = n, str(error)
        return reply

    def _keep(self, given: Any, level: int) -> None:
        if self.is_read_only:
            raise Refused("store is read-only due to: disk usage too high")
        values = dict(given.properties.non_ref_properties.items())
        collection = self._with_schema(given.collection, values)
        UUID(given.uuid)
        vector = collection.vector_of(given.vector_bytes)
        collection.keep(Stored(given.uuid, values, vector), level, lags=self.lags)
        if vector is not None and self.indexes_later:
            collection.unindexed.add(given.uuid)

    def _with_schema(self, name: str, values: dict[str, Any]) -> Collection:
        """The collection; it, and its properties, are made where they are not there."""
        found = self.collections.get(name)
        if found is None:
            found = self.collections[name] = Collection({"class": name})
        for each in values.keys() - found.properties.keys():
            kind = "text" if isinstance(values[each], str) else "number"
            found.definition["properties"].append(full_property({"name": each, "dataType": [kind]}))
        return found

    def _delete(self, collection: Collection, request: Any) -> Any:
        reply = REPLIES["BatchDelete"]()
        admits = collection.admits(request.filters)
        found = [uuid for uuid, one in collection.objects.items() if admits(one)]
        reply.matches = len(found)
        if self.is_read_only and found:
            reply.failed = 1
            return reply
        for uuid in found[: self.delete_most]:
            reply.successful += 1
            if not request.dry_run:
                collection.delete(uuid, request.consistency_level, lags=self.lags)
        return reply

    async def start(self, port: int = 0) -> None:
        """Listen, on the port of before if it was killed."""
        # Weaviate keeps an idle connection for longer than a client does.
        config = uvicorn.Config(
            self, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=30
        )
        config.load()
        self._state = ServerState()
        # Without uvicorn's own server, which looks ten times a second whether it shall end.
        protocol: Any = config.http_protocol_class
        self._listening = await asyncio.get_running_loop().create_server(
            lambda: protocol(config=config, server_state=self._state, app_state={}),
            "127.0.0.1",
            port or int(self.url.rpartition(":")[2] or 0),
        )
        self.url = f"http://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}"

    async def kill(self) -> None:
        """Cut every connection, and take no new one, until it starts again."""
        if self._listening is not None:
            self._listening.close()
        for connection in list(self._state.connections):
            connection.transport.abort()
        for task in self._state.tasks:
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)


def _problem(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"code": code, "message": message}, status)


async def hang(_: str) -> Response | None:
    """Answer nothing, for long."""
    await asyncio.sleep(30)
    return None


@asynccontextmanager
async def running() -> AsyncIterator[FakeWeaviate]:
    """A fake that listens on a free port of this machine, and that was sent no unknown field."""
    fake = FakeWeaviate()
    await fake.start()
    try:
        yield fake
    finally:
        await fake.kill()
    assert not fake.unknown, fake.unknown
