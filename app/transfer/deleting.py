"""One record deleted, by its owner and its id."""

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Key


async def delete(driver: RecordDriver, key: Key) -> bool:
    """Delete the record, memory or knowledge; whether it was there."""
    user_id, one = key
    if user_id is None:
        return await driver.delete_knowledge(one)
    return await driver.delete(one, user_id)
