"""What tests of updates on AutoMem share: all ways to read, and calls that wait or fail."""

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.core.memory.records import Memory, NewMemory
from app.drivers.automem import AutomemDriver
from tests.conformance.cases import WAYS
from tests.drivers.automem_fake import FakeAutomem

MANY = 30
"""More than any recall here asks for: AutoMem's own ranking is taken."""


async def fill(automem: AutomemDriver, count: int = MANY) -> list[Memory]:
    """So many memories of Ada about kettles, in no conversation."""
    batch = [NewMemory(user_id="ada", content=f"kettle number {n}") for n in range(count)]
    return await automem.store_many(batch)


async def versions_shown(
    driver: AutomemDriver, memory_id: str, conversation_id: str | None = None
) -> list[list[Memory]]:
    """For each way to read Ada's memories, what it shows under that id, without scores."""
    found = [
        await driver.recall("ada", conversation_id, top_k=top_k, **{**way, **more})
        for top_k in (3, 100)
        for way in WAYS
        for more in ({}, {"exclude_tags": ["other"]})
    ]
    cursor: str | None = None
    listed: list[Memory] = []
    while True:
        page = await driver.list_memories("ada", conversation_id, cursor, limit=7)
        listed += page.memories
        cursor = page.next_cursor
        if cursor is None:
            break
    found.append(listed)
    exported = [one async for one in driver.export_records()]
    if conversation_id is None:
        found.append([one for one in exported if isinstance(one, Memory)])
        got = await driver.get(memory_id, "ada")
        found.append([got] if got is not None else [])
    return [[one for one in some if one.memory_id == memory_id] for some in found]


def unscored(memory: Memory) -> tuple[object, ...]:
    """All of the memory but its score."""
    return (
        memory.memory_id,
        memory.content,
        memory.conversation_id,
        memory.tags,
        memory.metadata,
        memory.created_at,
        memory.updated_at,
        memory.occurred_at.isoformat(),
        memory.expires_at,
    )


async def check_latest(driver: AutomemDriver, expected: Memory) -> None:
    """Every way to read shows that version alone, and an export shows it once."""
    shown = await versions_shown(driver, expected.memory_id)
    seen = [unscored(one) for some in shown for one in some]
    assert seen
    assert all(one == unscored(expected) for one in seen)
    assert max(map(len, shown)) == 1
    assert [unscored(one) for some in shown[-3:] for one in some] == [unscored(expected)] * 3


def refuse(fake: FakeAutomem, method: str) -> None:
    """From now on the fake fails each call of the method."""

    async def failing(request: Request) -> Response | None:
        return JSONResponse({}, 500) if request.method == method else None

    fake.before = failing


class Gate:
    """A gate that holds the first call which reaches it, until a test opens the gate."""

    def __init__(self, is_held: Callable[[Request], bool]) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self._is_held = is_held

    async def __call__(self, request: Request) -> Response | None:
        if not self.reached.is_set() and self._is_held(request):
            self.reached.set()
            await self.open.wait()
        return None


def first(method: str) -> Gate:
    """Holds the first call of the method."""
    return Gate(lambda request: request.method == method)
