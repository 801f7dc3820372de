"""The statements about texts of knowledge that have several vectors: those from the second on.

They are searched as the first ones are (`knowledge.py`): all of a few, else by the vector index.
The index has so many of them that the best records are among them, however many windows one has.
"""

from functools import cache

from app.drivers.pgvector.indexes import EXACT_ROWS
from app.drivers.pgvector.sql.knowledge import COLUMNS, NEAREST, SCORE, SETTINGS, Searches
from app.drivers.pgvector.vectors import vector_type
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

_RECALL = f"""
    with size as materialized (
        select count(*) as rows from (
            select from knowledge_windows where {{scope}} limit {{exact}} + 1
        ) as counted
    ), tuned as materialized (
        select {SETTINGS}, {MOST_WINDOWS} * $2 as candidates
    )
    select {COLUMNS}, score from (
        select knowledge_id as found, max(score) as score from (
            select knowledge_id, {SCORE} from knowledge_windows
            where {{scope}} and (select rows from size) <= {{exact}}
            union all
            select nearest.* from tuned cross join lateral (
                select knowledge_id, {SCORE} from knowledge_windows
                where {{filter}} {NEAREST} limit tuned.candidates
            ) as nearest
            where (select rows from size) > {{exact}}
        ) as windows
        group by knowledge_id order by score desc, knowledge_id desc limit $2
    ) as best
    cross join lateral (
        select {COLUMNS} from global_knowledge where knowledge_id = found limit 1
    ) as record
    order by score desc, created_at desc, knowledge_id desc
"""


@cache
def searches(dimension: int, exact: int = EXACT_ROWS, category: int = CATEGORY_WINDOWS) -> Searches:
    """The searches for records by their other vectors, each by its best one.

    Up to `exact` windows are all ranked, of a category up to `category`.
    """
    names = {"dimension": dimension, "column": vector_type(dimension)}
    return Searches(
        _RECALL.format(**names, scope="true", filter="true", exact=exact),
        # `texteq`: see the search for first vectors.
        _RECALL.format(
            **names, scope="category = $3", filter="texteq(category, $3)", exact=category
        ),
    )
