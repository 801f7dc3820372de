"""Reads from one of several drivers, with what is pending laid over the answer."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from app.core.memory.cursor import UserCursor, user_page
from app.core.memory.pages import Listed, every_page, filled
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import (
    Kept,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Recalled,
    Record,
    UserCount,
    UserPage,
    document_of,
    is_alive,
    place_of_owner,
    record_id,
)
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Page,
    PageKnowledge,
    Recall,
    RecallKnowledge,
    Users,
)
from app.embedding import Embedder
from app.errors import DriverTimeout, JournalUnavailable
from app.journal.entries import Entry
from app.journal.journal import Journal
from app.settings import Limits
from app.wrappers.node import Node, first_answer
from app.wrappers.overlay import (
    LatestPuts,
    Overlay,
    Overlays,
    Part,
    Waiting,
    came_amid,
    kept_memory,
    paged,
    paged_knowledge,
)
from app.wrappers.pending_recall import PendingRecall

T = TypeVar("T")
Asked = TypeVar("Asked", Recall, RecallKnowledge)

_COUNTED_AT_ONCE = 500
_TIMES_MORE = 4
"""How many times as many records a driver is asked for where those that it gave are hidden."""
_READS = 5
"""Of one list, while puts of a document in it come between its parts."""
_MOST_ASKED = 10_000
"""Records: a driver that has to give more of them at once may take too long."""


class Choose(Protocol):
    """Asks one node after another: the answer, its node, and whether it may lack something."""

    async def __call__(self, ask: Callable[[Node], Awaitable[T]], /) -> tuple[T, Node, bool]: ...


class PendingReads:
    """Every read, as if the driver that answers had what the journal holds for it."""

    def __init__(
        self,
        journal: Journal,
        embedder: Embedder,
        limits: Limits,
        *,
        stored_by_all: bool,
        without_journal: bool,
    ) -> None:
        """`stored_by_all`: every driver gets every store, and a leased one is not shown yet.

        `without_journal`: reads go on, degraded, while the journal can't be reached; otherwise they
        raise `JournalUnavailable`.
        """
        self._journal = journal
        self._limits = limits
        self._recalled = PendingRecall(embedder)
        self._stored_by_all = stored_by_all
        self._under_way = not stored_by_all
        self._without_journal = without_journal

    async def recall(self, wanted: Recall, choose: Choose) -> list[Memory]:
        pending, blind = await self._found(self._of_user(wanted.user_id))

        def ask(node: Node) -> Awaitable[list[Memory]]:
            overlay = self._overlay(pending, node)
            return self._enough(node, overlay, wanted, lambda more, driver: driver._recall(more))

        found, node, degraded = await choose(ask)
        overlay = self._overlay(pending, node).since_put(found)
        memories = found if overlay.empty else await self._recalled.recall(overlay, found, wanted)
        return Recalled.like(found, memories, driver=node.name, degraded=degraded or blind)

    async def recall_knowledge(self, wanted: RecallKnowledge, choose: Choose) -> list[Knowledge]:
        pending, blind = await self._found(self._of_user(None))

        def ask(node: Node) -> Awaitable[list[Knowledge]]:
            overlay = self._overlay(pending, node)
            return self._enough(
                node, overlay, wanted, lambda more, driver: driver._recall_knowledge(more)
            )

        found, node, degraded = await choose(ask)
        overlay = self._overlay(pending, node).since_put(found)
        knowledge = found
        if not overlay.empty:
            knowledge = await self._recalled.recall_knowledge(overlay, found, wanted)
        return Recalled.like(found, knowledge, driver=node.name, degraded=degraded or blind)

    async def page(self, wanted: Page, choose: Choose) -> MemoryPage:
        async def ask(driver: RecordDriver, part: Page, overlay: Overlay) -> Part[Memory]:
            page = await driver._page(overlay.narrowed(part))
            return page.memories, page.next_cursor

        user, whole = wanted.user_id, wanted.whole
        return MemoryPage(*await self._list(wanted, user, ask, paged, choose, whole=whole))

    async def users(self, wanted: Users, choose: Choose) -> UserPage:
        """A user of whom something is pending is counted memory by memory."""
        concerned = await self._concerned(choose)
        found, _, _ = await choose(lambda node: node.ask(lambda driver: driver._users(wanted)))
        counts = {each.user_id: each.memories for each in found.users}
        last = None if found.next_cursor is None else UserCursor.decode(found.next_cursor).user_id
        for user_id in filter(wanted.has, concerned):
            if last is None or user_id <= last:
                counts[user_id] = await self._count(user_id, choose)
        users = [UserCount(user_id, counts[user_id]) for user_id in sorted(counts)]
        shown = [each for each in users if each.memories]
        return user_page(shown, wanted.limit, found.next_cursor)

    async def _concerned(self, choose: Choose) -> set[str]:
        """The users of whose memories something is pending; none where the journal is away."""
        try:
            users, anyones = await self._journal.users(under_way=self._under_way)
        except JournalUnavailable:
            if not self._without_journal:
                raise
            return set()
        for each in anyones:
            found, _, _ = await choose(partial(_get_anyones, wanted=Get("memory", each)))
            if isinstance(found, Memory):
                users.add(found.user_id)
        return users

    async def _count(self, user_id: str, choose: Choose) -> int:
        """How many memories a reader sees."""
        wanted = Page(user_id=user_id, limit=_COUNTED_AT_ONCE)
        pages = every_page(lambda page: self.page(page, choose), wanted)
        return sum([len(memories) async for memories in pages])

    async def page_knowledge(self, wanted: PageKnowledge, choose: Choose) -> KnowledgePage:
        async def ask(driver: RecordDriver, part: PageKnowledge, _: Overlay) -> Part[Knowledge]:
            page = await driver._page_knowledge(part)
            return page.knowledge, page.next_cursor

        return KnowledgePage(*await self._list(wanted, None, ask, paged_knowledge, choose))

    async def _list(
        self,
        wanted: Listed,
        user_id: str | None,
        ask: Callable[[RecordDriver, Listed, Overlay], Awaitable[Part[Kept]]],
        lay: Callable[[Overlay, Part[Kept], Listed], Part[Kept]],
        choose: Choose,
        *,
        whole: bool = False,
    ) -> Part[Kept]:
        """A page of several parts, read anew where a put of a document came amid them.

        `ask` gets a part of a driver, and `lay` lays what is pending over it.
        """
        for _ in range(_READS):
            pending, blind = await self._found(self._of_user(user_id))
            if blind and whole:
                raise JournalUnavailable
            answers: list[list[Kept]] = []
            """Of each part, what is of documents of which a put is pending."""
            read = partial(self._part, pending, ask, lay, choose, answers)
            page = await filled(wanted, read)
            if not came_amid(answers):
                break
        return page

    async def _part(
        self,
        pending: Sequence[Entry],
        ask: Callable[[RecordDriver, Listed, Overlay], Awaitable[Part[Kept]]],
        lay: Callable[[Overlay, Part[Kept], Listed], Part[Kept]],
        choose: Choose,
        answers: list[list[Kept]],
        wanted: Listed,
    ) -> Part[Kept]:
        """One part of a list, whose records of documents in question are added to `answers`."""

        def of(node: Node) -> Awaitable[Part[Kept]]:
            return node.ask(lambda driver: ask(driver, wanted, self._overlay(pending, node)))

        found, node, _ = await choose(of)
        overlay = self._overlay(pending, node).since_put(found[0])
        part = found if overlay.empty else lay(overlay, found, wanted)
        answers.append(overlay.of_puts([*found[0], *part[0]]))
        return part

    async def get(self, wanted: Get, choose: Choose) -> Record | None:
        if wanted.kind == "memory" and wanted.user_id is None:
            return await self._get_anyones(wanted, choose)
        pending, _ = await self._found(self._of_user(wanted.user_id))
        found, node, _ = await choose(lambda node: node.ask(lambda driver: driver._get(wanted)))
        overlay = self._overlay(pending, node)
        if found is None or overlay.hides(found):
            return overlay.shown(wanted.record_id)
        return found

    async def _get_anyones(self, wanted: Get, choose: Choose) -> Record | None:
        """The memory, whoever owns it: its owner is looked up, and then the owner's memory."""
        pending, _ = await self._found(self._of_record(wanted.record_id))
        found: Record | None = kept_memory(pending, wanted.record_id)
        if found is None:
            found, _, _ = await choose(lambda node: node.ask(lambda driver: driver._get(wanted)))
        if not pending or not isinstance(found, Memory):
            return found
        return await self.get(Get("memory", wanted.record_id, found.user_id), choose)

    async def export(
        self, wanted: Export, nodes: Sequence[Node], wrapper: str, seconds: float
    ) -> AsyncIterator[Record]:
        """The records, from the first of the nodes that answers, and what is pending for it.

        Raises what that driver raises once the first record was given, and `DriverTimeout` where
        the next record does not come within `seconds`.
        """
        pending = await self._journal.everything(under_way=self._under_way)
        records = {node.name: node.driver._export(wanted) for node in nodes}

        async def first(node: Node) -> Record | None:
            def begin(_: RecordDriver) -> Awaitable[Record | None]:
                return anext(records[node.name], None)

            return await node.ask(begin)

        record, node, _ = await first_answer(nodes, first, wrapper)
        clock = self._journal.clock
        overlays = Overlays(pending, node.name, clock.now(), stored_by_all=self._stored_by_all)
        kept = deque(overlays.kept(wanted, clock.now()))
        puts = LatestPuts()

        def is_shown(one: Record) -> bool:
            return is_alive(one, clock.now()) and not puts.outdate(one)

        while record is not None:
            while kept and place_of_owner(kept[0]) < place_of_owner(record):
                if is_shown(one := kept.popleft()):
                    yield one
            overlay = overlays[record]
            if document_of(record) in overlay.documents:
                puts.note(record)
            waits = overlay.kept.get(record_id(record))
            if not overlay.hides(record) and not (waits and is_shown(waits)):
                yield record
            try:
                async with asyncio.timeout(seconds):
                    record = await anext(records[node.name], None)
            except TimeoutError as error:
                raise DriverTimeout(reason=f"{node.name}: no answer in time") from error
        for one in filter(is_shown, kept):
            yield one

    async def pending(self, user_id: str | None, node: Node) -> Overlay:
        """What is pending for the node, of the user's memories or, without a user, of knowledge.

        Raises `JournalUnavailable`.
        """
        return self._overlay(await self._of_user(user_id), node)

    async def waiting(self, wanted: Delete | Forget, node: Node) -> Waiting:
        """Which of the records that are to be deleted are pending for the node.

        Raises `JournalUnavailable`.
        """
        anyones = isinstance(wanted, Delete) and wanted.kind == "memory"
        if isinstance(wanted, Delete) and anyones and wanted.user_id is None:
            entries = [entry for each in wanted.ids for entry in await self._of_record(each)]
            return self._overlay(entries, node).waiting(wanted)
        return (await self.pending(wanted.user_id, node)).waiting(wanted)

    def _overlay(self, entries: Sequence[Entry], node: Node) -> Overlay:
        now = self._journal.clock.now()
        return Overlay.of(entries, node.name, now, stored_by_all=self._stored_by_all)

    async def _of_user(self, user_id: str | None) -> Sequence[Entry]:
        return await self._journal.of_user(user_id, under_way=self._under_way)

    async def _of_record(self, memory_id: str) -> Sequence[Entry]:
        return await self._journal.of_record(memory_id, under_way=self._under_way)

    async def _found(self, entries: Awaitable[Sequence[Entry]]) -> tuple[Sequence[Entry], bool]:
        """The entries, and whether the journal can't be reached."""
        try:
            return await entries, False
        except JournalUnavailable:
            if not self._without_journal:
                raise
            return (), True

    async def _enough(
        self,
        node: Node,
        overlay: Overlay,
        wanted: Asked,
        call: Callable[[Asked, RecordDriver], Awaitable[list[Kept]]],
    ) -> list[Kept]:
        """What the node recalls: `top_k` records that the overlay does not hide, if it has them.

        It gives up where `_MOST_ASKED` do not have so many. A driver of six verbs is not asked for
        more than a caller may ask for.
        """
        complete = node.driver.complete
        less = overlay.narrowed(wanted) if complete else wanted
        count = overlay.room(wanted.top_k, self._limits.top_k)
        while True:
            found = await node.ask(partial(call, replace(less, top_k=count)))
            left = sum(not overlay.hides(record) for record in found)
            done = left >= wanted.top_k or len(found) < count
            if done or not complete or count >= _MOST_ASKED:
                return found
            count *= _TIMES_MORE


async def _get_anyones(node: Node, wanted: Get) -> Record | None:
    return await node.ask(lambda driver: driver._get(wanted))
