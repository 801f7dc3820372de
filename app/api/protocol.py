"""How a connection is spoken: uvicorn's protocol on httptools, with what it leaves open."""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD_BYTES = 65_536
"""Of a request line with its headers; beyond what one read from the socket brings."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP as h11 speaks it, at httptools' speed, each answer in one system call.

    It refuses a head without end, and one that does not name exactly one host or has a fragment.
    """

    _in_head = True
    _head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(_OneWrite(transport, self.loop))

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        in_head = self._in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._hand_over(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse()
        else:
            if in_head and self._in_head:
                self._head_size += len(data)
                if self._head_size > _HEAD_BYTES:
                    self._refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what follows a body is not read
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("a request is for one host")  # the parser makes it a parser's error
        if b"#" in self.url:  # the path would end there, and could be another one's
            raise ValueError("a request's target has no fragment")
        self._in_head = False
        if self.parser.should_upgrade():
            self.scope["method"] = self.parser.get_method().decode()
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def _hand_over(self, rest: bytes) -> None:
        """Let h11 answer a request that offers another protocol: httptools loses its body.

        Java's client offers HTTP/2 with its first request.
        """
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        self.connections.discard(self)
        version = self.parser.get_http_version()
        lines = [f"{self.scope['method']} ".encode() + self.url + f" HTTP/{version}".encode()]
        lines += [name + b": " + value for name, value in self.headers]
        h11 = H11Protocol(self.config, self.server_state, self.app_state)
        h11.connection_made(self.transport)
        self.transport.set_protocol(h11)
        h11.data_received(b"\r\n".join([*lines, b"", rest]))


class _OneWrite(asyncio.Transport):
    """A transport that gathers what is written until the event loop's next step.

    uvicorn writes the head and the body of an answer apart. Each write wakes the client, which
    costs more than anything else that the service does for a request.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes] = []

    def write(self, data: Any) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._transport.write(b"".join(waiting))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
