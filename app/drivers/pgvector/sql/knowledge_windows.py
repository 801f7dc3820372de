"""The statements about texts of knowledge that have several vectors: those from the second on.

They are searched as the first ones are (`knowledge.py`): all of a few, else by the vector index.
The index has so many of them that the best records are among them, however many windows one has.
"""

from datetime import datetime

from app.core.memory.requests import RecallKnowledge
from app.drivers.pgvector.indexes import EXACT_ROWS
from app.drivers.pgvector.sql.knowledge import (
    BEST_FIRST,
    BEST_SCORE,
    COLUMNS,
    NEAREST,
    NOW,
    SCORE,
    SETTINGS,
    Search,
    named,
)
from app.embedding import MOST_WINDOWS

CATEGORY_WINDOWS = 10_000
"""So many windows of a category are all ranked, which takes as long as 20,000 rows of the index."""

# $1 ids, $2 versions, $3 numbers and $4 vectors, in fours. Of what another writer has replaced
# already, none is kept.
STORE = """
    insert into knowledge_windows (knowledge_id, n, category, embedding)
    select knowledge_id, n, category, given
    from unnest($1::uuid[], $2::timestamptz[], $3::int[], $4::vector[])
        as new (id, version, n, given)
    join global_knowledge on knowledge_id = id and updated_at = version
    on conflict do nothing
"""

# $1 ids and $2 versions, in pairs. Of what another writer has replaced already, all stays.
DELETE = """
    delete from knowledge_windows as windows
    using unnest($1::uuid[], $2::timestamptz[]) as new (id, version), global_knowledge as record
    where record.knowledge_id = id and record.updated_at = version and windows.knowledge_id = id
"""

MOVE = "update knowledge_windows set category = $2 where knowledge_id = $1"

# Without a filter the windows' index does not tell what has expired: so many more are looked up.
_SEARCH = f"""
    with size as materialized (
        select count(*) as rows from (
            select from knowledge_windows where {{scope}} limit {{exact}} + 1
        ) as counted
    ), gone as materialized (
        select count(*) as records, coalesce(sum((
            select count(*) from knowledge_windows as windows
            where windows.knowledge_id = record.knowledge_id
        )), 0)::bigint as windows
        from global_knowledge as record where expires_at <= {NOW} and {{scope}}
    ), tuned as materialized (
        select {SETTINGS}, {MOST_WINDOWS} * $2 + windows as candidates from gone
    )
    select {COLUMNS}, score from (
        select knowledge_id as found, max(score) as score from (
            select knowledge_id, {SCORE} from knowledge_windows as windows
            where {{scope}} and (select rows from size) <= {{exact}} and {{admitted}}
            union all
            select nearest.* from tuned cross join lateral (
                select knowledge_id, {SCORE} from knowledge_windows as windows
                where {{indexed}} and {{admitted}} {NEAREST} limit tuned.candidates
            ) as nearest
            where (select rows from size) > {{exact}}
        ) as windows
        group by knowledge_id order by score desc, knowledge_id desc
        limit $2 + (select records from gone)
    ) as best
    cross join lateral (
        select {COLUMNS} from global_knowledge where knowledge_id = found and {{where}} limit 1
    ) as record
    where {{of_model}} {BEST_FIRST}
"""

# Whether a window's record is wanted; in a form that leaves the order to the vector index.
_ADMITTED = """(
    select {where} from global_knowledge as record
    where record.knowledge_id = windows.knowledge_id
)"""

_OF_DOCUMENT = f"""
    select {COLUMNS}, score from (
        select {COLUMNS}, (
            select {BEST_SCORE} from knowledge_windows as windows
            where windows.knowledge_id = record.knowledge_id
        ) as score
        from global_knowledge as record where {{where}}
    ) as records
    where score is not null and {{of_model}} {BEST_FIRST}
"""


def search(
    wanted: RecallKnowledge,
    now: datetime,
    dimension: int,
    exact: int = EXACT_ROWS,
    category: int = CATEGORY_WINDOWS,
    *,
    generation: int,
) -> Search:
    """The search for records by their other vectors, each by its best one.

    Up to `exact` windows are all ranked, of a category up to `category`.
    """
    names, arguments = named(wanted, now, dimension, generation)
    if wanted.doc_id is not None:
        return Search(_OF_DOCUMENT.format(**names), arguments)
    admitted = _ADMITTED.format(**names) if wanted.filter else "true"
    if wanted.category is None:
        names |= {"scope": "true", "indexed": "true", "exact": exact}
    else:  # `texteq`: see the search for first vectors.
        names |= {
            "scope": f"category = {names['category']}",
            "indexed": f"texteq(category, {names['category']})",
            "exact": category,
        }
    return Search(_SEARCH.format(**names, admitted=admitted), arguments)
