"""The statements about knowledge. Alembic owns the table and the indexes that they use.

A search counts up to a bound first, and takes the cheapest way that answers well: all rows ranked,
the bits of a category's rows, or the vector index. Whatever the way, the candidates are ranked by
their vectors in full: by (1 + cosine) / 2 to six decimals, then newest first. All of it is one
statement, which does not need to know what kind the index is or how many lists it has.
docs/decisions/0008 has the reasons and the figures. Of a document, which is small, all rows are
ranked.
"""

from datetime import datetime
from typing import Any, NamedTuple

from app.core.memory.cursor import LAST
from app.core.memory.requests import PageKnowledge, RecallKnowledge
from app.drivers.pgvector.indexes import EXACT_ROWS
from app.drivers.pgvector.sql.recall import of_model
from app.drivers.pgvector.sql.scope import Where
from app.drivers.pgvector.vectors import vector_type

COLUMNS = (
    "knowledge_id, category, content, title, doc_id, metadata, created_at, updated_at, "
    "expires_at, position, request"
)
EVERY_COLUMN = f"{COLUMNS}, embedding, bits"

BITS_ROWS = 20_000
"""A category of so many rows is searched by its bits, however small the table."""
_BITS_FACTOR = 120
"""In a table of N rows so is one of up to sqrt(120 N): 35,000 of 10 million.

There the two ways cost the same: 0.5 µs for the bits of each row of the category, or 1.5 µs for
each row that the index offers until 40 of the category are among them.
"""
_BITS_CANDIDATES = 400
_INDEX_CANDIDATES = 40
_PROBES = 120
"""Lists of an ivfflat index that are read: up to 12,000 rows all, then 12,000 rows and more."""
_EF_SEARCH = 100
"""How widely an hnsw index is searched."""

NOW = "$3"
"""How a search names the moment at which what has expired is gone."""

_ALIVE = "(expires_at is null or expires_at > {now})"

# $1 id, $2 now
GET = f"""
    select {COLUMNS}, null::float8 as score from global_knowledge
    where knowledge_id = $1 and {_ALIVE.format(now="$2")}
"""

# $13 the generation of the vector
STORE = f"""
    insert into global_knowledge ({COLUMNS}, embedding)
    select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 where {of_model("$13")}
"""

_CHANGED = (
    "category, content, title, doc_id, metadata, created_at, updated_at, expires_at, position, "
    "request, embedding"
)

MERGE = f"""
    {STORE} on conflict (knowledge_id) do update
    set ({_CHANGED}) = row(excluded.{_CHANGED.replace(", ", ", excluded.")})
    where global_knowledge.updated_at < excluded.updated_at
"""
"""As STORE; what is there gives way to a later version of it, and to nothing else."""

ONCE = f"""
    {STORE} on conflict (knowledge_id) do update
    set ({_CHANGED}) = row(excluded.{_CHANGED.replace(", ", ", excluded.")})
    where global_knowledge.expires_at <= $14
"""
"""As STORE; what is there gives way where it has expired at the moment $14."""

# $1 ids, $2 now
ALIVE = f"""
    select {COLUMNS}, null::float8 as score from unnest($1::uuid[]) as wanted (id)
    join global_knowledge on knowledge_id = id and {_ALIVE.format(now="$2")}
"""

# $1 ids and $2 versions, in pairs; $3 the generation
DERIVED = f"""
    select place, null::bytea as outline, vector_send(record.embedding::vector) as first,
        array(
            select vector_send(other.embedding::vector) from knowledge_windows as other
            where other.knowledge_id = id order by n
        ) as others
    from unnest($1::uuid[], $2::timestamptz[]) with ordinality as wanted (id, version, place)
    join global_knowledge as record on record.knowledge_id = id and updated_at = version
    where {of_model("$3")}
"""

# $1 ids, $2 now
GONE = f"""
    select place from unnest($1::uuid[]) with ordinality as wanted (id, place)
    where not exists (
        select from global_knowledge where knowledge_id = id and {_ALIVE.format(now="$2")}
    )
"""

# The arguments of STORE; $14 the version that it takes the place of.
REPLACE = f"""
    update global_knowledge set ({_CHANGED}) = row(
        $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
    )
    where knowledge_id = $1 and updated_at = $14 and {of_model("$13")}
"""

RETURNING = " returning knowledge_id"

