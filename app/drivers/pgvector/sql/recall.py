"""The statements of a recall with a query, for every way to scope it.

Two take part. EVIDENCE finds what needs no vector, while the query is being embedded. RANKED then
ranks in one go, given the query's vector and what that evidence is worth. Both look at every memory
of a scope of up to `EXACT`. For a larger one there are forms that look at candidates only: the
nearest by the signs of their vectors, one bit a dimension, which stand in the primary key's index;
and those with the rarest words, and their neighbours, which the indexes of words and of
conversations find.
"""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

EXACT = 1_500
"""Memories of a scope that are all compared with the query."""

NEAREST = 400
"""Candidates by the signs of their vectors, whose cosine is then computed exactly; four times as
many as are asked for, if that is more."""

SAMPLE = 1_000
"""Memories of a user that give the radius within which the nearest are looked for first."""

WITHIN = 0.1
"""The share of the sample within that radius. So it holds enough of some 4,000 memories, and of
40,000 even if ten times as many of the sample as of the others are near the query."""

RAREST = 200
"""Candidates by words; their neighbours come on top."""

HITS = 1_000
"""Memories looked at for one word: one that more have is too common to find candidates by."""

TERMS = 60
"""Words of a query that count, the longest first: they are the bits of a bigint."""

MEMORY = "memory_id, user_id, conversation_id, content, tags, metadata, created_at, updated_at"
EVERY_COLUMN = f"{MEMORY}, embedding, context, speaker, occurred_at, asks, words, bits"


class Scope(NamedTuple):
    """Which filters a recall has: with a condition for each case, each can use its own index."""

    conversation: bool
    tags: bool

    @property
    def owned(self) -> str:
        """$1 user, $2 conversation or null."""
        conversation = "conversation_id = $2" if self.conversation else "$2::text is null"
        return f"user_id = $1 and {conversation}"

    @property
    def untagged(self) -> str:
        """$3 excluded tags."""
        return "not tags && $3::text[]" if self.tags else "$3::text[] is not null"


def _each(make: Callable[[Scope], str]) -> dict[Scope, str]:
    return {scope: make(scope) for scope in map(Scope._make, product((False, True), repeat=2))}


def _size(scope: Scope) -> str:
    """How many memories the scope has, excluded ones too; counting ends above `EXACT`."""
    return f"""
    size as materialized (
        select count(*) as n from (
            select from memories where {scope.owned} limit {EXACT + 1}
        ) as counted
    )"""


# $4 query, $5 text search configuration
_TERM = f"""
    term as materialized (
        select (row_number() over () - 1)::int as n, lexeme, (
            '''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || ''''
        )::tsquery as word
        from (
            select lexeme from unnest(to_tsvector($5::text::regconfig, $4))
            order by length(lexeme) desc limit {TERMS}
        ) as longest
    )"""
_TURN = "memory_id, conversation_id, created_at, speaker, asks"
_IN_ORDER = "order by conversation_id, created_at, memory_id"


def _packed(n: str, df: str, speakers: str) -> str:
    """The answer, in one row: arrays as bytes, which numpy reads as they are.

    Of the speakers, those whose first name may be in the query.
    """
    return f"""
    select
        {n} as n,
        (select array_agg(lexeme order by n) from term) as terms,
        {df} as df,
        string_agg(uuid_send(memory_id), '') as ids,
        string_agg(int8send(mask), '') as words,
        string_agg(int8send(coalesce(hashtextextended(conversation_id, 0), 0)), '')
            as conversations,
        string_agg(boolsend(asks), '') as asks,
        (
            select json_object_agg(
                speaker, tsvector_to_array(to_tsvector($5::text::regconfig, speaker))
            )
            from (
                select distinct speaker from {speakers}
                where position(substring(lower(speaker) from '\\w+') in lower($4)) > 0 limit 100
            ) as own
        ) as speakers
    from turn"""


def _evidence(scope: Scope) -> str:
    return f"""
    with {_size(scope)}, {_TERM},
    any_word as materialized (select string_agg(word::text, ' | ')::tsquery as words from term),
    turn as materialized (
        select {_TURN}, case
            when words @@ (select words from any_word) then (
                select bit_or(1::bigint << n)
                from (select memories.words || '' as own offset 0) as once, term where own @@ word
            )
            else 0
        end as mask
        from memories
        where {scope.owned} and {scope.untagged} and (select n from size) <= {EXACT}
        {_IN_ORDER}
    )
    {_packed("(select n from size)", "null::bigint[]", "turn")}
    """


EVIDENCE = _each(_evidence)
"""Every memory of the scope, and which of the query's words it has. None if n is over `EXACT`."""


def _evidence_of_many(scope: Scope) -> str:
    def beside(than: str, order: str) -> str:
        return f"""
            select {_TURN}, 0::bigint as mask from memories
            where user_id = $1 and conversation_id = rarest.conversation_id and {scope.untagged}
                and (created_at, memory_id) {than} (rarest.created_at, rarest.memory_id)
            order by created_at {order}, memory_id {order} limit 2"""

    return f"""
    with {_TERM},
    hit as materialized (
        select memory_id, conversation_id, created_at, speaker, asks,
            bit_or(1::bigint << term.n) as mask
        from term, lateral (
            select {_TURN} from memories
            where {scope.owned} and words @@ term.word and {scope.untagged} limit {HITS}
        ) as found
        group by 1, 2, 3, 4, 5
    ),
    total as materialized (select count(*)::float8 as n from memories where {scope.owned}),
    df as materialized (
        select term.n as term, count(hit.memory_id)::float8 as df
        from term left join hit on hit.mask >> term.n & 1 = 1 group by 1
    ),
    rare as materialized (
        select term, ln(1 + (total.n - df + 0.5) / (df + 0.5)) as idf
        from df, total where df < {HITS}
    ),
    rarest as materialized (
        select memory_id, conversation_id, created_at, speaker, asks, mask
        from hit, lateral (select sum(idf) as idf from rare where hit.mask >> term & 1 = 1) as worth
        where idf is not null order by idf desc, memory_id desc limit {RAREST}
    ),
    turn as materialized (
        select memory_id, conversation_id, created_at, speaker, asks, bit_or(mask) as mask
        from (
            select * from rarest
            union all
            select near.* from rarest, lateral (
                ({beside("<", "desc")}) union all ({beside(">", "asc")})
            ) as near
        ) as found
        group by 1, 2, 3, 4, 5
        {_IN_ORDER}
    )
    {_packed("(select n from total)", "(select array_agg(df order by term) from df)", "hit")}
    """


