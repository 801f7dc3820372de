"""Where a page ended, as text that a client hands back."""

import base64
import binascii
from datetime import datetime
from typing import NamedTuple, Self
from uuid import UUID

from app.core.memory.moments import from_microseconds, to_microseconds
from app.core.memory.records import Memory, MemoryPage, UserCount, UserPage
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
            raise _unknown()
        return cursor


class UserCursor(NamedTuple):
    """The last user of a page; the next page starts with the first id after that one."""

    user_id: str

    @property
    def next_id(self) -> str:
        """The least id after it: none has U+0000."""
        return f"{self.user_id}\x01"

    def encode(self) -> str:
        return base64.urlsafe_b64encode(self.user_id.encode()).decode()

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises `InvalidInput` for a text that `encode` can't have made."""
        try:
            packed = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
            cursor = cls(packed.decode())
        except (UnicodeError, binascii.Error):
            raise _unknown() from None
        if not cursor.user_id or "\x00" in cursor.user_id or cursor.encode() != text:
            raise _unknown()
        return cursor


def _unknown() -> InvalidInput:
    return InvalidInput("cursor is not one that a page gave", ("cursor",))


def page(found: list[Memory], limit: int) -> MemoryPage:
    """The page of `limit` memories, from up to one more than that."""
    memories = found[:limit]
    more = len(found) > limit
    return MemoryPage(memories, Cursor.after(memories[-1]).encode() if more else None)


def user_page(found: list[UserCount], limit: int, next_cursor: str | None = None) -> UserPage:
    """The page of `limit` users, from any number; `next_cursor` continues where there are no more.

    A page that is cut continues after its last user.
    """
    if len(found) <= limit:
        return UserPage(found, next_cursor)
    users = found[:limit]
    return UserPage(users, UserCursor(users[-1].user_id).encode())
