"""What wrapping drivers share: every verb as a call, which can be made on any driver they hold."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from app.core.memory.base import CAPABILITIES, BaseMemoryDriver, SupportsExport, require
from app.core.memory.records import Knowledge, Memory, MemoryPage, Metadata, NewKnowledge, NewMemory


@dataclass(frozen=True, slots=True)
class Call:
    """A verb and its arguments."""

    verb: str
    arguments: Mapping[str, Any]

    def check(self, driver: BaseMemoryDriver) -> None:
        """Raise `CapabilityMissing` where `driver` can't do this."""
        if self.verb in CAPABILITIES:
            require(driver, CAPABILITIES[self.verb])

    async def on(self, driver: BaseMemoryDriver) -> Any:
        """The answer of `driver`; raises `CapabilityMissing` where it can't do this."""
        self.check(driver)
        return await getattr(driver, self.verb)(**self.arguments)


class WrappingDriver(BaseMemoryDriver):
    """Turns every verb into `_read` or `_write` of a call.

    It can do what all the drivers that it holds can. It opens and closes them with itself.
    """

    def __init__(self, inner: Sequence[BaseMemoryDriver]) -> None:
        self.inner = tuple(inner)

    @abstractmethod
    async def _read(self, call: Call) -> Any:
        """Answer a call that changes nothing."""

    @abstractmethod
    async def _write(self, call: Call) -> Any:
        """Answer a call that changes something."""

    def supports(self, capability: type) -> bool:
        return isinstance(self, capability) and all(d.supports(capability) for d in self.inner)

    def identity(self) -> frozenset[str] | None:
        """Those of all that it holds; None while any of them is not known."""
        found: frozenset[str] = frozenset()
        for driver in self.inner:
            identity = driver.identity()
            if identity is None:
                return None
            found |= identity
        return found

    def leaves(self) -> frozenset[BaseMemoryDriver]:
        return frozenset().union(*(driver.leaves() for driver in self.inner))

    async def catch_up(self, driver: str) -> None:
        """Before a repair: let that driver, held or not, have what still waits for it."""

    async def settled(self, driver: str) -> None:
        """Amid a repair: wait until that driver, held or not, has the writes that are under way.

        Raises `DriverTimeout` after ten seconds, and `JournalUnavailable`.
        """

    async def mended(self, driver: str) -> None:
        """After a repair: take notice that the records of that driver, held or not, changed."""

    async def open(self) -> None:
        for driver in self.inner:
            await driver.open()

    async def close(self) -> None:
        async with AsyncExitStack() as stack:
            for driver in self.inner:
                stack.push_async_callback(driver.close)

    async def recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        arguments = {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "query": query,
            "top_k": top_k,
            "use_vector": use_vector,
            "exclude_tags": exclude_tags,
        }
        memories: list[Memory] = await self._read(Call("recall", arguments))
        return memories

    async def explain_recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        arguments = {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "query": query,
            "top_k": top_k,
            "use_vector": use_vector,
            "exclude_tags": exclude_tags,
        }
        memories: list[Memory] = await self._read(Call("explain_recall", arguments))
        return memories

    async def recall_global_knowledge(
        self, query: str, top_k: int = 5, category: str | None = None
    ) -> list[Knowledge]:
        arguments = {"query": query, "top_k": top_k, "category": category}
        found: list[Knowledge] = await self._read(Call("recall_global_knowledge", arguments))
        return found

    async def store(
        self,
        user_id: str,
        content: str,
        conversation_id: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Metadata | None = None,
    ) -> Memory:
        arguments = {
            "user_id": user_id,
            "content": content,
            "conversation_id": conversation_id,
            "tags": tags,
            "metadata": metadata,
        }
        memory: Memory = await self._write(Call("store", arguments))
        return memory

    async def store_many(self, memories: Sequence[NewMemory]) -> list[Memory]:
        stored: list[Memory] = await self._write(Call("store_many", {"memories": memories}))
        return stored

    async def store_global_knowledge(
        self,
        content: str,
        category: str,
        title: str | None = None,
        doc_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> Knowledge:
        arguments = {
            "content": content,
            "category": category,
            "title": title,
            "doc_id": doc_id,
            "metadata": metadata,
        }
        knowledge: Knowledge = await self._write(Call("store_global_knowledge", arguments))
        return knowledge

    async def store_knowledge_many(self, knowledge: Sequence[NewKnowledge]) -> list[Knowledge]:
        call = Call("store_knowledge_many", {"knowledge": knowledge})
        stored: list[Knowledge] = await self._write(call)
        return stored

    async def import_records(self, records: Sequence[Memory | Knowledge]) -> None:
        await self._write(Call("import_records", {"records": records}))

    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        call = Call("delete", {"memory_id": memory_id, "user_id": user_id})
        deleted: bool = await self._write(call)
        return deleted

    async def delete_user(self, user_id: str) -> int:
        count: int = await self._write(Call("delete_user", {"user_id": user_id}))
        return count

    async def delete_knowledge(self, knowledge_id: str) -> bool:
        deleted: bool = await self._write(Call("delete_knowledge", {"knowledge_id": knowledge_id}))
        return deleted

    async def get(self, memory_id: str, user_id: str) -> Memory | None:
        call = Call("get", {"memory_id": memory_id, "user_id": user_id})
        memory: Memory | None = await self._read(call)
        return memory

    async def owner_of(self, memory_id: str) -> str | None:
        owner: str | None = await self._read(Call("owner_of", {"memory_id": memory_id}))
        return owner

    async def list_memories(
        self,
        user_id: str,
        conversation_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MemoryPage:
        arguments = {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "cursor": cursor,
            "limit": limit,
        }
        page: MemoryPage = await self._read(Call("list_memories", arguments))
        return page

    async def get_knowledge(self, knowledge_id: str) -> Knowledge | None:
        call = Call("get_knowledge", {"knowledge_id": knowledge_id})
        knowledge: Knowledge | None = await self._read(call)
        return knowledge

    async def export_records(self) -> AsyncIterator[Memory | Knowledge]:
        async for record in require(self.inner[0], SupportsExport).export_records():
            yield record