# $1 ids and $2 versions, pairwise. What has that version already needs no vector.
THERE = """
    select knowledge_id, updated_at, content,
        case when updated_at < version then embedding::vector end as embedding,
        exists (
            select from knowledge_windows as windows
            where windows.knowledge_id = global_knowledge.knowledge_id
        ) as has_windows
    from unnest($1::uuid[], $2::timestamptz[]) as wanted (id, version)
    join global_knowledge on knowledge_id = id
"""

# $1 ids, $2 now
DELETE = f"""
    with gone as (
        delete from global_knowledge where knowledge_id = any($1::uuid[]) returning expires_at
    )
    select count(*) filter (where {_ALIVE.format(now="$2")}) as alive from gone
"""

_NEWEST = "created_at, knowledge_id"
_IN_DOCUMENT = f"coalesce(position, {LAST}), {_NEWEST}"


def page(wanted: PageKnowledge, now: datetime) -> tuple[str, list[Any]]:
    """The statement that reads a page and one record more, and its arguments."""
    where = Where()
    if wanted.category is not None:
        where.equal("category", wanted.category)
    if wanted.doc_id is None:
        order = "created_at desc, knowledge_id desc"
        if wanted.after is not None:
            where.before(_NEWEST, wanted.after)
    else:
        order = _IN_DOCUMENT
        where.equal("doc_id", wanted.doc_id)
        if wanted.after is not None:
            where.after(_IN_DOCUMENT, wanted.after)
    where.admitted(wanted.filter)
    where.alive(now)
    statement = f"""
        select {COLUMNS}, null::float8 as score from global_knowledge where {where}
        order by {order} limit {where.argument(wanted.limit + 1)}
    """
    return statement, where.arguments


# $1 now, $2 document, $3 moment: in the order in which others write several
DELETE_DOCUMENT = f"""
    with gone as (
        delete from global_knowledge where knowledge_id in (
            select knowledge_id from global_knowledge
            where doc_id = $2 and created_at <= coalesce($3, 'infinity'::timestamptz)
            order by knowledge_id for update
        )
        returning expires_at
    )
    select count(*) as rows, count(*) filter (where {_ALIVE.format(now="$1")}) as alive from gone
"""

# $1 when the put was, of null there is none later; $2 document
HAS_LATER_PIECES = """
    select exists (
        select from global_knowledge
        where doc_id = $2 and position is not null and created_at > $1
    )
"""

# $1 the least id, $2 how many, $3 now
EXPORT = f"""
    select {COLUMNS}, null::float8 as score from global_knowledge
    where knowledge_id >= $1 and {_ALIVE.format(now="$3")} order by knowledge_id limit $2
"""

_SCORE = "round((1 - (embedding <=> $1::{column}) / 2) * 1e6) / 1e6"
SCORE = f"{_SCORE} as score"
BEST_SCORE = f"max({_SCORE})"

HAS_WINDOWS = "exists (select from knowledge_windows) as has_windows"
"""Whether the texts have other vectors to be searched (`knowledge_windows.py`): most have none."""

BEST_FIRST = "order by score desc, created_at desc, knowledge_id desc limit $2"

# A scan goes on until it has enough rows, also where most of what it finds is filtered out. The
# settings hold for this statement only, and reach PostgreSQL through any pooler.
SETTINGS = f"""
            set_config('ivfflat.probes', '{_PROBES}', true),
            set_config('ivfflat.iterative_scan', 'relaxed_order', true),
            set_config('hnsw.ef_search', '{_EF_SEARCH}', true),
            set_config('hnsw.iterative_scan', 'relaxed_order', true),
            set_config('hnsw.max_scan_tuples', '2147483647', true),
            set_config('hnsw.scan_mem_multiplier', '100', true)
"""

_TUNED = f"""
    tuned as materialized (
        select {SETTINGS}, greatest({_INDEX_CANDIDATES}, 2 * $2) as candidates
    )
"""
"""The number of candidates depends on it, so that it comes before the index is read."""

NEAREST = "order by embedding::halfvec({dimension}) <=> $1::{column}::halfvec({dimension})"

_BITS = "binary_quantize($1::{column})::bit({dimension})"

