"""A user's deletion and what is stored after it: the order that they keep on every driver.

A driver that gets a `delete_user` late would lose what was stored after it. So a store that comes
after one is brought to the driver after it, also where the driver refused the deletion for now:
that is tried again.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, exists, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.memory import codec
from app.core.memory.journal.entries import Write
from app.core.memory.journal.tables import deliveries, entries

IDS_AT_ONCE = 500
"""How many ids one statement names."""


T = TypeVar("T")


def parts(keys: Sequence[T]) -> list[Sequence[T]]:
    """The keys, as many at a time as one statement names."""
    return [keys[start : start + IDS_AT_ONCE] for start in range(0, len(keys), IDS_AT_ONCE)]


async def take_turns(connection: AsyncConnection, wrapper: str, write: Write) -> None:
    """Let a user's deletion have its place before or after each store of that user.

    For a shared journal. Places are given before a transaction ends: without this, a store could
    have a later place than a deletion that nobody sees yet.
    """
    if write.verb in ("store", "delete_user"):
        kind = "_shared" if write.stores else ""
        name = f"{wrapper}\0{write.user_id}".encode()
        key = int.from_bytes(blake2b(name, digest_size=8).digest(), signed=True)
        await connection.execute(text(f"select pg_advisory_xact_lock{kind}(:key)"), {"key": key})


async def behind(
    connection: AsyncConnection, wrapper: str, seq: int, write: Write
) -> frozenset[str]:
    """The drivers that still have to get an earlier delete of what the store keeps."""
    found: set[str] = set()
    ids = sorted(codec.record_id(record) for record in write.records)
    for some in parts(ids):
        waiting = (
            select(deliveries.c.target)
            .join(entries, entries.c.seq == deliveries.c.seq)
            .where(
                entries.c.wrapper == wrapper,
                or_(entries.c.user_id == write.user_id, entries.c.user_id.is_(None)),
                or_(entries.c.verb == "delete_user", entries.c.record_id.in_(some)),
                entries.c.seq < seq,
            )
            .distinct()
        )
        found |= set((await connection.execute(waiting)).scalars())
    return frozenset(found)


def waiting_deletions(
    wrapper: str, user_ids: Sequence[str], ids: Sequence[str], driver: str
) -> Iterator[Select[Any]]:
    """One deletion of these users or records that the driver still has to get, if there is any."""
    waiting = (
        select(entries.c.seq)
        .join(deliveries, deliveries.c.seq == entries.c.seq)
        .where(entries.c.wrapper == wrapper, deliveries.c.target == driver)
        .limit(1)
    )
    for some in parts(user_ids):
        yield waiting.where(entries.c.verb == "delete_user", entries.c.user_id.in_(some))
    for some in parts(ids):
        yield waiting.where(entries.c.record_id.in_(some))


def late_deletes(wrapper: str, driver: str, now: Any) -> Select[Any]:
    """Deletes of one record that come to the driver after younger writes.

    Somebody is still busy with them, or the driver refused them: as in `before_a_delete`.
    """
    return (
        select(entries.c.seq, entries.c.record_id)
        .join(deliveries, deliveries.c.seq == entries.c.seq)
        .where(
            entries.c.wrapper == wrapper,
            entries.c.record_id.is_not(None),
            deliveries.c.target == driver,
            or_(entries.c.held_until > now, deliveries.c.parked),
        )
        .order_by(entries.c.seq)
        .limit(IDS_AT_ONCE)
    )


def before_a_delete(wrapper: str, driver: str, now: Any) -> ColumnElement[bool]:
    """Whether the store has to wait for an earlier deletion of its user.

    Somebody is still busy with that, or the driver refused it and will be asked again.
    """
    earlier, its = entries.alias("earlier"), deliveries.alias("its")
    return exists().where(
        entries.c.verb == "store",
        earlier.c.wrapper == wrapper,
        earlier.c.user_id == entries.c.user_id,
        earlier.c.verb == "delete_user",
        earlier.c.seq < entries.c.seq,
        its.c.seq == earlier.c.seq,
        its.c.target == driver,
        or_(earlier.c.held_until > now, its.c.parked),
    )
