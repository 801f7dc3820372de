"""How a connection is spoken: uvicorn's protocol on httptools, with what it leaves open."""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_FRAMING_BYTES = 65_536
"""Of a request line with its headers, and of what is around and behind the bytes of a body."""

_HEADERS = 256
"""Of a request: each is kept in many times its bytes, and looked at by everything on the way."""

_PIECE_BYTES = 8_192
"""What the parser gets at once: it can't be stopped at the end of a request."""


class HttpProtocol(HttpToolsProtocol):
    """HTTP as h11 speaks it, at httptools' speed.

    It refuses a head and trailers without end, and a head that has too many headers, does not name
    exactly one host or has a fragment. It reads no further while requests wait for the answer to
    one before them.
    """

    _in_head = True
    _framing = 0
    _stopped = False
    _rest = memoryview(b"")
    """What was read and the parser has yet to get."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        flow: Any = self
        self.flow = FlowControl(flow)

    def data_received(self, data: bytes) -> None:
        if self._rest or len(data) > _PIECE_BYTES:
            self._rest = memoryview(bytes(self._rest) + data)
            self._read_on()
        else:
            self._feed(data)

    def pause_reading(self) -> None:
        """Called by the flow control."""
        self._stopped = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Called by the flow control."""
        self.loop.call_soon(self._read_on)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._stopped:
            self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        """Go on with what was read and then with reading, unless something has to be waited for."""
        while self.parser is not None and not self.transport.is_closing():
            if self.flow.read_paused or self.pipeline:
                self.pause_reading()
                return
            if not self._rest:
                self._stopped = False
                self.transport.resume_reading()
                return
            piece, self._rest = self._rest[:_PIECE_BYTES], self._rest[_PIECE_BYTES:]
            self._feed(piece)

    def _feed(self, piece: bytes | memoryview) -> None:
        self._unset_keepalive_if_required()
        self._framing += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            rest, self._rest = self._rest, memoryview(b"")
            self._hand_over(bytes(piece[upgrade.args[0] :]) + bytes(rest))
        except httptools.HttpParserError:
            self._refuse()
        else:
            if self._framing > _FRAMING_BYTES:
                self._refuse()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_body(self, body: bytes) -> None:
        self._framing = 0
        super().on_body(body)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what follows a body is not read
            if len(self.headers) >= _HEADERS:
                raise ValueError("a request has no more headers")  # as in on_headers_complete
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError("a request is for one host")  # the parser makes it a parser's error
        if b"#" in self.url:  # the path would end there, and could be another one's
            raise ValueError("a request's target has no fragment")
        self._in_head = False
        self._framing = 0
        if self.parser.should_upgrade():
            self.scope["method"] = self.parser.get_method().decode()
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._framing = 0
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
        self.parser = None  # type: ignore[assignment]  # as uvicorn's, when it is done
        self.transport.resume_reading()
        lines = [f"{self.scope['method']} ".encode() + self.url + f" HTTP/{version}".encode()]
        lines += [name + b": " + value for name, value in self.headers]
        h11 = H11Protocol(self.config, self.server_state, self.app_state)
        h11.connection_made(self.transport)
        self.transport.set_protocol(h11)
        h11.data_received(b"\r\n".join([*lines, b"", rest]))
