"""Looking records up by their own tags, with all of their versions."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias

from app.drivers.automem.client import Query
from app.drivers.automem.mapping import Row, Tags, from_automem
from app.drivers.automem.scope import PAGE, dict_of, listed, more_follow

TAGS_A_CALL = 60
"""Records whose tags, of 46 bytes each, a URL carries."""

Ask: TypeAlias = Callable[[str, Query], Awaitable[dict[str, Any]]]


async def rows_of(ask: Ask, tags: Tags, record_ids: Iterable[str]) -> list[Row]:
    """Every memory of AutoMem that carries one of these records, whosever it is.

    There are several of a record that was stored twice, or of which an older version is left.
    """
    wanted = list(dict.fromkeys(record_ids))
    rows: list[Row] = []
    for start in range(0, len(wanted), TAGS_A_CALL):
        some = wanted[start : start + TAGS_A_CALL]
        offset, more = 0, True
        while more:
            found, count, more = await tagged(ask, [*map(tags.record, some)], offset)
            rows += [row for row in found if row.record_id in some]
            offset += count
    return rows


async def tagged(ask: Ask, tags: Sequence[str], offset: int) -> tuple[list[Row], int, bool]:
    """The records on a page of what has any of the tags; of how many memories, and if more follow.

    Some memories on the page may be none of this service's.
    """
    chosen: list[tuple[str, str | int]] = [("tags", tag) for tag in tags]
    answer = await ask("/memory/by-tag", [*chosen, ("limit", PAGE), ("offset", offset)])
    memories = listed(answer, "memories")
    read = [from_automem(one, dict_of(one).get("id")) for one in memories]
    rows = [row for row in read if row is not None]
    return rows, len(memories), more_follow(answer, memories, PAGE)
