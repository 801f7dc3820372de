"""Building does no I/O; open may be called twice; health is told, not raised."""

import asyncio

from app.core.memory.base import BaseMemoryDriver


async def test_opening_twice_is_harmless(driver: BaseMemoryDriver) -> None:
    stored = await driver.store("ada", "kettle")
    await asyncio.gather(driver.open(), driver.open())
    assert await driver.recall("ada") == [stored]


async def test_closing_twice_is_harmless(driver: BaseMemoryDriver) -> None:
    await driver.close()
    await driver.close()


async def test_health_names_the_driver(driver: BaseMemoryDriver) -> None:
    health = await driver.health_check()
    assert (health.driver, health.status) == (driver.name, "ok")
