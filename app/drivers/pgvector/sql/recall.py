"""The statements of a recall with a query, and those that keep users in the service's memory.

A recall wants the outlines of a scope's memories (`app/ranking` reads them), then the cosines of
the likeliest, then the records of the best. The outlines stand in the primary key's index, but for
the long ones.
"""

from typing import NamedTuple

from app.drivers.pgvector.sql.scope import Where

MEMORY = (
    "memory_id, user_id, conversation_id, content, tags, metadata, created_at, updated_at, "
    "occurred_at, occurred_offset, expires_at, request"
)
EVERY_COLUMN = f"{MEMORY}, embedding, context, outline, long_outline"

_OUTLINE = "coalesce(outline, long_outline)"

PAGE = 10_000
"""Outlines that are read at once."""
LONG_PAGE = 100
"""Long ones that are."""


class Part(NamedTuple):
    """Some of a scope's memories, and how many of them are read at once."""

    outlines: str
    page: int


def of_model(generation: str) -> str:
    """A condition that holds once for the statement, or fails it: see `alembic/versions/0007`.

    `generation` names the argument with the number of the vectors' model.
    """
    return f"of_model({generation}::integer)"


def _outlines(where: str, outline: str, least: str, generation: str, size: int) -> str:
    """One row: arrays as bytes, which numpy reads as they are. `least` names the least id."""
    return f"""
    select count(*) as n,
        string_agg(uuid_send(memory_id), '') as ids,
        string_agg(int4send(octet_length(outline)), '') as sizes,
        string_agg(outline, '') as outlines
    from (
        select memory_id, {outline} as outline from memories
        where {where} and memory_id >= {least} order by memory_id limit {size}
    ) as page
    where {of_model(generation)}"""


_OF_USER = "user_id = $1 and outline is"

WHOLE = (
    Part(_outlines(f"{_OF_USER} not null", "outline", "$2", "$3", PAGE), PAGE),
    Part(_outlines(f"{_OF_USER} null", "long_outline", "$2", "$3", LONG_PAGE), LONG_PAGE),
)
"""All of a user's memories: those that the index alone answers for, and the others.

$1 user, $2 the least id, $3 the generation."""


def some(where: Where) -> tuple[Part, ...]:
    """Those that `where` has; after its own arguments come the least id and the generation."""
    least, generation = (f"${len(where.arguments) + n}" for n in (1, 2))
    return (Part(_outlines(str(where), _OUTLINE, least, generation, PAGE), PAGE),)


# $1 user, $2 ids, $3 the query's vector, $4 the generation. A memory that is gone has no row.
_COSINES = f"""
    select string_agg(int4send(place::int), '') as places,
        string_agg(float8send(1 - distance), '') as cosines
    from (
        select place, {{distance}} as distance
        from unnest($2::uuid[]) with ordinality as wanted (id, place), lateral (
            select user_id, memory_id, embedding, context from memories
            where user_id = $1 and memory_id = id offset 0
        ) as memory
    ) as found
    where {of_model("$4")}
"""
_NEAREST_WINDOW = """
    least({first}, (
        select min(embedding <=> $3) from memory_windows as windows
        where windows.user_id = memory.user_id and windows.memory_id = memory.memory_id
    ))
"""
_FIRSTS = {False: "(embedding <=> $3)", True: "(coalesce(context, embedding) <=> $3)"}

COSINES = {
    (context, windows): _COSINES.format(
        distance=_NEAREST_WINDOW.format(first=first) if windows else first
    )
    for context, first in _FIRSTS.items()
    for windows in (False, True)
}
"""By whether vectors in context count, where there are any, and whether a text may have several."""

# $1 user, $2 ids
RECORDS = f"""
    select {", ".join(f"memory.{column}" for column in MEMORY.split(", "))}
    from unnest($2::uuid[]) with ordinality as wanted (id, place), lateral (
        select {MEMORY} from memories where user_id = $1 and memory_id = id offset 0
    ) as memory
    order by place
"""

