"""Which vectors a read is about, in Pinecone's language: nothing of a caller's is in it but hashes.

A condition is about one field and has one operator, and no field of ours is ever missing: so it
does not matter what a condition means for a vector that lacks the field. What is asked here only
has to let through enough: the service looks at every record again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Self

from app.core.memory.filter import EVERYTHING, Filter, Span
from app.core.memory.moments import to_microseconds
from app.core.memory.requests import Page, PageKnowledge, Recall, RecallKnowledge
from app.drivers.pinecone.bodies import Condition
from app.drivers.pinecone.layout import KNOWLEDGE, NEVER, hashed, word

Wanted = Recall | Page | RecallKnowledge | PageKnowledge


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Records of one owner: of a conversation or category, of a document, within a filter.

    `since` and `until`: when they happened, in milliseconds; both are inside. `alive`: those that
    have not expired then.
    """

    owner: str
    group: str | None = None
    doc: str | None = None
    filter: Filter = EVERYTHING
    alive: datetime | None = None
    since: int | None = None
    until: int | None = None
    words: Sequence[int] = ()
    """One of the hashes; none: whatever words they have."""

    @classmethod
    def of(cls, wanted: Wanted, now: datetime) -> Self:
        """The scope of what is asked."""
        doc = None if isinstance(wanted, Recall) else wanted.doc_id
        if isinstance(wanted, (Recall, Page)):
            return cls(
                owner=hashed(wanted.user_id),
                group=wanted.conversation_id,
                doc=doc,
                filter=wanted.filter,
                alive=now,
            )
        return cls(owner=KNOWLEDGE, group=wanted.category, doc=doc, filter=wanted.filter, alive=now)

    def between(self, since: int | None, until: int | None) -> Self:
        """The part of it that happened then."""
        return replace(self, since=since, until=until)

    def having(self, words: Sequence[int]) -> Self:
        """The part of it that has one of the words."""
        return replace(self, words=words)

    def condition(self, kinds: Literal["heads", "windows"] = "heads") -> Condition:
        """The filter of a query: of heads alone, or of windows too, which words always are on."""
        windows = kinds == "windows" or bool(self.words)
        found: list[dict[str, Any]] = [
            {"k": {"$in": ["m", "w"]} if windows else {"$eq": "m"}},
            {"u": {"$eq": self.owner}},
        ]
        if self.group is not None:
            found.append({"c": {"$eq": hashed(self.group)}})
        if self.doc is not None:
            found.append({"d": {"$eq": hashed(self.doc)}})
        if self.alive is not None:
            found.append({"x": {"$gte": _milliseconds(self.alive)}})
        if self.since is not None:
            found.append({"o": {"$gte": self.since}})
        if self.until is not None:
            found.append({"o": {"$lte": self.until}})
        if self.words:
            found.append({"w": {"$in": [word(each) for each in self.words]}})
        return {"$and": [*found, *_tags(self.filter), *_spans(self.filter)]}


def _tags(wanted: Filter) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"t": {"$eq": hashed(tag)}} for tag in wanted.all_tags]
    if wanted.any_tags:
        found.append({"t": {"$in": [hashed(tag) for tag in wanted.any_tags]}})
    if wanted.no_tags:
        found.append({"t": {"$nin": [hashed(tag) for tag in wanted.no_tags]}})
    return found


def _spans(wanted: Filter) -> list[dict[str, Any]]:
    return [*_span("o", wanted.occurred), *_span("r", wanted.created)]


def _span(field: str, span: Span) -> list[dict[str, Any]]:
    """In whole milliseconds, of which the ends may have some that are outside."""
    found: list[dict[str, Any]] = []
    if span.start is not None:
        found.append({field: {"$gte": _milliseconds(span.start)}})
    if span.end is not None:
        found.append({field: {"$lte": _milliseconds(span.end)}})
    return found


def _milliseconds(moment: datetime) -> int:
    return min(to_microseconds(moment) // 1_000, NEVER)
