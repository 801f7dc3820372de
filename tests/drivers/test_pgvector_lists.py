"""How little PostgreSQL reads for a page of knowledge, for a document and for a put."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest

from app.core.memory.cursor import Cursor, DocumentCursor, Place
from app.core.memory.filter import EVERYTHING
from app.core.memory.requests import PageKnowledge, RecallKnowledge
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.sql import knowledge, memories
from app.drivers.pgvector.sql.scope import of_user
from app.embedding import Embedder
from tests.conftest import database_url
from tests.drivers.plans import Node, plans
from tests.drivers.test_pgvector_index import remember_model

MANY = 30_000
CATEGORIES, DOCUMENTS = 30, 3_000
PIECES = MANY // DOCUMENTS
TENANT = "\x1facme"
LIMIT = 20
SPARE = 3
"""Rows that a plan may read besides those that it gives, or looks for."""

FILL_KNOWLEDGE = f"""
    insert into global_knowledge (
        knowledge_id, category, content, doc_id, metadata, created_at, updated_at, position
    )
    select lpad(to_hex(n), 32, '0')::uuid, 'c' || n % {CATEGORIES}, 'kettle',
        'd' || n % {DOCUMENTS}, '{{}}', at, at, n / {DOCUMENTS}
    from generate_series(0, {MANY} - 1) as n,
        lateral (select '2026-01-01Z'::timestamptz + n * interval '1 minute' as at) as time
"""  # noqa: S608
FILL_MEMORIES = f"""
    insert into memories (
        user_id, memory_id, content, tags, metadata, created_at, updated_at, outline
    )
    select $1, lpad(to_hex(n), 32, '0')::uuid, 'kettle', '{{}}',
        json_build_object('doc_id', 'd' || n % {DOCUMENTS}, 'position', n / {DOCUMENTS}),
        at, at, '\\x00'
    from generate_series(0, {MANY} - 1) as n,
        lateral (select '2026-01-01Z'::timestamptz + n * interval '1 minute' as at) as time
"""  # noqa: S608
NOW = datetime(2027, 1, 1, tzinfo=UTC)
MIDDLE = datetime(2026, 1, 11, tzinfo=UTC)


@pytest.fixture(scope="module")
async def filled(postgres: EmbeddedPostgres, template: str, embedder: Embedder) -> str:
    """A database with as much knowledge, and as much of a tenant's, none of it with a vector."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute(f"create database listed template {template}")
    await admin.close()
    url = database_url(postgres, "listed")
    await remember_model(url, embedder)
    connection = await asyncpg.connect(url)
    await connection.execute("alter table memories alter column embedding drop not null")
    await connection.execute(
        "alter table global_knowledge alter column embedding drop not null,"
        " alter column bits drop not null"
    )
    await connection.execute(FILL_KNOWLEDGE)
    await connection.execute(FILL_MEMORIES, TENANT)
    await connection.execute("vacuum analyze memories, global_knowledge")
    await connection.close()
    return url


@dataclass(frozen=True)
class Asked:
    """A statement, the index that serves it, and how many rows it needs."""

    index: str
    rows: int
    statement: str
    arguments: list[Any]


def _page(index: str, rows: int, wanted: PageKnowledge) -> Asked:
    return Asked(index, rows, *knowledge.page(wanted, NOW))


def _pages(index: str, rows: int, **wanted: Any) -> list[Asked]:
    """The first page, and one in the middle of what there is."""
    first = PageKnowledge(limit=LIMIT, **wanted)
    after: Place = Cursor(MIDDLE, UUID(int=MANY // 2))
    if first.doc_id is not None:
        after = DocumentCursor(PIECES // 2, MIDDLE, UUID(int=MANY // 2))
    middle = replace(first, after=after)
    return [_page(index, rows, first), _page(index, rows, middle)]


def _recalled() -> Asked:
    vector = np.full(384, 384**-0.5, np.float32)
    found = knowledge.search(RecallKnowledge(query="kettle", doc_id="d7"), NOW, 384, generation=1)
    return Asked(
        "global_knowledge_document", PIECES, found.statement, [vector, 5, *found.arguments]
    )


def _of_tenant(after: Place | None = None) -> Asked:
    where = of_user(TENANT, None, EVERYTHING)
    where.of_document("d7")
    where.alive(NOW)
    statement = memories.of_document(where, LIMIT + 1, after)
    return Asked("memories_document", PIECES, statement, where.arguments)


ASKED = {
    "newest": _pages("global_knowledge_newest", LIMIT + 1),
    "of a category": _pages("global_knowledge_newest_of_category", LIMIT + 1, category="c7"),
    "of a document": _pages("global_knowledge_document", PIECES, doc_id="d7"),
    "recall of a document": [_recalled()],
    "put": [
        Asked("global_knowledge_document", PIECES, knowledge.DELETE_DOCUMENT, [NOW, "d8", NOW]),
        Asked("global_knowledge_document", PIECES, knowledge.HAS_LATER_PIECES, [NOW, "d9"]),
    ],
    "of a tenant's document": [
        _of_tenant(),
        _of_tenant(DocumentCursor(PIECES // 2, MIDDLE, UUID(int=MANY // 2))),
    ],
    "put of a tenant": [
        Asked("memories_document", PIECES, memories.DELETE_DOCUMENT, [NOW, TENANT, "d8", NOW]),
        Asked("memories_document", PIECES, memories.HAS_LATER_PIECES, [NOW, TENANT, "d9"]),
    ],
}


def _read(nodes: list[Node]) -> float:
    """Rows of a table, or entries of an index, that one node has looked at, at most."""
    found: float = max(
        node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
        for node in nodes
        if "Relation Name" in node or "Index Name" in node
    )
    return found


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
async def test_an_index_gives_a_page_or_a_document(filled: str, asked: list[Asked]) -> None:
    async with plans(filled) as running:
        for each in asked:
            nodes = await running.run(each.statement, *each.arguments)
            assert each.index in {node.get("Index Name") for node in nodes}, nodes
            assert _read(nodes) <= each.rows + SPARE, nodes
