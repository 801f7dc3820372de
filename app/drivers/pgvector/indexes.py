"""The vector index of the knowledge: what it is, what it should be, and building it anew.

An ivfflat index divides the rows into lists when it is built; rows that come later join the nearest
list. So the number of lists is right for the rows of that moment, and the index is built again when
they have become many more. docs/decisions/0008 has the figures behind the constants.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from app.logs import get_logger

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Kind: TypeAlias = Literal["ivfflat", "hnsw"]

INDEX = "global_knowledge_embedding"
_NEW = f"{INDEX}_new"
_OLD = f"{INDEX}_old"

EXACT_ROWS = 2_000
"""Up to so many rows, a search ranks them all and needs no index."""
ROWS_PER_LIST = 100
MAX_LISTS = 2_000
"""The memory of a build grows with the square of the lists: 2,000 take 0.9 GB."""
_OUTGROWN = 4
"""An index is stale when the rows want that many times the lists that it has."""

LOCK_NUMBER = 7_203_114_090_441_552_702
"""Any number that no other program uses with pg_advisory_lock in the same database."""
_CLOSE_SECONDS = 5.0
_MEGABYTE = 1 << 20
_HNSW_MEGABYTES = 1_024
_HNSW_BYTES_A_ROW = 600
"""Of a row's place in the graph, beside its vector."""

_log = get_logger(__name__)

INDEXES = """
    select
        relname as name, amname as kind, indisvalid as valid,
        pg_relation_size(pg_class.oid) as bytes,
        (
            select option_value::integer from pg_options_to_table(reloptions)
            where option_name = 'lists'
        ) as lists
    from pg_index
    join pg_class on pg_class.oid = indexrelid
    join pg_am on pg_am.oid = relam
    where indrelid = 'global_knowledge'::regclass and amname in ('ivfflat', 'hnsw')
"""

# As the planner estimates: the density of the last analyze, times the pages of now. A table that
# was never analyzed is counted, up to a bound.
ESTIMATED_ROWS = """
    select case
        when reltuples > 0 and relpages > 0 then
            reltuples::float8 / relpages
            * (pg_relation_size(oid) / current_setting('block_size')::integer)
        else (
            select count(*) from (select from global_knowledge limit 100000) as counted
        )
    end::bigint
    from pg_class where oid = 'global_knowledge'::regclass
"""
COUNTED_ROWS = "select count(*) from global_knowledge"

COLUMN = """
    select typname as type, atttypmod as dimension
    from pg_attribute join pg_type on pg_type.oid = atttypid
    where attrelid = 'global_knowledge'::regclass and attname = 'embedding'
"""

LOCK = "select pg_try_advisory_lock($1)"
# Not every version of PostgreSQL has every setting.
SET = "select set_config(name, $2, false) from pg_settings where name = $1"
CREATE = """
    create index concurrently {name} on global_knowledge
    using {kind} ((embedding::halfvec({dimension})) halfvec_cosine_ops){options}
"""
DROP = "drop index concurrently if exists {name}"
RENAME = "alter index {name} rename to {other}"


@dataclass(frozen=True, slots=True)
class IndexState:
    """The index as it is and as it should be; `rows` may be an estimate, `size` is in bytes."""

    rows: int
    kind: str | None
    lists: int | None
    valid: bool
    size: int
    wanted_kind: Kind
    wanted_lists: int | None
    leftovers: tuple[str, ...]
    """Indexes that an interrupted rebuild left behind; every store pays for them."""
    setting: str
    """What the operator sets the wanted kind by."""

    @property
    def stale(self) -> str | None:
        """Why it should be rebuilt, in a few words; None when it need not be."""
        if self.kind is None or not self.valid:
            return "there is no valid index"
        if self.leftovers:
            return "an interrupted rebuild left an index behind"
        if self.kind != self.wanted_kind:
            return f"the index is {self.kind}, and {self.setting} is {self.wanted_kind}"
        lists, wanted = self.lists or 1, self.wanted_lists or 1
        if self.kind == "ivfflat" and wanted >= _OUTGROWN * lists:
            return "the rows have outgrown the index: it has too few lists"
        return None

    def facts(self) -> dict[str, Any]:
        """All of it but the setting, as JSON has it."""
        facts = {**asdict(self), "leftovers": list(self.leftovers), "stale": self.stale}
        del facts["setting"]
        return facts


