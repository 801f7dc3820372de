"""Where a page ended, as text that a client hands back."""

import base64
import binascii
from datetime import datetime
from typing import NamedTuple, Self
from uuid import UUID

from app.core.memory.moments import from_microseconds, to_microseconds
from app.core.memory.records import Memory, MemoryPage
from app.errors import InvalidInput


class Cursor(NamedTuple):
    """The last memory of a page; the next page starts with the first one older than it."""

    occurred_at: datetime
    memory_id: UUID

    @classmethod
    def after(cls, memory: Memory) -> Self:
        return cls(memory.occurred_at, UUID(memory.memory_id))

    def encode(self) -> str:
        microseconds = to_microseconds(self.occurred_at)
        packed = microseconds.to_bytes(8, "big", signed=True) + self.memory_id.bytes
        return base64.urlsafe_b64encode(packed).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises `InvalidInput` for a text that `encode` can't have made."""
        try:
            packed = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
            microseconds = int.from_bytes(packed[:8], "big", signed=True)
            occurred_at = from_microseconds(microseconds)
            cursor = cls(occurred_at, UUID(bytes=packed[8:]))
        except (UnicodeEncodeError, binascii.Error, ValueError, OverflowError):
            cursor = None
        if cursor is None or cursor.encode() != text:
            raise InvalidInput("cursor is not one that a page gave", ("cursor",))
        return cursor


def page(found: list[Memory], limit: int) -> MemoryPage:
    """The page of `limit` memories, from up to one more than that."""
    memories = found[:limit]
    more = len(found) > limit
    return MemoryPage(memories, Cursor.after(memories[-1]).encode() if more else None)