_OF_EVERYTHING = f"""
    with size as materialized (
        select count(*) as rows, {HAS_WINDOWS}
        from (select from global_knowledge limit {{exact}} + 1) as counted
    ), {_TUNED}
    select {COLUMNS}, {SCORE}, (select has_windows from size) from (
        select {COLUMNS}, embedding from global_knowledge
        where {{where}} and (select rows from size) <= {{exact}}
        union all
        select nearest.* from tuned cross join lateral (
            select {COLUMNS}, embedding from global_knowledge
            where {{where}} {NEAREST} limit tuned.candidates
        ) as nearest
        where (select rows from size) > {{exact}}
    ) as candidates
    where {{of_model}} {BEST_FIRST}
"""

# A lateral with a limit is looked up by the primary key, however many the planner expects.
# `texteq` is `=` in a form that no b-tree serves and of which the planner assumes that
# it keeps a third: with that it reads the vector index whatever it believes of the categories.
# Without a filter the bits are read from an index that does not tell what has expired: so many more
# are looked up.
_OF_CATEGORY = f"""
    with size as materialized (
        select bound, (
            select count(*) from (
                select from global_knowledge where category = {{category}} limit bound + 1
            ) as counted
        ) as rows, {HAS_WINDOWS}
        from (
            select greatest(
                {{bits}}, sqrt({_BITS_FACTOR} * greatest(reltuples, 0)::float8)
            )::bigint as bound
            from pg_class where oid = 'global_knowledge'::regclass
        ) as bounds
    ), {_TUNED}
    select {COLUMNS}, {SCORE}, (select has_windows from size) from (
        select {COLUMNS}, embedding from global_knowledge
        where category = {{category}} and {{where}} and (select rows from size) <= {{exact}}
        union all
        select found.* from (
            select knowledge_id as candidate from global_knowledge
            where category = {{category}} and {{read}}
                and (select rows > {{exact}} and rows <= bound from size)
            order by bits <~> {_BITS}
            limit greatest({_BITS_CANDIDATES}, 4 * $2) + (
                select count(*) from global_knowledge
                where expires_at <= {NOW} and category = {{category}}
            )
        ) as likely
        cross join lateral (
            select {COLUMNS}, embedding from global_knowledge
            where knowledge_id = candidate and {{where}} limit 1
        ) as found
        union all
        select nearest.* from tuned cross join lateral (
            select {COLUMNS}, embedding from global_knowledge
            where texteq(category, {{category}}) and {{where}}
            {NEAREST} limit tuned.candidates
        ) as nearest
        where (select rows > bound from size)
    ) as candidates
    where {{of_model}} {BEST_FIRST}
"""

_OF_DOCUMENT = f"""
    select {COLUMNS}, {SCORE}, {HAS_WINDOWS} from global_knowledge
    where {{where}} and {{of_model}} {BEST_FIRST}
"""


class Search(NamedTuple):
    """A statement, and its arguments: those after $1, the query's vector, and $2, how many."""

    statement: str
    arguments: list[Any]


def search(
    wanted: RecallKnowledge,
    now: datetime,
    dimension: int,
    exact: int = EXACT_ROWS,
    bits: int = BITS_ROWS,
    *,
    generation: int,
) -> Search:
    """The search of a table whose embeddings have `dimension` dimensions, of that generation.

    Up to `exact` rows are all ranked; a category of up to `bits`, which is no less, is searched by
    its bits.
    """
    names, arguments = named(wanted, now, dimension, generation)
    if wanted.doc_id is not None:
        statement = _OF_DOCUMENT
    else:
        statement = _OF_EVERYTHING if wanted.category is None else _OF_CATEGORY
    return Search(statement.format(**names, exact=exact, bits=bits), arguments)


def named(
    wanted: RecallKnowledge, now: datetime, dimension: int, generation: int
) -> tuple[dict[str, Any], list[Any]]:
    """What the names in the searches stand for, and the arguments of a search.

    - `where`: what the records must be, but for the category, which only of a document is in it;
    - `read`: the same where a filter has to read them, else `true`: then only what has expired is
      not `where`;
    - `category`: how the statement names the category;
    - `of_model`: that the vectors are of the generation.
    """
    where = Where(first=3)
    where.alive(now)
    category = None
    if wanted.doc_id is not None:
        where.equal("doc_id", wanted.doc_id)
        if wanted.category is not None:
            where.equal("category", wanted.category)
    elif wanted.category is not None:
        category = where.argument(wanted.category)
    where.admitted(wanted.filter)
    names = {
        "dimension": dimension,
        "column": vector_type(dimension),
        "where": where,
        "read": where if wanted.filter else "true",
        "category": category,
        "of_model": of_model(where.argument(generation)),
    }
    return names, where.arguments
