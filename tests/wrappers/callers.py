"""The callers of a schedule: each calls once, and looks at once whether what it heard is true."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory, NewMemory, Record, record_id
from app.errors import MemoryServiceError
from tests.wrappers.oracle import Attempt, History

_FIRST = 0x0192 << 112 | 7 << 76 | 2 << 62
_EARLIER = datetime(2026, 1, 1, tzinfo=UTC)

USERS = ("ada", "bob")
DOCUMENTS = ("manual", "recipes")

A_WHILE = 0.05
"""Seconds after which what is kept for a while expires: amid what happens to it."""

Call = Literal[
    "store",
    "store_many",
    "store_knowledge",
    "store_once",
    "store_other",
    "store_once_many",
    "store_for_a_while",
    "update",
    "update_matched",
    "update_for_a_while",
    "update_for_ever",
    "delete",
    "delete_user",
    "put",
    "put_nothing",
    "store_beside",
    "import_new",
    "import_older",
    "import_newer",
    "import_again",
]


class Shows(Protocol):
    """Whether the driver promises that a read after the call shows what it did."""

    def __call__(self, attempt: Attempt, /) -> bool: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Calls through one wrapping driver."""

    driver: RecordDriver
    history: History
    shows: Shows

    async def call(self, what: Call, at: int) -> None:
        """Make the call, of that user or record, unless there is none yet."""
        if what in ("store_once", "store_other", "store_once_many"):
            await self._store_once(what, at)
        elif what.startswith("put"):
            await self._put(DOCUMENTS[at % len(DOCUMENTS)], 0 if what == "put_nothing" else 2)
        elif what == "store_beside":
            await self._store_beside(DOCUMENTS[at % len(DOCUMENTS)])
        elif what.startswith("store"):
            await self._store(what, USERS[at % len(USERS)])
        elif what == "delete_user":
            await self._delete_user(USERS[at % len(USERS)])
        elif what == "import_new":
            await self._import(_new(at, USERS[at % len(USERS)]))
        elif self.history.known:
            known = list(self.history.known.values())
            versions = known[at % len(known)]
            await self._of_record(what, versions)

    async def _of_record(self, what: Call, versions: list[Record]) -> None:
        latest = max(versions, key=lambda record: record.updated_at)
        if what == "delete":
            await self._delete(latest)
        elif what == "import_older":
            await self._import(versions[0])
        elif what == "import_again":
            await self._import(latest)
        elif what == "import_newer":
            moment = latest.updated_at + timedelta(seconds=1)
            await self._import(replace(latest, updated_at=moment, content="Imported."))
        else:
            await self._update(what, latest)

    async def _store(self, what: Call, user: str) -> None:
        async with self.history.attempt("store", user=user) as attempt:
            mark = {attempt.label: 1}
            if what == "store":
                attempt.answer = [await self.driver.store(user, "A jar.", metadata=mark)]
            elif what == "store_knowledge":
                knowledge = self.driver.store_global_knowledge("A jar.", "jars", metadata=mark)
                attempt.answer = [await knowledge]
            elif what == "store_for_a_while":
                attempt.answer = [
                    await self.driver.store(user, "A jar.", metadata=mark, ttl=A_WHILE)
                ]
            else:
                new = NewMemory(user_id=user, content="A jar.", metadata=mark)
                attempt.answer = [*await self.driver.store_many([new, new])]
        await self._look(attempt)

    async def _put(self, doc_id: str, pieces: int) -> None:
        async with self.history.attempt("put", doc_id=doc_id) as attempt:
            if pieces:
                attempt.answer = [
                    *await self.driver.put_document(
                        doc_id,
                        category="jars",
                        pieces=[f"Piece {n}." for n in range(pieces)],
                        metadata={attempt.label: 1},
                    )
                ]
            else:
                await self.driver.delete_document(doc_id)
        await self._look(attempt)
        with suppress(MemoryServiceError):
            page = await self.driver.list_knowledge(doc_id=doc_id)
            self.history.check_document(page.knowledge)

    async def _store_beside(self, doc_id: str) -> None:
        async with self.history.attempt("store") as attempt:
            knowledge = self.driver.store_global_knowledge(
                "A jar.", "jars", doc_id=doc_id, metadata={attempt.label: 1}
            )
            attempt.answer = [await knowledge]
        await self._look(attempt)

    async def _store_once(self, what: Call, at: int) -> None:
        """Store under ids of our own, of which there are three, so that most are used again."""
        user, other = USERS[at % len(USERS)], what == "store_other"
        given = [at % 3, (at + 1) % 3] if what == "store_once_many" else [at % 3]
        ids = [str(UUID(int=_FIRST | 200 + n)) for n in given]
        if user == USERS[1]:
            ids = [one.replace("-7000-", "-7001-") for one in ids]
        text = "Another jar." if other else "A jar."
        new = [NewMemory(user_id=user, content=text, memory_id=one) for one in ids]
        async with self.history.attempt("store", ids=ids) as attempt:
            attempt.answer = [*await self.driver.store_many(new)]
        await self._look(attempt)

    async def _import(self, record: Record) -> None:
        self.history.see([record])
        async with self.history.attempt("import", ids=[record_id(record)]) as attempt:
            await self.driver.import_records([record])
            attempt.answer = [record]
        await self._look(attempt)

    async def _update(self, what: Call, latest: Record) -> None:
        match = what == "update_matched"
        over = [latest.updated_at] if match else None
        async with self.history.attempt("update", ids=[record_id(latest)]) as attempt:
            attempt.over = latest.updated_at if match else None
            patch: dict[str, object] = {"metadata": {attempt.label: 1}}
            if what == "update_for_a_while":
                patch["ttl"], attempt.expires = A_WHILE, True
            elif what == "update_for_ever":
                patch["ttl"] = None
            if len(self.history.attempts) % 2:
                patch["content"] = attempt.label
            one = record_id(latest)
            if isinstance(latest, Memory):
                updated: Record | None = await self.driver.update(
                    one, latest.user_id, patch, if_match=over
                )
            else:
                updated = await self.driver.update_knowledge(one, patch, if_match=over)
            if updated is None:
                attempt.ids.clear()  # there was nothing to update
            else:
                attempt.answer = [updated]
        await self._look(attempt)

    async def _delete(self, record: Record) -> None:
        one = record_id(record)
        async with self.history.attempt("delete", ids=[one]) as attempt:
            if isinstance(record, Memory):
                await self.driver.delete(one, record.user_id)
            else:
                await self.driver.delete_knowledge(one)
        await self._look(attempt)

    async def _delete_user(self, user: str) -> None:
        async with self.history.attempt("delete_user", user=user) as attempt:
            await self.driver.delete_user(user)
        await self._look(attempt)

    async def _look(self, attempt: Attempt) -> None:
        """Read what was written, as the driver promises it."""
        if not attempt.acknowledged:
            return
        for one in attempt.ids:
            await self._look_at(attempt, one)

    async def _look_at(self, attempt: Attempt, one: str) -> None:
        user = self.history.user_of(one)
        try:
            found: Record | None
            listed: set[str] | None = None
            if user is None:
                found = await self.driver.get_knowledge(one)
            else:
                found = await self.driver.get(one, user)
                page = await self.driver.list_memories(user)
                listed = {memory.memory_id for memory in page.memories}
        except MemoryServiceError:
            return
        if not self.shows(attempt):
            return
        if attempt.verb == "delete":
            back = self.history.may_be_seen(one, attempt)
            assert found is None or back, f"{attempt.label}: {one} is still read"
            assert listed is None or one not in listed or back, f"{one} is still listed"
            return
        if self.history.may_be_gone(one, attempt) or self.history.may_have_expired(one):
            return
        assert found is not None, f"{attempt.label}: {one} is not read"
        assert listed is None or one in listed, f"{attempt.label}: {one} is not listed"
        if attempt.answer:
            (said,) = [each for each in attempt.answer if record_id(each) == one]
            if attempt.verb != "import":
                assert found.updated_at >= said.updated_at, f"{attempt.label} is not read"


def there_already() -> list[Record]:
    """What all drivers have before the first call."""
    knowledge = Knowledge(
        knowledge_id=str(UUID(int=_FIRST | 99)),
        content="A fact.",
        category="jars",
        created_at=_EARLIER,
    )
    return [_new(98, "ada"), _new(97, "bob"), knowledge]


def _new(at: int, user: str) -> Memory:
    """What comes from elsewhere, or from before."""
    return Memory(
        memory_id=str(UUID(int=_FIRST | at)),
        user_id=user,
        content="From elsewhere.",
        created_at=_EARLIER + timedelta(seconds=at),
    )
