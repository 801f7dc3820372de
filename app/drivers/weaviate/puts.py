"""Which put of a document counts: readers see the records of one put, all of them, and no other's.

A put keeps its records first, which nobody sees, then a mark with its moment, then deletes what it
replaces. The mark with the latest moment counts, in whatever order marks come. So one write of one
object, which Weaviate makes at once or not at all, replaces a document of any size.

A reader asks for the marks after the records. Where the mark is the one that this process has known
since before it asked for the records, it has seen all of that put's; else it reads again.
"""

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Final, NamedTuple

from app.drivers.weaviate.answers import Row
from app.drivers.weaviate.bodies import MOST, any_of, equal, every
from app.drivers.weaviate.database import Database

OF_PUTS: Final = ("doc", "put", "kept")
"""What has to be known of an object, so that it can be told whether it is shown."""
MADE: Final = "put"
MAKING: Final = "putting"
"""Kinds of marks: of a put that was made, and of one that is being made."""

_KNOWN = 10_000
"""Documents whose marks are remembered."""
_TRIES = 10
_PAUSE_SECONDS = 0.01
_DOCS_AT_ONCE = 200


class Head(NamedTuple):
    """The put that counts: its moment, and the one that it replaces records up to, as digits."""

    put: str = ""
    before: str = ""


NOTHING: Final = Head()
"""Of a document that nobody has put."""


def is_shown(row: Row, heads: dict[str, Head]) -> bool:
    """Whether an object is of the put that counts, or was kept by itself after it."""
    doc = row.texts.get("doc")
    if doc is None:
        return True
    head = heads.get(doc, NOTHING)
    put = row.texts.get("put")
    return put == head.put if put is not None else row.texts.get("kept", "") > head.before


class Puts:
    """The marks of an owner's documents."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[tuple[str, str], tuple[Head, float]] = OrderedDict()
        """By owner and document: the mark that counted, and since when this process knows it."""

    async def read(
        self, owner: str, read: Callable[[], Awaitable[list[Row]]]
    ) -> tuple[list[Row], Callable[[Row], bool]]:
        """What `read` gives, with `OF_PUTS` of each, and what tells which of it is shown."""
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(attempt * _PAUSE_SECONDS)
            started = monotonic()
            rows = await read()
            docs = {row.texts["doc"] for row in rows if "doc" in row.texts}
            if not docs:
                return rows, lambda _: True
            heads = await self.heads(owner, docs)
            stable = [self._knew(owner, doc, heads.get(doc, NOTHING), started) for doc in docs]
            if all(stable):
                break
        return rows, lambda row: is_shown(row, heads)

    async def heads(self, owner: str, docs: Iterable[str]) -> dict[str, Head]:
        """Of the documents, by their hashes, that somebody has put: the put that counts."""
        found: dict[str, Head] = defaultdict(Head)
        wanted = sorted(docs)
        for n in range(0, len(wanted), _DOCS_AT_ONCE):
            of_some = every(
                equal("kind", MADE),
                equal("owner", owner),
                any_of("doc", wanted[n : n + _DOCS_AT_ONCE]),
            )
            names = ("doc", "put", "before")
            for row in await self._database.search(
                self._database.names.marks, of_some, names, MOST
            ):
                texts = row.texts
                doc = texts["doc"]
                found[doc] = max(found[doc], Head(texts["put"], texts["before"]))
        return dict(found)

    def _knew(self, owner: str, doc: str, head: Head, started: float) -> bool:
        """Whether that mark was known before that moment; from now on it is."""
        known = self._known.get((owner, doc))
        if known is not None and known[0] == head:
            self._known.move_to_end((owner, doc))
            return known[1] < started
        self._known[owner, doc] = head, monotonic()
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        return False
