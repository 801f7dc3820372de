"""What the tables of a database hold, so that a restored one can be compared with it."""

import asyncpg

from app.drivers.pgvector.backups.manifest import Table

# Tables with rows of their own, without those of extensions: what pg_dump brings along.
_TABLES = """
    select nspname || '.' || relname as name, format('%I.%I', nspname, relname) as quoted
    from pg_class join pg_namespace on pg_namespace.oid = relnamespace
    where relkind = 'r' and relpersistence <> 't'
    and nspname <> 'information_schema' and nspname not like 'pg\\_%'
    and not exists (
        select from pg_depend
        where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e'
    )
    order by name
"""
# The sum of 64 bits of each row's MD5: the same in every order, of every version of PostgreSQL.
_DIGEST = """
    select count(*) as rows,
        coalesce(sum(('x' || left(md5(whole::text), 16))::bit(64)::bigint), 0)::text as digest
    from only {} as whole
"""
# How a row looks as text depends on these.
_SESSION = """
    set local timezone = 'UTC';
    set local datestyle = 'ISO';
    set local intervalstyle = 'postgres';
    set local bytea_output = 'hex';
    set local extra_float_digits = 1
"""


async def tables(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, Table]:
    """What each table holds, by schema and name, to a connection that is in a transaction."""
    await connection.execute(_SESSION)
    held = {}
    for row in await connection.fetch(_TABLES):
        digest = await connection.fetchrow(_DIGEST.format(row["quoted"]))
        assert digest is not None  # noqa: S101 - there is one row
        held[row["name"]] = Table(rows=digest["rows"], digest=digest["digest"])
    return held
