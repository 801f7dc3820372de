"""A user's memories as they are read: each is the user's who asked, or nobody sees it."""

from collections.abc import Sequence

from app.core.memory.records import Memory
from app.drivers.redis.layout import decoded
from app.logs import get_logger
from app.pieces import in_pieces

_log = get_logger(__name__)


async def own(values: Sequence[bytes | None], user_id: str) -> list[Memory | None]:
    """The memories of the values, None where there is none.

    A record of another user, whose id would have to have the same hash, is reported instead.
    """

    def read(value: bytes | None) -> Memory | None:
        record = None if value is None else decoded(value)
        if record is None:
            return None
        if not isinstance(record, Memory) or record.user_id != user_id:
            _log.error("another_users_record", reason="it is kept under the user's hash")
            return None
        return record

    return await in_pieces(read, values)