def lists_for(rows: int) -> int:
    """How many lists an ivfflat index of so many rows should have."""
    return 1 if rows <= EXACT_ROWS else min(math.ceil(rows / ROWS_PER_LIST), MAX_LISTS)


async def inspect(
    connection: Connection, wanted: Kind, *, setting: str = "DATABASE_INDEX", count: bool = False
) -> IndexState:
    """The index as it is; with `count` the rows are counted, else estimated in a moment.

    `setting`: what the operator sets the wanted kind by.
    """
    rows = int(await connection.fetchval(COUNTED_ROWS if count else ESTIMATED_ROWS))
    found = {row["name"]: row for row in await connection.fetch(INDEXES)}
    index = found.pop(INDEX, None)
    return IndexState(
        rows=rows,
        kind=index["kind"] if index else None,
        lists=index["lists"] if index else None,
        valid=bool(index and index["valid"]),
        size=index["bytes"] if index else 0,
        wanted_kind=wanted,
        wanted_lists=lists_for(rows) if wanted == "ivfflat" else None,
        leftovers=tuple(sorted(found.keys() & {_NEW, _OLD})),
        setting=setting,
    )


async def rebuild(dsn: str, kind: Kind, *, workers: int = 0) -> bool:
    """Build the index anew for the rows of now, while everybody reads and writes.

    Whether it did: False when another process is doing so. `workers` is how many processes help
    PostgreSQL's. Interrupted at any point, the next call cleans up. Raises what asyncpg raises.
    """
    connection = await asyncpg.connect(
        dsn, server_settings={"application_name": "memory-driver-index"}
    )
    try:
        if not await connection.fetchval(LOCK, LOCK_NUMBER):
            return False
        await _rebuild(connection, kind, workers)
        return True
    finally:  # the lock ends with the session, and a cancelled statement is told to end
        try:
            await connection.close(timeout=_CLOSE_SECONDS)
        except (TimeoutError, OSError, asyncpg.PostgresError):
            connection.terminate()


async def _rebuild(connection: Connection, kind: Kind, workers: int) -> None:
    before = await inspect(connection, kind, count=True)
    _log.info("index_rebuild", kind=kind, rows=before.rows, lists=before.wanted_lists)
    column = await connection.fetchrow(COLUMN)
    assert column is not None  # noqa: S101 - inspect has just read the table
    dimension = int(column["dimension"])
    for name in before.leftovers:
        await connection.execute(DROP.format(name=name))
    memory = _megabytes(kind, before, dimension)
    for setting, value in (
        ("statement_timeout", "0"),
        ("client_connection_check_interval", "5s"),
        ("max_parallel_maintenance_workers", str(workers)),
        ("maintenance_work_mem", f"{memory}MB"),
    ):
        await connection.fetchval(SET, setting, value)
    options = f" with (lists = {before.wanted_lists})" if kind == "ivfflat" else ""
    await connection.execute(
        CREATE.format(name=_NEW, kind=kind, dimension=dimension, options=options)
    )
    # Neither a rename nor a concurrent drop waits for readers or makes them wait.
    async with connection.transaction():
        if before.kind is not None:
            await connection.execute(RENAME.format(name=INDEX, other=_OLD))
        await connection.execute(RENAME.format(name=_NEW, other=INDEX))
    await connection.execute(DROP.format(name=_OLD))
    _log.info("index_rebuilt", kind=kind, rows=before.rows, lists=before.wanted_lists)


def _megabytes(kind: Kind, state: IndexState, dimension: int) -> int:
    """What pgvector needs to build: for ivfflat k-means' bounds and samples, for hnsw the graph.

    With less, ivfflat is refused and hnsw is slow.
    """
    vector = 2 * dimension + 8
    if kind == "hnsw":
        needed = state.rows * (vector + _HNSW_BYTES_A_ROW)
        return min(64 + math.ceil(needed / _MEGABYTE), _HNSW_MEGABYTES)
    lists = state.wanted_lists or 1
    samples = max(50 * lists, 10_000)
    needed = 4 * samples * lists + 4 * lists * lists + (samples + 3 * lists) * 2 * vector
    return 64 + math.ceil(needed / _MEGABYTE)
