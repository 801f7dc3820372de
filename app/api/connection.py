"""What a connection may hold and for how long, whichever parser reads it."""

import asyncio
import resource
from typing import Any, Protocol, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from app.logs import get_logger

_HEAD_SECONDS = 30.0
"""From a connection's start, or its last answer, to the end of the next head."""

_UNTAKEN_SECONDS = 60.0
"""How long a client may take nothing of what waits for it."""

_LOOK_SECONDS = 5.0
"""How often a connection is looked at: cheaper than timers that each request starts and stops."""

_MOST = 4_096
"""The most open connections, where the process may have that many descriptors."""

_OTHERS = 100
"""Descriptors that are left to databases, logs and models."""

_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"retry-after: 1\r\nconnection: close\r\ncontent-length: 21\r\n\r\nToo many connections."
)

_log = get_logger(__name__)


class Cycle(Protocol):
    """A request and its answer."""

    response_complete: bool


class Parser(Protocol):
    """What uvicorn's protocols have in common; `cycle` is the last request."""

    cycle: Any

    def connection_made(self, transport: asyncio.Transport) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Parsers(Protocol):
    """A class of parsers."""

    def __call__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> Parser: ...


class _Door:
    """Makes a server's connections, and refuses those that would be too many."""

    def __init__(self, parsers: Parsers) -> None:
        self._parsers = parsers
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if files == resource.RLIM_INFINITY:
            files = _MOST + _OTHERS
        self._most = min(_MOST, max(files // 4, files - _OTHERS))
        self._told = False

    def __call__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        if self._is_full(len(server_state.connections)):
            return _Refused()
        return Connection(self._parsers(config, server_state, app_state))

    def _is_full(self, count: int) -> bool:
        """The first refusal of a rush is told in the log, not each."""
        if count >= self._most:
            if not self._told:
                _log.warning("too_many_connections", limit=self._most, effect="others get 503")
                self._told = True
            return True
        if count <= self._most // 2:
            self._told = False
        return False


def bounded(parsers: Parsers) -> type[asyncio.Protocol]:
    """The `http` of uvicorn's configuration, which it only calls."""
    return cast("type[asyncio.Protocol]", _Door(parsers))


class _Refused(asyncio.Protocol):
    """A connection that is told so and closed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.write(_REFUSAL)
        transport.close()


class Connection(asyncio.Protocol):
    """Stands between the transport and a parser, and ends what waits too long."""

    def __init__(self, parser: Parser) -> None:
        self.parser = parser
        self._loop = asyncio.get_running_loop()
        self._seen: Cycle | None = None
        self.written = 0
        """Bytes that the transport was given, taken by the client or not."""
        self._taken = 0
        self._waiting_since = self._taken_at = self._loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._next_look = self._loop.call_later(_LOOK_SECONDS, self._look)
        self.parser.connection_made(_OneWrite(transport, self, self._loop))

    def connection_lost(self, exc: Exception | None) -> None:
        self._next_look.cancel()
        self.parser.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.parser.data_received(data)

    def eof_received(self) -> None:
        self.parser.eof_received()

    def pause_writing(self) -> None:
        self.parser.pause_writing()

    def resume_writing(self) -> None:
        self.parser.resume_writing()

    def _look(self) -> None:
        self._next_look = self._loop.call_later(_LOOK_SECONDS, self._look)
        now = self._loop.time()
        unsent = self._transport.get_write_buffer_size()
        taken = self.written - unsent
        if unsent == 0 or taken > self._taken:
            self._taken_at = now
        self._taken = taken
        cycle: Cycle | None = self.parser.cycle
        if cycle is not self._seen or (cycle is not None and not cycle.response_complete):
            self._seen, self._waiting_since = cycle, now
        if now - self._taken_at >= _UNTAKEN_SECONDS:
            self._transport.abort()
        elif now - self._waiting_since >= _HEAD_SECONDS:
            self._transport.close()


class _OneWrite(asyncio.Transport):
    """A transport that gathers what is written until the event loop's next step.

    uvicorn writes the head and the body of an answer apart. Each write wakes the client, which
    costs more than anything else that the service does for a request.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__()
        self._transport = transport
        self._connection = connection
        self._loop = loop
        self._waiting: list[bytes] = []

    def write(self, data: Any) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():
            data = b"".join(waiting)
            self._connection.written += len(data)
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def set_protocol(self, protocol: Any) -> None:
        self._connection.parser = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
