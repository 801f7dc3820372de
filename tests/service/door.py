"""An address that can lead to a PostgreSQL, or not."""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress


class Door:
    """A TCP port in front of a server's Unix socket: kept from others, closed until it is opened.

    While it is closed, connections are refused. `host` is the address it listens on.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket()
        self._socket.bind((host, 0))
        self._path = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = int(self._socket.getsockname()[1])

    async def open(self, path: str) -> None:
        """Lead whoever enters from now on to the Unix socket at `path`."""
        self._path = path

        async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                inner = await asyncio.open_unix_connection(self._path)
            except OSError:
                writer.close()
            else:
                self._start(_pour(reader, inner[1]))
                self._start(_pour(inner[0], writer))

        if self._server is None:
            self._server = await asyncio.start_server(enter, sock=self._socket)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Let nobody in any more, and show everybody out."""
        if self._server is not None:
            self._server.close()
        self._socket.close()
        await self.show_out()

    async def show_out(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