SERVER = """
    pg_postmaster_start_time() as started, pg_is_in_recovery() as standby,
    'memories'::regclass::oid as memories,
    case when current_setting('server_version_num')::int >= 150000
        then pg_stat_get_bgwriter_stat_reset_time() end as crashed
"""
"""What is another where numbers of transactions may mean others than before: another server, one
that was restarted, another table, or one of the server's processes crashed. After a crash the
numbers that had not reached the disk are given again, and statistics begin anew: before PostgreSQL
15 they take too long to ask."""

_UNSEEN = """
    user_id = {user} and written >= pg_snapshot_xmin({seen}::text::pg_snapshot)
        and not pg_visible_in_snapshot(written, {seen}::text::pg_snapshot)
"""

# $1 users, $2 the snapshots that their memories were last read by, in pairs
CHANGED = f"""
    select exists (
            select from memory_changes where {_UNSEEN.format(user="owner", seen="seen")}
        ) as changed, (
            select written <= pg_snapshot_xmin(seen::pg_snapshot) from memory_changes
            where user_id = '' order by user_id, written limit 1
        ) as told,
        pg_current_snapshot()::text as snapshot, {SERVER}
    from unnest($1::text[], $2::text[]) with ordinality as asked (owner, seen, place)
    order by place
"""
"""A row for each. `told`: whether every change that the snapshot does not see is still there
(`FORGET_CHANGES`)."""

_VECTORS = {False: "embedding", True: "coalesce(context, embedding)"}


# $1 user, $2 the least id, $3 how many, $4 the generation of the vectors
RECORDS_PAGE = f"""
    select {MEMORY} from memories
    where user_id = $1 and memory_id >= $2 order by memory_id limit $3
"""
VECTORS_PAGE = {
    context: f"""
        select string_agg(vector_send({vector}::vector), '') as vectors from (
            select embedding, context from memories
            where user_id = $1 and memory_id >= $2 order by memory_id limit $3
        ) as page
        where {of_model("$4")}
    """
    for context, vector in _VECTORS.items()
}
"""The first vectors of the records of the same page, in their order."""

# $1 user, $2 ids, $3 the generation
WINDOWS = f"""
    select memory_id, vector_send(embedding::vector) as vector from memory_windows
    where user_id = $1 and memory_id = any($2::uuid[]) and {of_model("$3")} order by memory_id, n
"""
"""The other vectors of texts that have several."""

_UNSEEN_BY_ONE = _UNSEEN.format(user="$1", seen="$2")

# $1 user, $2 the snapshot that they were last read by, $3 the generation
UNSEEN = {
    context: f"""
        select change.memory_id as changed, memory.*
        from (select distinct memory_id from memory_changes where {_UNSEEN_BY_ONE}) as change
        left join lateral (
            select memory_id, {_OUTLINE} as outline, vector_send({vector}::vector) as vector
            from memories where user_id = $1 and memory_id = change.memory_id offset 0
        ) as memory on true
        where {of_model("$3")}
    """
    for context, vector in _VECTORS.items()
}
"""What changed since: null for everything, else an id, with what there is under it now."""

READING = f"""
    select pg_current_snapshot()::text as snapshot, {SERVER}, (
        select count(*) = 4 from pg_trigger
        where tgrelid = 'memories'::regclass and tgenabled = 'A' and tgname in (
            'memories_insert', 'memories_update', 'memories_delete', 'memories_truncate'
        )
    ) and not exists (select from pg_subscription_rel) as told
"""
"""What the transaction sees that reads all of a user, and whether changes are told: a subscription
applies them without the triggers of statements."""

# All that was finished when a mark was set is visible to whoever read a user after that. The mark
# up to which changes were forgotten is the first of those that stay: a snapshot that begins before
# it may miss one. A mark of another cluster, which a restore brings, counts when its number is of
# the past here.
FORGET_CHANGES = """
    with mark as (
        insert into memory_changes (user_id, written, marked_at)
        values ('', pg_snapshot_xmin(pg_current_snapshot()), now())
    )
    delete from memory_changes
    where written < (
        select max(written) from memory_changes
        where user_id = '' and marked_at < now() - make_interval(secs => $1)
            and written <= pg_snapshot_xmin(pg_current_snapshot())
    ) or written >= pg_snapshot_xmax(pg_current_snapshot())
"""
"""Forget changes of before a mark that is $1 seconds old, and those that come from another cluster
by a restore: no transaction of this one has their number yet."""
