"""The verbs about documents, whose pieces are knowledge, and the list of knowledge."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, final

from app.core.memory.checks import (
    Metadata,
    check_batch,
    check_encodable,
    check_text,
    check_top_k,
    check_whole,
)
from app.core.memory.cutting import LEAST_PIECE_CHARS, PIECE_CHARS, pieces_of
from app.core.memory.filter import read_filter
from app.core.memory.hooks import RecordHooks
from app.core.memory.records import Knowledge, KnowledgePage, NewKnowledge, new_knowledge
from app.core.memory.requests import PageKnowledge, Put
from app.errors import CapabilityMissing, InvalidInput
from app.pieces import in_pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPiece:
    """A piece of a document. Its title and its metadata take the place of the document's."""

    content: str
    title: str | None = None
    metadata: Metadata | None = None


class DocumentVerbs(RecordHooks):
    """What `RecordDriver` can do where the driver `keeps_documents` and `lists_knowledge`."""

    @final
    async def put_document(
        self,
        doc_id: str,
        *,
        category: str,
        pieces: Sequence[NewPiece | str] | None = None,
        text: str | None = None,
        title: str | None = None,
        metadata: Metadata | None = None,
        expires_at: datetime | None = None,
        ttl: float | None = None,
        piece_chars: int = PIECE_CHARS,
        overlap: int | None = None,
    ) -> list[Knowledge]:
        """Keep the pieces in the place of all knowledge of the document, at once; as it is kept.

        The pieces, or those that the service cuts the `text` into, have the positions 0, 1 and so
        on. `piece_chars` is from 100 to the most characters of a content, and `overlap` from 0 to
        half of that, by default a tenth: so many characters a piece repeats of the one before, or
        half as many. Of two puts of one document the later one is there at the end. After an error
        that is `uncertain` the document may be as it was, or is going to be replaced.
        """
        self._need_documents("replace a document")
        check_text(doc_id, self._limits.doc_id_chars, ("doc_id",))
        document = NewKnowledge(
            content="-",
            category=category,
            title=title,
            doc_id=doc_id,
            metadata=metadata,
            expires_at=expires_at,
            ttl=ttl,
        )
        # What all pieces share is refused where the caller gave it, and they all end at once.
        shared = new_knowledge(document, self._limits, clock=self.clock)
        document = replace(document, expires_at=None, ttl=None)
        if (pieces is None) == (text is None):
            raise InvalidInput("give either pieces or text", ("pieces",))
        if text is not None:
            pieces = await self._cut(text, piece_chars, overlap)
        records = await self._new_records(document, shared.expires_at, pieces)
        kept, _ = await self._put(self._of_now(Put(doc_id=doc_id, records=records)))
        return [*kept]

    @final
    async def delete_document(self, doc_id: str) -> int:
        """Delete all knowledge of the document; how many records there were."""
        self._need_documents("delete a document")
        nothing: Put[Knowledge] = Put(
            doc_id=check_text(doc_id, self._limits.doc_id_chars, ("doc_id",))
        )
        _, deleted = await self._put(nothing)
        return deleted

    @final
    async def list_knowledge(
        self,
        category: str | None = None,
        doc_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the contract's name
    ) -> KnowledgePage:
        """A page, newest first; `cursor` is the previous page's `next_cursor`.

        With a `doc_id` the knowledge of that document, in its order: by `position`, then what has
        none, by age. Only knowledge of `category`, if given, that the `filter` lets through.
        """
        self._need_all("list knowledge")
        if not self.lists_knowledge:
            raise CapabilityMissing(f"The driver {self.name!r} can't list knowledge")
        if category is not None:
            check_text(category, self._limits.category_chars, ("category",))
        if doc_id is not None:
            check_text(doc_id, self._limits.doc_id_chars, ("doc_id",))
        check_top_k(limit, self._limits, "limit")
        wanted = PageKnowledge(
            category=category,
            doc_id=doc_id,
            filter=read_filter(filter, self._limits, knowledge=True),
            limit=limit,
        )
        if cursor is not None:
            wanted = replace(wanted, after=wanted.read_cursor(cursor))
        return await self._page_knowledge(wanted)

    def _need_documents(self, what: str) -> None:
        self._need_all(what)
        if not self.keeps_documents:
            raise CapabilityMissing(f"The driver {self.name!r} can't {what}")

    def _of_now(self, put: Put[Knowledge]) -> Put[Knowledge]:
        """All of its records with the time of this moment; what they replace is not bound to it."""
        return replace(put.at(self.clock.end_of_now()), before=None)

    async def _cut(self, text: str, size: int, overlap: int | None) -> list[str]:
        check_whole(size, LEAST_PIECE_CHARS, self._limits.content_chars, "piece_chars")
        if overlap is None:
            overlap = size // 10
        check_whole(overlap, 0, size // 2, "overlap")
        if not isinstance(text, str):
            raise InvalidInput("text must be a string", ("text",))
        most = self._limits.batch
        if len(text) > most * size:
            raise InvalidInput(f"text is longer than {most} pieces, the limit", ("text",))
        check_encodable(text, ("text",))
        pieces = await asyncio.to_thread(pieces_of, text, size, overlap)
        if not 1 <= len(pieces) <= most:
            said = f"text has {len(pieces)} pieces; there may be 1 to {most}"
            raise InvalidInput(said, ("text",))
        return pieces

    async def _new_records(
        self,
        document: NewKnowledge,
        expires_at: datetime | None,
        pieces: Sequence[NewPiece | str] | None,
    ) -> list[Knowledge]:
        """The pieces as records of the document; raises `InvalidInput` that names the place."""
        if isinstance(pieces, str) or not isinstance(pieces, Sequence):
            raise InvalidInput("pieces must be a list", ("pieces",))
        check_batch(pieces, self._limits, "pieces")

        def made(place: tuple[int, NewPiece | str]) -> Knowledge:
            position, piece = place
            own = piece if isinstance(piece, NewPiece) else NewPiece(content=piece)
            new = replace(
                document,
                content=own.content,
                title=document.title if own.title is None else own.title,
                metadata=document.metadata if own.metadata is None else own.metadata,
            )
            record = new_knowledge(new, self._limits, ("pieces", position), clock=self.clock)
            return replace(record, position=position, expires_at=expires_at)

        return await in_pieces(made, enumerate(pieces))
