"""Where a page ended, as text that a client hands back."""

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple, Self, TypeAlias, TypeVar
from uuid import UUID

from app.core.memory.moments import from_microseconds, to_microseconds
from app.core.memory.records import Kept, Record, UserCount, UserPage, newest, position_of, uuid_of
from app.errors import InvalidInput

LAST: Final = 2**31 - 1
"""Where in its document a record stands that has no position."""


class Cursor(NamedTuple):
    """The last record of a page; the next page starts with the first one older than it."""

    occurred_at: datetime
    """When it happened; of knowledge, when it was created."""
    record_id: UUID

    @classmethod
    def after(cls, record: Record) -> Self:
        when, one = newest(record)
        return cls(when, uuid_of(one))

    def encode(self) -> str:
        microseconds = to_microseconds(self.occurred_at)
        return _text(microseconds.to_bytes(8, "big", signed=True) + self.record_id.bytes)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises `InvalidInput` for a text that `encode` can't have made."""
        return _decoded(text, lambda packed: cls(_moment(packed[:8]), UUID(bytes=packed[8:])))


class DocumentCursor(NamedTuple):
    """The last record of a page of a document; the next page starts with the first one after it."""

    position: int
    created_at: datetime
    record_id: UUID

    @classmethod
    def after(cls, record: Record) -> Self:
        position, (_, one) = position_of(record), newest(record)
        return cls(LAST if position is None else position, record.created_at, uuid_of(one))

    def encode(self) -> str:
        microseconds = to_microseconds(self.created_at).to_bytes(8, "big", signed=True)
        return _text(self.position.to_bytes(4, "big") + microseconds + self.record_id.bytes)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises `InvalidInput` for a text that `encode` can't have made."""
        return _decoded(
            text,
            lambda packed: cls(
                min(int.from_bytes(packed[:4], "big"), LAST),
                _moment(packed[4:12]),
                UUID(bytes=packed[12:]),
            ),
        )


def after_user(user_id: str) -> str:
    """The least id of a user after this one: none has U+0000."""
    return f"{user_id}\x01"


class UserCursor(NamedTuple):
    """The last user of a page; the next page starts with the first id after that one."""

    user_id: str

    @property
    def next_id(self) -> str:
        """The least id after it."""
        return after_user(self.user_id)

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


Place: TypeAlias = Cursor | DocumentCursor
Decoded = TypeVar("Decoded", bound=Cursor | DocumentCursor)


def cut(
    found: list[Kept], limit: int, place: Callable[[Kept], Place]
) -> tuple[list[Kept], str | None]:
    """A page of `limit` records, from up to one more than that, and the cursor that continues it.

    `place` tells where the page ends, given its last record.
    """
    records = found[:limit]
    more = len(found) > limit
    return records, place(records[-1]).encode() if more else None


def user_page(found: list[UserCount], limit: int, next_cursor: str | None = None) -> UserPage:
    """The page of `limit` users, from any number; `next_cursor` continues where there are no more.

    A page that is cut continues after its last user.
    """
    if len(found) <= limit:
        return UserPage(found, next_cursor)
    users = found[:limit]
    return UserPage(users, UserCursor(users[-1].user_id).encode())


def _text(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed).decode()


def _moment(packed: bytes) -> datetime:
    return from_microseconds(int.from_bytes(packed, "big", signed=True))


def _decoded(text: str, read: Callable[[bytes], Decoded]) -> Decoded:
    cursor: Decoded | None
    try:
        packed = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        cursor = read(packed)
    except (UnicodeEncodeError, binascii.Error, ValueError, OverflowError):
        cursor = None
    if cursor is None or cursor.encode() != text:
        raise _unknown()
    return cursor


def _unknown() -> InvalidInput:
    return InvalidInput("cursor is not one that a page gave", ("cursor",))