EVIDENCE_OF_MANY = _each(_evidence_of_many)
"""The memories with the rarest words and their neighbours. df and speakers are of up to `HITS`
memories for each word."""


def _points(memory: str, vector: str) -> str:
    """$4 limit, $5 the query's vector; $8 and $9 the time that the query names, and $10 the points
    for it; $11 its speaker, and $12 the points; $13 those of a statement, $14 those of length."""
    return f"""
    select *, cosine + lexical + date + said + form as points from (
        select {MEMORY}, 1 - ({vector} <=> $5) as cosine,
            coalesce(given.points, 0) as lexical,
            case when occurred_at >= $8 and occurred_at < $9 then $10::float8 else 0 end as date,
            case when speaker = any($11::text[]) then $12::float8 else 0 end as said,
            case when $13::float8 = 0 or asks then 0 else $13 end
                + case when $14::float8 = 0 then 0 else $14 * ln(1 + length(words)) end as form
        from {memory}
    ) as parts
    order by round((cosine + lexical + date + said + form) * 1e6) desc,
        created_at desc, memory_id desc
    limit $4
    """


def _by_vector(make: Callable[[Scope, str], str]) -> dict[bool, dict[Scope, str]]:
    """By whether vectors in context count, where there are any."""
    vectors = {False: "embedding", True: "coalesce(context, embedding)"}
    return {
        context: _each(lambda scope, vector=vector: make(scope, vector))  # type: ignore[misc]
        for context, vector in vectors.items()
    }


# $6 and $7 ids and lexical points
_LEXICAL = """
    lexical as materialized (
        select * from unnest($6::uuid[], $7::float8[]) as lexical (memory_id, points)
    )"""


def _ranked(scope: Scope, vector: str) -> str:
    memories = f"""memories left join lexical as given using (memory_id)
        where {scope.owned} and {scope.untagged} and (select n from size) <= {EXACT}"""
    return f"with {_size(scope)}, {_LEXICAL} {_points(memories, vector)}"


RANKED = _by_vector(_ranked)
"""The best of all memories of a scope, with their points and the parts of these; none if it has
more than `EXACT`."""


_DISTANCE = "bits <~> (select bits from sign)"
_ENOUGH = f"limit greatest({NEAREST}, 4 * $4::bigint)"


def _nearest(scope: Scope) -> str:
    """The nearest of a scope by sign.

    To sort all of a user's would cost half as much again as to look at them, so those within a
    radius are sorted first. The parts of the union run one after the other: the second begins only
    when the first has not given enough. However wrong the radius is, none is lost.
    """
    within = f"and {_DISTANCE} <= (select radius from sample)"
    beyond = f"and {_DISTANCE} > (select radius from sample)"
    # A conversation is sorted whole: it is less, and any share of it may be within the radius.
    parts = ("",) if scope.conversation else (within, beyond)
    limit = "" if scope.tags else _ENOUGH
    near = " union all ".join(
        f"(select memory_id from memories where {scope.owned} {part} order by {_DISTANCE} {limit})"
        for part in parts
    )
    if not scope.tags:
        return f"select memory_id from ({near}) as near {_ENOUGH}"
    # Tags are in the row, not the index. The nearest are gone through in order until enough pass:
    # the filter comes before the limit, and hardly a row is read for nothing.
    return f"""
        select near.memory_id from ({near}) as near, lateral (
            select from memories
            where user_id = $1 and memory_id = near.memory_id and {scope.untagged} offset 0
        ) as kept {_ENOUGH}"""


def _ranked_of_many(scope: Scope, vector: str) -> str:
    # The lexical points are grouped with the nearest, not joined: a plan made once for all expects
    # few of them, and would go through all of them for every candidate.
    memories = f"""candidate as given join lateral (
            select * from memories where {scope.owned} and memory_id = given.memory_id offset 0
        ) as memories using (memory_id)
        where {scope.untagged}"""
    return f"""
    with {_LEXICAL},
    sign as materialized (select binary_quantize($5::vector) as bits),
    sample as materialized (
        select percentile_disc({WITHIN}) within group (order by distance) as radius
        from (
            select {_DISTANCE} as distance from memories
            where user_id = $1 order by memory_id limit {SAMPLE}
        ) as oldest
    ),
    candidate as materialized (
        select memory_id, sum(points) as points
        from (
            select memory_id, 0 as points from ({_nearest(scope)}) as nearest
            union all
            select memory_id, points from lexical
        ) as found
        group by memory_id
    )
    {_points(memories, vector)}
    """


RANKED_OF_MANY = _by_vector(_ranked_of_many)
"""The best of the candidates: the nearest by sign, and those with lexical points."""
