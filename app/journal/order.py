"""A user's deletion and what is stored after it: the order that they keep on every driver.

A driver that gets a `delete_user` late would lose what was stored after it. So a store that comes
after one is brought to the driver after it, also where the driver refused the deletion for now:
that is tried again.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, exists, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.memory.records import record_id
from app.journal.entries import Entry, Write
from app.journal.tables import deliveries, entries

IDS_AT_ONCE = 500
"""How many ids one statement names."""

_LOCKS = {
    "store": text("select pg_advisory_xact_lock_shared(unnest(cast(:keys as bigint[])))"),
    "delete_user": text("select pg_advisory_xact_lock(unnest(cast(:keys as bigint[])))"),
}

T = TypeVar("T")


def parts(keys: Sequence[T]) -> list[Sequence[T]]:
    """The keys, as many at a time as one statement names."""
    return [keys[start : start + IDS_AT_ONCE] for start in range(0, len(keys), IDS_AT_ONCE)]


async def take_turns(connection: AsyncConnection, wrapper: str, writes: Sequence[Write]) -> None:
    """Let a user's deletion have its place before or after each store of that user.

    For a shared journal. Places are given before a transaction ends: without this, a store could
    have a later place than a deletion that nobody sees yet.
    """
    for verb, lock in _LOCKS.items():
        users = {write.user_id for write in writes if write.verb == verb}
        keys = sorted(_key(f"{wrapper}\0{user_id}") for user_id in users)
        for some in parts(keys):  # in one order: none waits for one that waits for it
            await connection.execute(lock, {"keys": list(some)})


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)


async def behind(
    connection: AsyncConnection, wrapper: str, stored: Sequence[Entry], known: bool
) -> dict[int, frozenset[str]]:
    """By seq, the drivers that still have to get an earlier delete of what the store keeps.

    Where the ids are `known`, also an earlier store of the user: who brings that finds the
    tombstone of a delete between the two, and deletes what is stored again.
    """
    earliest = select(
        entries.c.user_id, entries.c.record_id, deliveries.c.target, func.min(entries.c.seq)
    )
    earliest = earliest.join(deliveries, deliveries.c.seq == entries.c.seq)
    earliest = earliest.where(entries.c.wrapper == wrapper)
    earliest = earliest.group_by(entries.c.user_id, entries.c.record_id, deliveries.c.target)
    users = sorted({entry.user_id for entry in stored if entry.user_id is not None})
    ids = sorted({record_id(record) for entry in stored for record in entry.records})
    rows: list[Any] = []
    verbs = ["delete_user", "store"] if known else ["delete_user"]
    for some in parts(users):
        of_users = earliest.where(entries.c.verb.in_(verbs), entries.c.user_id.in_(some))
        rows += (await connection.execute(of_users)).all()
    if known and any(entry.user_id is None for entry in stored):
        knowledge = earliest.where(entries.c.verb == "store_knowledge")
        rows += (await connection.execute(knowledge)).all()
    for some in parts(ids):
        rows += (await connection.execute(earliest.where(entries.c.record_id.in_(some)))).all()
    waiting: dict[tuple[str | None, str | None], list[tuple[str, int]]] = {}
    for user_id, one, target, seq in rows:
        waiting.setdefault((user_id, one), []).append((target, seq))
    return {
        entry.seq: frozenset(
            target
            for concerned in _concerned(entry)
            for target, seq in waiting.get(concerned, ())
            if seq < entry.seq
        )
        for entry in stored
    }


def _concerned(stored: Entry) -> Iterator[tuple[str | None, str | None]]:
    """User and record of each earlier write that concerns the store."""
    yield stored.user_id, None
    for record in stored.records:
        yield stored.user_id, record_id(record)
        yield None, record_id(record)


def waiting_writes(
    wrapper: str, user_ids: Sequence[str], ids: Sequence[str], driver: str
) -> Iterator[Select[Any]]:
    """One write that the driver has to get before what is to be stored, if there is any.

    A deletion of these users or records; where the `ids` are known, also a store, as in `behind`.
    """
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
    if ids:
        for some in parts(user_ids):
            yield waiting.where(entries.c.verb == "store", entries.c.user_id.in_(some))
        yield waiting.where(entries.c.verb == "store_knowledge")


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
            or_(entries.c.leased_until > now, deliveries.c.dead_letter),
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
        or_(earlier.c.leased_until > now, its.c.dead_letter),
    )
