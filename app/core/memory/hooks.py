"""What a driver of ours is made of below its verbs: what it can do, and its hooks."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime

from app import metrics
from app.core.memory.base import BaseMemoryDriver
from app.core.memory.clock import CLOCK, Clock
from app.core.memory.derived import Derived
from app.core.memory.records import (
    Kept,
    Key,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Record,
    UserPage,
)
from app.core.memory.reembedding import Reembedding
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Keep,
    Page,
    PageKnowledge,
    Put,
    Recall,
    RecallKnowledge,
    Replace,
    Users,
)
from app.embedding import Embedder, Model
from app.errors import CapabilityMissing
from app.settings import Limits

_BEYOND_SIX_VERBS = frozenset(
    {
        "get",
        "list_memories",
        "store_many",
        "delete_many",
        "delete_user",
        "get_knowledge",
        "delete_knowledge",
        "store_knowledge_many",
        "export_records",
        "import_records",
        "owner_of",
        "update",
        "update_knowledge",
    }
)
_OF_DOCUMENTS = frozenset({"put_document", "delete_document"})


class RecordHooks(BaseMemoryDriver):
    """The hooks that `RecordDriver` calls with checked values, and what it knows of the driver."""

    complete: bool = True
    """Whether the driver has more than the six verbs.

    Where False, every other verb raises `CapabilityMissing`.
    """

    explains: bool = False
    """Whether `recall` takes `explain`; where False it raises `CapabilityMissing`."""

    weighs_recency: bool = False
    """Whether `recall` takes `recency`; where False it raises `CapabilityMissing`."""

    lists_users: bool = True
    """Whether the driver can list its users; where False, `list_users` raises `CapabilityMissing`.
    """

    lists_knowledge: bool = True
    """Whether the driver lists knowledge; where False, `list_knowledge` raises `CapabilityMissing`.
    """

    keeps_documents: bool = False
    """Whether it replaces documents as a whole.

    Where False, `put_document` and `delete_document` raise `CapabilityMissing`.
    """

    clock: Clock = CLOCK
    """Gives the driver's records their ids and times."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def capabilities(self) -> frozenset[str]:
        """The verbs beyond the six that the driver has, and what its `recall` takes more.

        `explain_recall`: it explains; `weigh_recency`: it weighs recency.
        """
        found = _BEYOND_SIX_VERBS if self.complete else frozenset()
        more = {
            "explain_recall": self.explains,
            "weigh_recency": self.weighs_recency,
            "list_users": self.complete and self.lists_users,
            "list_knowledge": self.complete and self.lists_knowledge,
        }
        if self.complete and self.keeps_documents:
            found |= _OF_DOCUMENTS
        return found.union(name for name, is_there in more.items() if is_there)

    def _moment(self) -> AbstractAsyncContextManager[datetime]:
        """A moment after all that was stored before the block, and before all that comes after it.

        By the clock that gives records their times: services whose clocks differ, and that share no
        journal, may see it elsewhere, by that difference.
        """
        return nullcontext(self.clock.end_of_now())

    def _now(self) -> datetime:
        """The driver's time: what expires then or earlier has expired."""
        return self.clock.now()

    def _swept(self, records: int) -> None:
        """Count so many records that had expired, and that the driver has deleted."""
        metrics.EXPIRED.labels(self.name).inc(records)

    def _need_all(self, what: str) -> None:
        if not self.complete:
            raise CapabilityMissing(f"The driver {self.name!r} can't {what}")

    def _check_users(self, records: Sequence[Record], name: str) -> None:
        for n, record in enumerate(records):
            if isinstance(record, Memory):
                self._check_user(record.user_id, (name, n, "user_id"))

    def _check_user(self, user_id: str, loc: tuple[str | int, ...] = ("user_id",)) -> None:
        """Raise `InvalidInput` at `loc` for a user whom the driver does not serve.

        By default it serves all.
        """

    def reembedding(self, embedder: Embedder) -> Reembedding:
        """The way to vectors of the embedder's model, not opened; the caller closes the embedder.

        Raises `CapabilityMissing` where the driver has none.
        """
        raise CapabilityMissing(
            f"The driver {self.name!r} can't take another model: declare a second one with that "
            "model in a new collection, and copy the records by `memory-driver copy`"
        )

    # Hooks: a driver implements them; a wrapping driver calls those of the drivers that it holds.

    @abstractmethod
    async def _recall(self, wanted: Recall) -> list[Memory]:
        """The memories; `score` is None without a query."""

    @abstractmethod
    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        """The knowledge, with its `score`."""

    @abstractmethod
    async def _get(self, wanted: Get) -> Record | None:
        """The record, or None."""

    @abstractmethod
    async def _page(self, wanted: Page) -> MemoryPage:
        """The page."""

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        """The page. Only asked for where the driver `lists_knowledge`."""
        raise CapabilityMissing(f"The driver {self.name!r} can't list knowledge")

    @abstractmethod
    def _export(self, wanted: Export) -> AsyncIterator[Record]:
        """The records that are wanted, each once, in the order that `Export` tells."""

    async def _model(self) -> Model | None:
        """The model that makes the driver's vectors; None where nobody can tell, or has them."""
        return None

    async def _derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        """What was made of each record, as `Keep` takes it.

        None where the driver does not have that version of the record, or gives no vectors.
        """
        return [None] * len(records)

    async def _gone(self, keys: Sequence[Key]) -> set[Key]:
        """Those under which the driver has nothing. A backend may be quicker."""
        return {key for key in keys if await self._get(Get.of_key(key)) is None}

    @abstractmethod
    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        """Keep the records as `Keep` says; the records as the driver has them, in their order.

        Raises `Conflict` where they are to be kept `once`, and something else is there.
        """

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        """Compare and set: keep the record if the driver has the version `over`; whether it did.

        False where the record is gone, or has another `updated_at`. A backend that can compare and
        set in one step overrides this. Here another write may come between: the later one of two
        updates wins, and a delete is undone.
        """
        record = wanted.record
        found = await self._get(Get.of(record))
        if found is None or found.updated_at != wanted.over:
            return False
        await self._keep(Keep([record]))
        return True

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        """Replace the document as `Put` says, so that no reader sees a part of it.

        Only asked for where the driver `keeps_documents`. What comes back: the records as the
        driver has them, and how many others it deleted that had not expired.
        """
        raise CapabilityMissing(f"The driver {self.name!r} can't replace a document")

    @abstractmethod
    async def _delete(self, wanted: Delete) -> int:
        """Delete the records; how many were there."""

    @abstractmethod
    async def _forget(self, wanted: Forget) -> int:
        """Delete the memories that `wanted` reaches; how many there were.

        A call that breaks off may have deleted some; the same call again deletes the rest.
        """

    @abstractmethod
    async def _users(self, wanted: Users) -> UserPage:
        """The users, as far as each has a memory that has not expired."""
