"""The statements about memories and the schema. Alembic owns the tables that they name.

A recall by vector is in `recall.py`, and all of the knowledge in `knowledge.py`.
"""

from app.core.memory.cursor import Place
from app.drivers.pgvector.sql import knowledge
from app.drivers.pgvector.sql.recall import EVERY_COLUMN, of_model
from app.drivers.pgvector.sql.recall import MEMORY as _MEMORY
from app.drivers.pgvector.sql.scope import DOCUMENT, OCCURRED, OF_TENANT, POSITION, Where

_PLACE = f"{OCCURRED}, memory_id"
"""Where a memory stands in a list, the newest last."""
_NEWEST_FIRST = f"{OCCURRED} desc, memory_id desc"


def newest(where: Where, limit: int, after: Place | None = None) -> str:
    """The newest memories that `where` has, after the place that a page ended at.

    The statement's arguments are those of `where`, to which it adds.
    """
    if after is not None:
        where.before(_PLACE, after)
    return f"""
        select {_MEMORY} from memories where {where}
        order by {_NEWEST_FIRST} limit {where.argument(limit)}
    """


_IN_DOCUMENT = f"{POSITION}, created_at, memory_id"


def of_document(where: Where, limit: int, after: Place | None = None) -> str:
    """The same of a tenant's document that `where` names, in its order."""
    if after is not None:
        where.after(_IN_DOCUMENT, after)
    return f"""
        select {_MEMORY} from memories where {where}
        order by {_IN_DOCUMENT} limit {where.argument(limit)}
    """


_ALIVE = "(expires_at is null or expires_at > {now})"

# $1 id, $2 now, $3 user
GET = f"select {_MEMORY} from memories where memory_id = $1 and {_ALIVE.format(now='$2')} limit 1"
GET_OF_USER = GET.replace("limit 1", "and user_id = $3")

_DERIVED = "embedding, context, outline, long_outline"

# One statement, so all or none. $17 is the generation of the vectors. Tags go as JSON:
# PostgreSQL's arrays of arrays are rectangular.
STORE = f"""
    insert into memories ({_MEMORY}, {_DERIVED})
    select {_MEMORY.replace("tags", "array(select json_array_elements_text(tags))")}, {_DERIVED}
    from unnest(
        $1::uuid[], $2::text[], $3::text[], $4::text[], $5::json[], $6::json[], $7::timestamptz[],
        $8::timestamptz[], $9::timestamptz[], $10::smallint[], $11::timestamptz[], $12::uuid[],
        $13::vector[], $14::vector[], $15::bytea[], $16::bytea[]
    ) as new ({_MEMORY}, {_DERIVED})
    where {of_model("$17")}
"""

_CHANGED = (
    "conversation_id, content, tags, metadata, created_at, updated_at, occurred_at, "
    f"occurred_offset, expires_at, request, {_DERIVED}"
)

MERGE = f"""
    {STORE} on conflict (user_id, memory_id) do update
    set ({_CHANGED}) = row(excluded.{_CHANGED.replace(", ", ", excluded.")})
    where memories.updated_at < excluded.updated_at
"""

"""As STORE; a memory that is there gives way to a later version of it, and to nothing else."""

ONCE = f"""
    {STORE} on conflict (user_id, memory_id) do update
    set ({_CHANGED}) = row(excluded.{_CHANGED.replace(", ", ", excluded.")})
    where memories.expires_at <= $18
"""
"""As STORE; a memory that is there gives way where it has expired at the moment $18."""

# The arguments of STORE, of one memory; $18 the version that it takes the place of
REPLACE = f"""
    update memories set ({_CHANGED}) = row(
        $3, $4, array(select json_array_elements_text($5::json)), $6, $7, $8, $9::timestamptz,
        $10::smallint, $11::timestamptz, $12::uuid, $13::vector, $14::vector, $15::bytea,
        $16::bytea
    )
    where memory_id = $1 and user_id = $2 and updated_at = $18 and {of_model("$17")}
"""

RETURNING = " returning user_id, memory_id"

# $1 users and $2 ids, in pairs
DELETE_WINDOWS = """
    delete from memory_windows using unnest($1::text[], $2::uuid[]) as gone (owner, id)
    where user_id = owner and memory_id = id
"""

# $1 users, $2 ids, $3 numbers and $4 vectors, in fours
STORE_WINDOWS = """
    insert into memory_windows (user_id, memory_id, n, embedding)
    select * from unnest($1::text[], $2::uuid[], $3::int[], $4::vector[])
"""

# $1 users and $2 ids, in pairs; $3 now
ALIVE = f"""
    select {_MEMORY} from unnest($1::text[], $2::uuid[]) as wanted (owner, id)
    join memories on user_id = owner and memory_id = id and {_ALIVE.format(now="$3")}
"""

