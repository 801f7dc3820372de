"""Who may connect to the embedded server, and as whom."""

import contextlib
import os
import pwd

import asyncpg

from app.errors import ConfigurationError

ADMINISTRATOR = "memory"
"""The superuser, which the service is only to set the database up."""
SERVICE = "memory_service"
"""The role of the service, which owns its database and nothing else."""
DATABASE = "memory"

RULES = "local all all peer map=memory\n"
"""pg_hba.conf: whom the kernel vouches for on a local socket, and nobody else."""

_HAS_ROLE = "select exists (select from pg_roles where rolname = $1)"
_OWNER = """
    select rolname from pg_database join pg_roles on pg_roles.oid = datdba where datname = $1
"""
# Sequences that belong to a column go with their table.
_THEIRS = """
    select oid::regclass::text from pg_class
    where relowner = $1::regrole and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
    and relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema', 'pg_toast')
    and not exists (
        select from pg_depend
        where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype in ('a', 'i', 'e')
    )
"""
_SECONDS = 60.0


def users() -> str:
    """pg_ident.conf: this process's user may be any role, and so may root, who could anyway."""
    names = []
    for uid in sorted({0, os.geteuid()}):
        with contextlib.suppress(KeyError):
            names.append(pwd.getpwuid(uid).pw_name.replace('"', '""'))
    return "".join(f'memory "{name}" all\n' for name in names)


def url(role: str, database: str, folder: str, port: str) -> str:
    """Where to connect, over the socket in `folder`."""
    return f"postgresql://{role}@/{database}?host={folder}&port={port}"


async def set_up(folder: str, port: str) -> None:
    """Make the role of the service and its database, or give it what the administrator had.

    Raises `ConfigurationError`.
    """
    try:
        connection = await _connect("postgres", folder, port)
        try:
            if not await connection.fetchval(_HAS_ROLE, SERVICE):
                await connection.execute(f"create role {SERVICE} login")
            owner = await connection.fetchval(_OWNER, DATABASE)
            if owner is None:
                await connection.execute(f"create database {DATABASE} owner {SERVICE}")
        finally:
            await connection.close(timeout=_SECONDS)
        connection = await _connect(DATABASE, folder, port)
        try:
            async with connection.transaction():
                await connection.execute("create extension if not exists vector")
                if owner == ADMINISTRATOR:
                    await _hand_over(connection)
        finally:
            await connection.close(timeout=_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigurationError(f"the embedded PostgreSQL can't be set up: {said}") from error


async def _hand_over(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Up to 0.1.0 the service was the superuser, and its tables the superuser's."""
    for row in await connection.fetch(_THEIRS, ADMINISTRATOR):
        await connection.execute(f"alter table {row[0]} owner to {SERVICE}")
    await connection.execute(f"alter database {DATABASE} owner to {SERVICE}")


async def _connect(database: str, folder: str, port: str) -> "asyncpg.Connection[asyncpg.Record]":
    where = url(ADMINISTRATOR, database, folder, port)
    return await asyncpg.connect(where, timeout=_SECONDS, command_timeout=_SECONDS)
