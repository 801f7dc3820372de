"""The contract: six verbs that every driver has, and the capabilities that it may have."""

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, runtime_checkable
from uuid import uuid4

from app.core.memory.records import (
    Knowledge,
    Memory,
    MemoryPage,
    Metadata,
    NewKnowledge,
    NewMemory,
)
from app.embedding import Embedder
from app.errors import CapabilityMissing
from app.settings import Settings

HealthStatus = Literal["ok", "degraded", "unavailable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverHealth:
    """A driver's state: ok; degraded (it serves, but `detail`); unavailable.

    `facts` are figures worth seeing on `/health`; `drivers` the states of the drivers it holds.
    """

    driver: str
    status: HealthStatus
    detail: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    drivers: tuple["DriverHealth", ...] = ()


@dataclass(frozen=True, slots=True)
class DriverContext:
    """What the manager hands to a driver that it builds."""

    name: str
    settings: Settings
    """With the driver's own options in the place of its group's."""
    embedder: Embedder
    inner: tuple["BaseMemoryDriver", ...] = ()
    """The drivers that a wrapping driver holds, built, in order."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The driver's own options, as the configuration names them."""


class BaseMemoryDriver(ABC):
    """One memory backend behind the service's verbs.

    Building a driver does no I/O; `open` does, and may be called twice. A client library's error
    always leaves as a `MemoryServiceError`, bad input as `InvalidInput`.
    """

    name: str = "custom"
    """The configured key that selects this driver; the manager sets it."""

    __own: tuple[tuple[int, int], frozenset[str]] | None = None

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        """Build the driver from the configuration; by default, without arguments."""
        return cls()

    async def open(self) -> None:  # noqa: B027
        """Get ready to serve. Raises `DriverUnavailable` when it may work later.

        Whoever opens it closes it, also where this raised.
        """

    async def close(self) -> None:  # noqa: B027
        """Release what `open` made, and only that."""

    def supports(self, capability: type) -> bool:
        """Whether it has the capability; a wrapping driver asks those it holds."""
        return isinstance(self, capability)

    def identity(self) -> frozenset[str] | None:
        """What its records are in: the same wherever the same records are, and nowhere else.

        None while it is not known. By default nobody else has it: no other instance, nor this one
        in a process that was forked. It costs no I/O.
        """
        instance = os.getpid(), id(self)
        if self.__own is None or self.__own[0] != instance:
            self.__own = instance, frozenset({f"instance/{uuid4().hex}"})
        return self.__own[1]

    def leaves(self) -> frozenset["BaseMemoryDriver"]:
        """The drivers that keep the records: itself, or what is lowest of all that it holds."""
        return frozenset({self})

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @abstractmethod
    async def recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        """The user's memories: with a query best first, without one newest first.

        Only memories of `user_id`, of `conversation_id` if given, and with none of `exclude_tags`
        take part; then `top_k` of them are taken. With `use_vector=False` the query is lexical:
        only memories that share a word with it are found. Ties are newest first.
        """

    @abstractmethod
    async def recall_global_knowledge(
        self, query: str, top_k: int = 5, category: str | None = None
    ) -> list[Knowledge]:
        """The knowledge that best answers the query, best first, of `category` if given."""

    @abstractmethod
    async def store(
        self,
        user_id: str,
        content: str,
        conversation_id: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Metadata | None = None,
    ) -> Memory:
        """Keep one memory, which the next recall can find."""

    @abstractmethod
    async def store_global_knowledge(
        self,
        content: str,
        category: str,
        title: str | None = None,
        doc_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> Knowledge:
        """Keep one record for everyone. `doc_id` is the caller's own and need not be unique."""

    @abstractmethod
    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        """Whether it deleted; missing and not `user_id`'s look the same.

        Without `user_id` the memory is deleted whoever owns it.
        """

    @abstractmethod
    async def health_check(self) -> DriverHealth:
        """The driver's state, within seconds; never raises."""


@runtime_checkable
class SupportsGet(Protocol):
    """Can look a memory up by its id."""

    async def get(self, memory_id: str, user_id: str) -> Memory | None:
        """The memory, or None: missing and not `user_id`'s look the same."""


@runtime_checkable
class SupportsList(Protocol):
    """Can page through a user's memories."""

    async def list_memories(
        self,
        user_id: str,
        conversation_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MemoryPage:
        """A page, newest first; `cursor` is the previous page's `next_cursor`."""


@runtime_checkable
class SupportsStoreMany(Protocol):
    """Can store memories in one go."""

    async def store_many(self, memories: Sequence[NewMemory]) -> list[Memory]:
        """Keep all of them or none; the answer is in their order."""


@runtime_checkable
class SupportsDeleteUser(Protocol):
    """Can forget a user."""

    async def delete_user(self, user_id: str) -> int:
        """Delete all of the user's memories; how many there were."""


@runtime_checkable
class SupportsGetKnowledge(Protocol):
    """Can look knowledge up by its id."""

    async def get_knowledge(self, knowledge_id: str) -> Knowledge | None:
        """The knowledge, or None."""


@runtime_checkable
class SupportsDeleteKnowledge(Protocol):
    """Can delete knowledge."""

    async def delete_knowledge(self, knowledge_id: str) -> bool:
        """Whether it deleted."""


@runtime_checkable
class SupportsStoreKnowledgeMany(Protocol):
    """Can store knowledge in one go."""

    async def store_knowledge_many(self, knowledge: Sequence[NewKnowledge]) -> list[Knowledge]:
        """Keep all of it or none; the answer is in its order."""


@runtime_checkable
class SupportsExport(Protocol):
    """Can give everything back."""

    def export_records(self) -> AsyncIterator[Memory | Knowledge]:
        """Every user's memories and all knowledge, each once, a page at a time and in no order.

        What is stored or deleted meanwhile may or may not be among them.
        """


@runtime_checkable
class SupportsImport(Protocol):
    """Can keep records that exist already, with their ids and times."""

    async def import_records(self, records: Sequence[Memory | Knowledge]) -> None:
        """Keep them as they are; those that are there already stay as they are, once.

        When it fails, some may be kept: called again it keeps the rest.
        """


@runtime_checkable
class SupportsOwner(Protocol):
    """Can tell whose a memory is."""

    async def owner_of(self, memory_id: str) -> str | None:
        """The user id of the memory's owner, or None without such a memory."""


@runtime_checkable
class SupportsExplain(Protocol):
    """Can tell why it recalls what it recalls."""

    async def explain_recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        """The same as `recall`, each memory with its `explanation` where vectors took part."""


CAPABILITIES: dict[str, type] = {
    "get": SupportsGet,
    "list_memories": SupportsList,
    "store_many": SupportsStoreMany,
    "delete_user": SupportsDeleteUser,
    "get_knowledge": SupportsGetKnowledge,
    "delete_knowledge": SupportsDeleteKnowledge,
    "store_knowledge_many": SupportsStoreKnowledgeMany,
    "export_records": SupportsExport,
    "import_records": SupportsImport,
    "owner_of": SupportsOwner,
    "explain_recall": SupportsExplain,
}

Capability = TypeVar("Capability")


def capabilities(driver: BaseMemoryDriver) -> frozenset[str]:
    """The names of the capabilities that `driver` has."""
    return frozenset(name for name, kind in CAPABILITIES.items() if driver.supports(kind))


def require(driver: BaseMemoryDriver, capability: type[Capability]) -> Capability:
    """`driver` as one that has `capability`; raises `CapabilityMissing`."""
    if isinstance(driver, capability) and driver.supports(capability):
        return driver
    raise CapabilityMissing(
        f"The driver {driver.name!r} has no {capability.__name__.removeprefix('Supports')}"
    )
