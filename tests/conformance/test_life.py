"""Building does no I/O; open may be called twice; health is told, not raised."""

import asyncio

from app.core.memory.record_driver import RecordDriver


async def test_opening_twice_is_harmless(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "kettle")
    await asyncio.gather(driver.open(), driver.open())
    assert await driver.recall("ada") == [stored]


async def test_closing_twice_is_harmless(driver: RecordDriver) -> None:
    await driver.close()
    await driver.close()


async def test_health_names_the_driver(driver: RecordDriver) -> None:
    health = await driver.health_check()
    assert (health.driver, health.status) == (driver.name, "ok")
