"""The exchange of the two places: one transaction, for which others wait less than a second."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final

from asyncpg import exceptions as pg

from app.drivers.pgvector import indexes
from app.drivers.pgvector.checks import Connection
from app.drivers.pgvector.sql import reembedding as sql
from app.drivers.pgvector.sql.reembedding import Places
from app.errors import ConfigurationError

FEW: Final = 100
"""Records that may be missing still: they are embedded while writes wait."""
_SHARE: Final = 0.85
"""Of PostgreSQL's deadlock_timeout: after that it may end a transaction of a service that waits for
this one, and not this one."""
_EMBEDDING: Final = 0.5
"""Of that time, how much may go by until only the exchange is left."""

_DEADLOCK_MILLISECONDS = """
    select setting::int from pg_settings where name = 'deadlock_timeout'
"""
_TRY_LOCK = "select pg_try_advisory_xact_lock($1)"
_FUNCTIONS: Final = ("memories_changed()", "of_model(integer)")

# $1 a table's quoted name
_GRANTS = """
    select privilege_type as privilege, is_grantable,
        case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end as role
    from pg_class, aclexplode(relacl) where pg_class.oid = $1::regclass and grantee <> relowner
"""
_OWNER = "select quote_ident(pg_get_userbyid(relowner)) from pg_class where oid = $1::regclass"


class _NotNow(Exception):
    """Others are in the way, or too much is missing: nothing was changed."""


async def switch(
    connection: Connection, places: Places, fill: Callable[[int], Awaitable[bool]]
) -> bool:
    """Exchange the places, unless others are in the way; whether that was done.

    `fill` is given how many records it may fill in, and tells whether none is missing then. Raises
    `ConfigurationError` where the two places are not of one version, or have other words.
    """
    waiting = await connection.fetchval(_DEADLOCK_MILLISECONDS)
    started, seconds = monotonic(), _SHARE * waiting / 1000
    late = (
        pg.LockNotAvailableError,
        pg.DeadlockDetectedError,
        pg.QueryCanceledError,
        TimeoutError,
        _NotNow,
    )

    async def lock(mode: str, *tables: str) -> None:
        left = int(1000 * (started + seconds - monotonic()))
        if left < 1:
            raise _NotNow
        await connection.execute(f"set local lock_timeout = {left}")
        await connection.execute(f"lock table {', '.join(tables)} in {mode} mode")

    try:
        async with connection.transaction():
            if not await connection.fetchval(_TRY_LOCK, indexes.LOCK_NUMBER):
                raise _NotNow  # an index is being built
            first = [f"{places.first}.{table}" for table in ("memories", "global_knowledge")]
            await lock("share row exclusive", *first)  # writes wait from here on
            async with asyncio.timeout(started + _EMBEDDING * seconds - monotonic()):
                if not await fill(FEW):
                    raise _NotNow
            tables = await _tables(connection, places)
            both = [
                f"{place}.{table}" for place in (places.first, places.second) for table in tables
            ]
            await lock("access exclusive", *both)  # reads wait from here on
            await _compare(connection, places)
            await _exchange(connection, places, tables)
    except late:
        return False
    return True


async def _tables(connection: Connection, places: Places) -> Sequence[str]:
    """Those that the migrations make."""
    rows = await connection.fetch(sql.TABLES_OF, places.second)
    return sorted(sql.quoted(row["relname"]) for row in rows if row["relname"] not in sql.OWN)


async def _compare(connection: Connection, places: Places) -> None:
    """Raise `ConfigurationError` where a migration or a rebuild of the words came between."""
    one, other = [
        await connection.fetchrow(sql.version(place)) for place in (places.first, places.second)
    ]
    if one != other:
        raise ConfigurationError(
            "the schema's version or the words of the memories have changed since it began: call "
            "it off, and begin anew"
        )


async def _exchange(connection: Connection, places: Places, tables: Sequence[str]) -> None:
    first, second, replaced = places
    statements = [f"create schema {replaced}"]
    for table in tables:
        statements += await _as_it_was(connection, f"{first}.{table}", f"{second}.{table}")
        statements += [
            f"alter table {first}.{table} set schema {replaced}",
            f"alter table {second}.{table} set schema {first}",
        ]
    for function in _FUNCTIONS:
        statements += [
            f"alter function {first}.{function} set schema {replaced}",
            f"alter function {second}.{function} set schema {first}",
        ]
    statements += [
        f"alter function {first}.memories_changed() set search_path = {first}, pg_temp",
        f"drop schema {second} cascade",  # with it the triggers that kept the two equal
    ]
    await connection.execute(";\n".join(statements))


async def _as_it_was(connection: Connection, old: str, new: str) -> list[str]:
    """What gives the new table the owner and the grants of the old one."""
    owner = await connection.fetchval(_OWNER, old)
    statements = [f"alter table {new} owner to {owner}"]
    if owner == await connection.fetchval(_OWNER, new):
        statements = []
    return statements + [
        f"grant {row['privilege']} on {new} to {row['role']}"
        + (" with grant option" if row["is_grantable"] else "")
        for row in await connection.fetch(_GRANTS, old)
    ]


async def let_services_look(connection: Connection, places: Places) -> None:
    """Let roles that may store memories see that another model is to come, and say that they do."""
    for row in await connection.fetch(_GRANTS, f"{places.first}.memories"):
        if row["privilege"] != "INSERT":
            continue
        own = ", ".join(f"{places.second}.{table}" for table in sql.OWN)
        await connection.execute(
            f"grant usage on schema {places.second} to {row['role']};"
            f"grant select on {places.second}.embedding_model to {row['role']};"
            f"grant select, insert, update on {own} to {row['role']}"
        )


async def drop_replaced(connection: Connection, places: Places) -> None:
    """Delete the old tables; what others have made of them is in the way."""
    replaced = places.replaced
    rows = await connection.fetch(sql.TABLES_OF, replaced)
    tables = ", ".join(f"{replaced}.{sql.quoted(row['relname'])}" for row in rows)
    if tables:
        await connection.execute(f"drop table {tables}")
    for function in _FUNCTIONS:
        await connection.execute(f"drop function if exists {replaced}.{function}")
    await connection.execute(f"drop schema {replaced}")
