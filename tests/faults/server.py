"""A PostgreSQL that is killed, and comes back when it is told to."""

import asyncio
import os
import signal
from pathlib import Path
from uuid import uuid4

import asyncpg

from app.drivers.pgvector import migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres

Rows = dict[str, tuple[str | None, str]]


class Server(EmbeddedPostgres):
    """The embedded server, which starts again by itself only while it may."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self._may_start = asyncio.Event()
        self._may_start.set()
        self._at_head = False

    async def _start(self) -> None:
        await self._may_start.wait()
        await super()._start()

    def kill(self, *, away: bool = False) -> None:
        """SIGKILL; with `away` it stays dead until it is `back`."""
        if away:
            self._may_start.clear()
        os.kill(self.pid, signal.SIGKILL)

    def back(self) -> None:
        """Start again."""
        self._may_start.set()

    async def database(self, dimension: int | None = None) -> str:
        """The URL of a new database: empty, or at head for vectors of this dimension."""
        name = f"test_{uuid4().hex}"
        template = "template1"
        if dimension is not None:
            template = "memory"
            if not self._at_head:
                await migrations.upgrade(self.dsn, dimension)
                self._at_head = True
        admin = await asyncpg.connect(self.admin_dsn.replace("/memory?", "/postgres?"))
        await admin.execute(f"create database {name} template {template}")
        await admin.close()
        return self.admin_dsn.replace("/memory?", f"/{name}?")


async def rows(url: str) -> Rows:
    """User and content of every memory, and content of all knowledge, by id; of none expired."""
    connection = await asyncpg.connect(url)
    there = "expires_at is null or expires_at > now()"
    memories = await connection.fetch(
        f"select memory_id, user_id, content from memories where {there}"  # noqa: S608
    )
    knowledge = await connection.fetch(
        f"select knowledge_id, content from global_knowledge where {there}"  # noqa: S608
    )
    await connection.close()
    kept: Rows = {str(row["memory_id"]): (row["user_id"], row["content"]) for row in memories}
    kept |= {str(row["knowledge_id"]): (None, row["content"]) for row in knowledge}
    assert len(kept) == len(memories) + len(knowledge)
    return kept