# $1 users, $2 ids and $3 versions, in threes; $4 the generation
DERIVED = f"""
    select place, vector_send(embedding::vector) as first,
        coalesce(outline, long_outline) as outline,
        array(
            select vector_send(other.embedding::vector) from memory_windows as other
            where other.user_id = owner and other.memory_id = id order by n
        ) as others
    from unnest($1::text[], $2::uuid[], $3::timestamptz[])
        with ordinality as wanted (owner, id, version, place)
    join memories on user_id = owner and memory_id = id and updated_at = version
    where {of_model("$4")}
"""

# $1 users and $2 ids, in pairs; $3 now
GONE = f"""
    select place from unnest($1::text[], $2::uuid[]) with ordinality as wanted (owner, id, place)
    where not exists (
        select from memories
        where user_id = owner and memory_id = id and {_ALIVE.format(now="$3")}
    )
"""

# $1 users, $2 ids and $3 versions, in threes. What has that version already needs no vector.
THERE = """
    select user_id, memory_id, updated_at, created_at, occurred_at, conversation_id, content,
        metadata,
        case when updated_at < version then embedding::vector end as embedding,
        case when updated_at < version then context::vector end as context,
        case when updated_at < version then coalesce(outline, long_outline) end as outline
    from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as wanted (owner, id, version)
    join memories on user_id = owner and memory_id = id
"""

# $1 users, $2 conversations, $3 times and $4 ids of turns, in fours; $5 how many before each,
# $6 now
SAID_BEFORE = f"""
    select turn, last.*
    from unnest($1::text[], $2::text[], $3::timestamptz[], $4::uuid[])
        with ordinality as wanted (owner, conversation, at, id, turn),
    lateral (
        select {OCCURRED} as occurred_at, user_id, memory_id, content, metadata from memories
        where user_id = owner and conversation_id = conversation and ({_PLACE}) < (at, id)
            and {_ALIVE.format(now="$6")}
        order by {_NEWEST_FIRST} limit $5
    ) as last
"""

_DELETED = f"""
    with gone as (delete from memories where {{which}} returning expires_at)
    select count(*) filter (where {_ALIVE.format(now="$1")}) as alive from gone
"""
"""Expired ones count as gone before."""

# $1 now, $2 ids, $3 their user
DELETE = _DELETED.format(which="memory_id = any($2::uuid[])")
DELETE_OF_USER = _DELETED.format(which="memory_id = any($2::uuid[]) and user_id = $3")

# $1 now, $2 the user, $3 the moment or null, $4 the id to start at, $5 how many are looked at
FORGET = f"""
    with seen as materialized (
        select memory_id, created_at from memories
        where user_id = $2 and memory_id >= $4 order by memory_id limit $5
    ), gone as (
        delete from memories where user_id = $2 and memory_id = any(array(
            select memory_id from seen
            where created_at <= coalesce($3, 'infinity'::timestamptz)
        ))
        returning expires_at
    )
    select
        (select count(*) from seen) as seen,
        (select memory_id from seen order by memory_id desc limit 1) as last,
        count(*) filter (where {_ALIVE.format(now="$1")}) as alive
    from gone
"""

# From user to user, of each no more than one entry of an index; then those of a page are counted,
# by an index alone. Of expired ones there are few: a sweeper deletes them.
# $1 now, $2 and $3 from which id on and before which, or null; $4 how many
_NEXT_USER = f"""
    select user_id from (
        select user_id from memories where user_id {{after}} and {_ALIVE.format(now="$1")}
        order by user_id limit 1
    ) as next where $3::text is null or user_id < $3
"""
USERS = f"""
    with recursive users (n, user_id) as (
        select 1, user_id from ({_NEXT_USER.format(after=">= $2")}) as first
        union all
        select n + 1, next.user_id from users cross join lateral (
            {_NEXT_USER.format(after="> users.user_id")}
        ) as next
        where n < $4
    ), expired as materialized (
        select user_id, count(*) from memories where expires_at <= $1 group by user_id
    )
    select user_id, counted.count - coalesce(expired.count, 0) from users
    cross join lateral (
        select count(*) from memories where memories.user_id = users.user_id
    ) as counted
    left join expired using (user_id)
    order by user_id
"""

_OF_DOCUMENT = f"user_id = $2 and {OF_TENANT} and ({DOCUMENT}) = $3"

# $1 now, $2 user, $3 document, $4 moment: in the order in which others write several
DELETE_DOCUMENT = f"""
    with gone as (
        delete from memories where (user_id, memory_id) in (
            select user_id, memory_id from memories
            where {_OF_DOCUMENT} and created_at <= coalesce($4, 'infinity'::timestamptz)
            order by {_PLACE} for update
        )
        returning expires_at
    )
    select count(*) as rows, count(*) filter (where {_ALIVE.format(now="$1")}) as alive from gone
"""

# $1 when the put was, of null there is none later; $2 user, $3 document
HAS_LATER_PIECES = f"""
    select exists (
        select from memories where {_OF_DOCUMENT} and {POSITION} < 2147483647 and created_at > $1
    )
"""

