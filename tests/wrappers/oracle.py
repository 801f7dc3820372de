"""What callers asked for and were answered, and what must be there for it at the end."""

from asyncio import CancelledError
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from math import inf
from typing import Literal

from app.core.memory.records import Knowledge, Memory, Record, document_of, record_id
from app.errors import MemoryServiceError

Verb = Literal["store", "import", "update", "delete", "delete_user", "put"]
DELETES: tuple[Verb, ...] = ("delete", "delete_user", "put")
Kept = Mapping[str, Record]


@dataclass
class Attempt:
    """One call. The places of its begin and its end are in the order in which all calls were."""

    verb: Verb
    label: str
    started: float
    ids: list[str] = field(default_factory=list)
    """Of the records that it names, or that it was answered."""
    user: str | None = None
    doc_id: str | None = None
    """Of a put, the document."""
    over: datetime | None = None
    """Which version an update was to match."""
    expires: bool = False
    """Whether it lets what it names expire."""
    ended: float = inf
    acknowledged: bool = False
    refused: bool = False
    """Whether the answer says that it did not happen."""
    answer: list[Record] = field(default_factory=list)


@dataclass
class History:
    """All calls through wrapping drivers on one journal."""

    shared: bool = False
    """Whether the journal is: what a cancelled caller asked for may happen at any time then."""
    attempts: list[Attempt] = field(default_factory=list)
    known: dict[str, list[Record]] = field(default_factory=dict)
    """By id, the versions that callers have seen."""
    _places: Iterator[int] = field(default_factory=lambda: count(1))

    def now(self) -> float:
        return next(self._places)

    def see(self, records: Sequence[Record]) -> None:
        """These are known to the callers from now on."""
        for record in records:
            self.known.setdefault(record_id(record), []).append(record)

    @asynccontextmanager
    async def attempt(
        self,
        verb: Verb,
        *,
        ids: Sequence[str] = (),
        user: str | None = None,
        doc_id: str | None = None,
    ) -> AsyncIterator[Attempt]:
        """A call is made in the block, which sets its answer; an error of the service ends it."""
        label = f"{verb} {len(self.attempts)}"
        tried = Attempt(verb, label, self.now(), list(ids), user, doc_id)
        self.attempts.append(tried)
        try:
            yield tried
            tried.acknowledged = True
        except MemoryServiceError as error:
            tried.refused = not error.uncertain
        except CancelledError:
            tried.ended = inf if self.shared else self.now()
            raise
        tried.ids += [record_id(record) for record in tried.answer if not ids]
        self.see(tried.answer)
        tried.ended = self.now()

    def concern(self, one: str, *verbs: Verb) -> list[Attempt]:
        """The calls of these verbs that name the record, or its user; or a put that replaces it."""
        return [each for each in self.attempts if each.verb in verbs and self.reaches(each, one)]

    def reaches(self, each: Attempt, one: str) -> bool:
        """Whether the call concerns the record."""
        if each.verb == "put":
            return one not in each.ids and each.doc_id == document_of(self.known[one][0])
        of_user = each.verb == "delete_user" and each.user == self.user_of(one)
        return of_user or one in each.ids

    def user_of(self, one: str) -> str | None:
        first = self.known[one][0]
        return first.user_id if isinstance(first, Memory) else None

    def may_be_gone(self, one: str, since: Attempt) -> bool:
        """Whether a delete may have come after the call."""
        deletes = self.concern(one, *DELETES)
        late = since.verb == "update"  # an import waits for a delete; an update does not
        return any(d.ended > since.started or (late and not d.acknowledged) for d in deletes)

    def may_have_expired(self, one: str) -> bool:
        """Whether some version of the record was to be kept for a while only."""
        versions = self.known.get(one, [])
        return any(record.expires_at is not None for record in versions) or any(
            each.expires for each in self.concern(one, "update")
        )

    def may_be_back(self, one: str, since: Attempt) -> bool:
        """Whether a store or an import may have come after the call, a delete."""
        made = self.concern(one, "store", "import") + self.puts_of(one)
        return any(each.ended > since.started for each in made)

    def puts_of(self, one: str) -> list[Attempt]:
        """The put that the record is of."""
        return [each for each in self.attempts if each.verb == "put" and one in each.ids]

    def may_be_seen(self, one: str, since: Attempt) -> bool:
        """Whether the record may be there for a while after the delete: its fate was not known."""
        made = self.concern(one, "store", "import", "update") + self.puts_of(one)
        return any(each.ended > since.started or not each.acknowledged for each in made)

    def check(self, kept: Kept, *, strict: bool) -> None:
        """Raise `AssertionError` where `kept` is not what the answers promise.

        `strict`: no acknowledged update is lost, and nothing is stored twice under one id.
        Otherwise the last of them wins.
        """
        self._check_stores(kept)
        if strict:
            self._check_once()
        self.check_deletes(kept)
        for doc_id in {document_of(record) for record in kept.values()} - {None}:
            self.check_document(r for r in kept.values() if document_of(r) == doc_id)
        self._check_updates(kept, strict=strict)
        self._check_refused(kept)
        answered = {
            (record_id(one), one.updated_at): one for a in self.attempts for one in a.answer
        }
        for one, record in kept.items():
            said = answered.get((one, record.updated_at), record)
            assert record == said, f"{one} is not what was answered: {record} {said}"

    def _check_stores(self, kept: Kept) -> None:
        for each in self.attempts:
            if each.acknowledged and each.verb in ("store", "import", "update", "put"):
                for one in each.ids:
                    gone = self.may_be_gone(one, each) or self.may_have_expired(one)
                    assert one in kept or gone, f"{each.label}: {one} lost"

    def _check_once(self) -> None:
        """What was stored under one id, and never gone, is one record for all who stored it."""
        made: dict[str, set[datetime]] = {}
        for each in self.attempts:
            for record in each.answer if each.verb == "store" else ():
                made.setdefault(record_id(record), set()).add(record.created_at)
        for one, moments in made.items():
            gone = self.concern(one, *DELETES) or self.may_have_expired(one)
            assert gone or len(moments) == 1, f"{one} was made {len(moments)} times"

    def check_deletes(self, kept: Kept) -> None:
        """What was deleted is not back."""
        for each in self.attempts:
            if each.acknowledged and each.verb in DELETES:
                for one in self.known.keys() & kept.keys():
                    back = not self.reaches(each, one) or self.may_be_back(one, each)
                    assert back, f"{each.label}: {one} is back"

    def check_document(self, records: Iterable[Record]) -> None:
        """The pieces are all of one put, unless an import brought some back."""
        puts = {
            label
            for record in records
            if isinstance(record, Knowledge) and record.position is not None
            for label in record.metadata
            if label.startswith("put")
        }
        imported = any(each.verb == "import" for each in self.attempts)
        assert len(puts) <= 1 or imported, f"the document is of {puts}"

    def _check_updates(self, kept: Kept, *, strict: bool) -> None:
        matched: dict[tuple[str, datetime], str] = {}
        for each in self.attempts:
            if each.verb != "update" or not each.acknowledged or not each.answer:
                continue
            (answer,) = each.answer
            one = record_id(answer)
            others = self.concern(one, *DELETES, "import")
            late = any(d.ended > each.started or not d.acknowledged for d in others)
            if not strict or late:
                if one in kept and not self.may_be_gone(one, each):
                    assert kept[one].updated_at >= answer.updated_at, f"{each.label} is lost"
                continue
            if one not in kept and self.may_have_expired(one):
                continue
            assert each.label in kept[one].metadata, f"{each.label} is lost"
            if each.over is not None:
                first = matched.setdefault((one, each.over), each.label)
                assert first == each.label, f"{first} and {each.label} matched one version"

    def _check_refused(self, kept: Kept) -> None:
        labels = {each.label for each in self.attempts if each.refused and each.verb != "import"}
        for one, record in kept.items():
            made = labels.intersection(record.metadata)
            assert not made, f"{one} has {made}, which did not happen"
