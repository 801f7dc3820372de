"""The plan that PostgreSQL really ran a statement by, as a connection of the pool would."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
from asyncpg.exceptions import PostgresLogMessage
from pgvector.asyncpg import register_vector

from app.drivers.pgvector.checks import Connection
from app.drivers.pgvector.connections import SESSION

Node: TypeAlias = dict[str, Any]

# EXPLAIN itself would plan for the arguments at hand, and the service plans once for all.
_EXPLAIN = """
    load 'auto_explain';
    set auto_explain.log_min_duration = 0;
    set auto_explain.log_analyze = on;
    set auto_explain.log_timing = off;
    set auto_explain.log_format = json;
    set auto_explain.log_level = notice;
    set auto_explain.log_parameter_max_length = 0
"""


class Plans:
    """Runs statements, and tells the nodes of their plans."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._messages: list[str] = []
        connection.add_log_listener(self._listen)

    def _listen(self, _: object, message: PostgresLogMessage) -> None:
        self._messages.append(str(message))

    async def run(self, statement: str, *arguments: Any) -> list[Node]:
        """Every node of the plan of `statement`, outermost first."""
        prepared = await self._connection.prepare(statement)  # asks for types, by statements too
        self._messages.clear()
        await prepared.fetch(*arguments)
        (message,) = [m for m in self._messages if "plan:" in m]
        return list(_nodes(json.loads(message[message.index("{") :])["Plan"]))


@asynccontextmanager
async def plans(url: str) -> AsyncIterator[Plans]:
    """A connection with the settings of the pool's."""
    connection = await asyncpg.connect(url)
    try:
        await register_vector(connection)
        await connection.execute(SESSION)
        await connection.execute(_EXPLAIN)
        yield Plans(connection)
    finally:
        await connection.close()


def _nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def of_memories(nodes: list[Node]) -> list[Node]:
    """The nodes that read the table or one of its indexes, and were run at all."""
    return [
        node
        for node in nodes
        if node["Actual Loops"] > 0
        and (
            node.get("Relation Name") == "memories"
            or node.get("Index Name", "").startswith("memories_")
        )
    ]


def rows_read(nodes: list[Node]) -> float:
    """How many rows of the table itself were looked at; an index-only scan looks at none."""
    looked_at: float = sum(
        node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in nodes
        if node.get("Relation Name") == "memories" and node["Node Type"] != "Index Only Scan"
    )
    return looked_at + sum(float(node.get("Heap Fetches", 0)) for node in nodes)