# Of others' tables nobody may vacuum; PostgreSQL's autovacuum does.
MAY_VACUUM = """
    select pg_has_role(relowner, 'usage') from pg_class where oid = 'memories'::regclass
"""
# PostgreSQL reads an index for deleted rows only where they are in 2 % of the pages or more.
VACUUM = "vacuum (truncate off, skip_locked) memories"


def export_memories(*, first: bool, until_end: bool) -> str:
    """A page of memories by user and id: the `first`, or one after another; of users `until_end`.

    Its arguments: the user and the id to begin with, or behind; how many; now; the end.
    """
    begin = f"(user_id, memory_id) {'>=' if first else '>'} ($1, $2)"
    end = " and user_id < $5" if until_end else ""
    return f"""
        select {_MEMORY} from memories where {begin}{end} and {_ALIVE.format(now="$4")}
        order by user_id, memory_id limit $3
    """


# A restore makes the tables, fills all of them, and only then makes the keys.
WHOLE = """
    select count(*) = 4 from pg_index where indisprimary and indrelid in (
        to_regclass('alembic_version'), to_regclass('embedding_model'),
        to_regclass('memories'), to_regclass('global_knowledge')
    )
"""

LACKING = """
    select string_agg(privilege || ' on ' || name, ', ')
    from (values
        ('alembic_version', 'select'), ('embedding_model', 'select'),
        ('memories', 'select'), ('memories', 'insert'), ('memories', 'update'),
        ('memories', 'delete'),
        ('memory_windows', 'select'), ('memory_windows', 'insert'), ('memory_windows', 'delete'),
        ('memory_changes', 'select'), ('memory_changes', 'insert'), ('memory_changes', 'delete'),
        ('global_knowledge', 'select'), ('global_knowledge', 'insert'),
        ('global_knowledge', 'update'), ('global_knowledge', 'delete'),
        ('knowledge_windows', 'select'), ('knowledge_windows', 'insert'),
        ('knowledge_windows', 'update'), ('knowledge_windows', 'delete')
    ) as needed (name, privilege)
    where not has_table_privilege(to_regclass(name), privilege)
"""
"""The privileges that the role needs and has not."""

# It names every column, so that it fails where another statement would.
# $1 our model's vector of the sample, $2 its dimension, $3 the least agreement, $4 the language and
# $5 the version of the words, $6 the generation
AS_OPENED = f"""
    select
        ({WHOLE}) as whole,
        case when generation <> $6::int or dimension <> $2::int then false
            else 1 - (sample <=> $1) >= $3::float8 end as same_model,
        language = $4::text and words = $5::int as same_words,
        ({LACKING}) as lacking,
        current_setting('transaction_read_only')::boolean as read_only
    from (select version_num from alembic_version) v
    cross join (
        select only_row, name, dimension, sample, language, words, generation, previous_name,
            previous_sample
        from embedding_model where of_model(generation)
    ) e
    left join (select {EVERY_COLUMN} from memories limit 0) m on true
    left join (select user_id, memory_id, n, embedding from memory_windows limit 0) w on true
    left join (select user_id, written, memory_id, marked_at from memory_changes limit 0) c on true
    left join (select {knowledge.EVERY_COLUMN} from global_knowledge limit 0) k on true
    left join (
        select knowledge_id, n, category, embedding from knowledge_windows limit 0
    ) i on true
"""

ENCODING = "select current_setting('server_encoding')"

EXTENSION_VERSION = """
    select coalesce(installed_version, default_version) from pg_available_extensions
    where name = 'vector'
"""

EXTENSION_SCHEMA = """
    select nspname from pg_extension join pg_namespace on pg_namespace.oid = extnamespace
    where extname = 'vector'
"""

REVISION_TABLE = "select to_regclass('alembic_version') is not null"
REVISION = "select version_num from alembic_version"

EMPTY = """
    select not exists (
        select from pg_class
        where relkind in ('r', 'p') and oid >= 16384 and not exists (
            select from pg_depend
            where classid = 'pg_class'::regclass and objid = pg_class.oid and deptype = 'e'
        )
    )
"""
"""Whether the database has no table but the system's and those of extensions."""

DIMENSION = """
    select atttypmod from pg_attribute
    where attrelid = 'memories'::regclass and attname = 'embedding'
"""

REMEMBER_MODEL = """
    insert into embedding_model (name, dimension, sample, words) values ($1, $2, $3, $4)
    on conflict (only_row) do nothing
"""

MODEL = f"""
    select ({DIMENSION}) as columns, name, dimension, sample, generation, previous_sample
    from (select) as one left join embedding_model on true
"""
"""One row, also where there is no model yet."""

WORDS = "select language, words from embedding_model"

HAS_MEMORIES = "select exists (select from memories)"
RECORDS = f"""
    select 'memories'::regclass::oid::text as table,
        ({HAS_MEMORIES}) or exists (select from global_knowledge) as some
"""
SET_WORDS = "update embedding_model set language = $1, words = $2"
