"""How many records are to come, as far as a driver can say."""

from app.core.memory.record_driver import RecordDriver
from app.errors import MemoryServiceError

_AT_ONCE = 50


async def count_memories(driver: RecordDriver, user_id: str | None = None) -> int | None:
    """The memories of all users, of those that the driver can count; None where it can't.

    For a time that is left: it raises nothing.
    """
    if user_id is not None:
        return None
    count, cursor = 0, None
    try:
        while True:
            page = await driver.list_users(cursor, _AT_ONCE)
            count += sum(each.memories for each in page.users)
            cursor = page.next_cursor
            if cursor is None:
                return count
    except MemoryServiceError:
        return None
