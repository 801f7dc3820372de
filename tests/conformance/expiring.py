"""Waits until something has expired."""

import asyncio

from app.core.memory.record_driver import RecordDriver


async def until_expired(driver: RecordDriver, user_id: str, left: int) -> None:
    """Wait until no more of the user's memories are left than that."""
    async with asyncio.timeout(5):
        while len((await driver.list_memories(user_id, limit=100)).memories) > left:
            await asyncio.sleep(0.01)
