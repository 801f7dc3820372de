"""The contract of somebody's own driver: the six verbs. Ours are `RecordDriver`s."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

from app.core.memory.checks import Metadata
from app.core.memory.records import Knowledge, Memory
from app.embedding import Embedder
from app.reranking import Reranking
from app.settings import Settings

HealthStatus = Literal["ok", "degraded", "unavailable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverHealth:
    """A driver's state: ok; degraded (it serves, `detail` tells what is wrong); unavailable.

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
    """The service's settings; the driver's own options replace those of its group."""
    embedder: Embedder
    inner: tuple["BaseMemoryDriver", ...] = ()
    """The drivers that a wrapping driver holds, built, in order."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The driver's own options, as the configuration names them."""
    reranking: Reranking | None = None
    """What scores the best of a recall again; None: nothing does."""
    embedder_of: Callable[[str], Embedder] | None = None
    """Gives the embedder of another model, by its name, with the other settings of `embedder`.

    It is shared, like `embedder`: the manager closes it.
    """


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

        Whoever calls `open` calls `close`, also after an error.
        """

    async def close(self) -> None:  # noqa: B027
        """Release what `open` made, and only that."""

    def identity(self) -> frozenset[str] | None:
        """Names of the databases that hold the driver's records.

        Two drivers have a name in common exactly where they hold the same records. None while the
        names are not known, as before `open`. By default the name is this instance's own, and
        another one in a process that was forked. Does no I/O.
        """
        instance = os.getpid(), id(self)
        if self.__own is None or self.__own[0] != instance:
            self.__own = instance, frozenset({f"instance/{uuid4().hex}"})
        return self.__own[1]

    def leaves(self) -> frozenset["BaseMemoryDriver"]:
        """The drivers that keep the records: this one; of a wrapping driver, the innermost ones."""
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
        """Delete one memory; whether it was there. Another user's memory counts as missing.

        Without `user_id` the memory is deleted whoever owns it.
        """

    @abstractmethod
    async def health_check(self) -> DriverHealth:
        """The driver's state, within seconds; never raises."""
