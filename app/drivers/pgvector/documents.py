"""Makes room for a put of a document: in its transaction, one put of a document at a time."""

from dataclasses import dataclass
from datetime import datetime

from app.core.memory.records import Kept
from app.core.memory.requests import Put
from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.sql import knowledge, memories

_ONE_AT_A_TIME = "select pg_advisory_xact_lock(hashtextextended($1, 0))"


@dataclass(frozen=True, slots=True)
class Cleared:
    """What has given way to a put."""

    rows: int
    alive: int
    """Of these, how many had not expired."""
    later: bool
    """Whether the document has records of a later put, which stay in its place."""


async def clear(connection: Pooled, wanted: Put[Kept], now: datetime) -> Cleared:
    """Delete what the put replaces; until the transaction ends, other puts of it wait."""
    user = () if wanted.user_id is None else (wanted.user_id,)
    sql = knowledge if wanted.user_id is None else memories
    of_document = (*user, wanted.doc_id)
    await connection.execute(_ONE_AT_A_TIME, "\n".join(("document", *of_document)))
    gone = await connection.fetchrow(sql.DELETE_DOCUMENT, now, *of_document, wanted.before)
    assert gone is not None  # noqa: S101 - an aggregate without groups always has one
    later: bool = await connection.fetchval(sql.HAS_LATER_PIECES, wanted.created_at, *of_document)
    return Cleared(gone["rows"], gone["alive"], later)
