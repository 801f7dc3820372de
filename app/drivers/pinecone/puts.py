"""Puts of documents, each seen at once: which records one shows is told by a vector of its own.

A put keeps its records first, which nobody sees; then one vector, the document's, names the put:
from then on its records are seen, and those that they replace are not, whoever deletes these when.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from app.core.memory.moments import to_microseconds
from app.core.memory.records import document_of
from app.drivers.pinecone.bodies import Stored
from app.drivers.pinecone.index import Index
from app.drivers.pinecone.layout import Row, filler, hashed
from app.drivers.pinecone.overlay import Overlay


@dataclass(frozen=True, slots=True)
class Made:
    """The last put of a document, in microseconds since 1970.

    What was created `until` then has given way, unless it was written after `version`, which is
    when the put was made. Its own records were `created` later; 0: it has none.
    """

    until: int
    created: int
    version: int

    @property
    def size(self) -> int:
        return 100

    @classmethod
    def of(cls, until: datetime, created: datetime | None, at: datetime) -> Self:
        moment = 0 if created is None else to_microseconds(created)
        return cls(to_microseconds(until), moment, to_microseconds(at))

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> Self:
        """The put that `stored` was given."""
        until, created, at = str(metadata["b"]).split(".")
        return cls(int(until), int(created), int(at))

    def stored(self, doc_id: str, dimension: int) -> Stored:
        """The document's vector."""
        body = f"{self.until}.{self.created}.{self.version}"
        values = filler(dimension)
        return {"id": put_id(doc_id), "values": values, "metadata": {"k": "g", "b": body}}


def put_id(doc_id: str) -> str:
    return f"g{hashed(doc_id)}"


def is_seen(row: Row, made: Made | None) -> bool:
    """Whether a record of a document is seen after its last put."""
    if made is None:
        return not row.staged
    created = to_microseconds(row.looked_at.created_at)
    if row.staged and created > made.created:
        return False
    return created > made.until or row.kept > made.version


class Puts:
    """The last puts of documents."""

    def __init__(self, index: Index, seconds: Callable[[], float]) -> None:
        self._index = index
        self.overlay: Overlay[Made] = Overlay(seconds)

    async def last(self, namespace: str, docs: Collection[str]) -> dict[str, Made]:
        """Of each of the documents that was ever put."""
        ids = {doc: put_id(doc) for doc in docs}
        found = await self._index.fetch(namespace, [*ids.values()])
        known = {
            doc: self.overlay.over(namespace, one, Made.read(found[one]) if one in found else None)
            for doc, one in ids.items()
        }
        return {doc: made for doc, made in known.items() if made is not None}

    async def seen(self, namespace: str, rows: Sequence[Row], began: int) -> tuple[list[Row], bool]:
        """Those of the rows that are seen; and whether no document was put since the read `began`.

        Where one was, the rows may be of before and after: they are to be read again.
        """
        docs = {doc for row in rows if (doc := document_of(row.looked_at)) is not None}
        if not docs:
            return [*rows], True
        made = await self.last(namespace, docs)
        seen = []
        for row in rows:
            doc = document_of(row.looked_at)
            if doc is None or is_seen(row, made.get(doc)):
                seen.append(row)
        return seen, all(one.version < began for one in made.values())

    async def keep(self, namespace: str, doc_id: str, made: Made) -> None:
        """From now on this is the document's last put."""
        lsn = await self._index.upsert(namespace, [made.stored(doc_id, self._index.dimension)])
        self.overlay.keep(namespace, put_id(doc_id), made, lsn)
