"""The ETag of a record: its version, in microseconds since the epoch (RFC 9110, 8.8.3)."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Request

from app.core.memory.moments import from_microseconds, to_microseconds
from app.errors import InvalidInput

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
_OURS = re.compile(r'"(0|-?[1-9][0-9]{0,17})"')

TAGGED: dict[str, Any] = {
    "headers": {
        "ETag": {
            "description": "The record's version; If-Match takes it.",
            "required": True,
            "schema": {"type": "string", "examples": ['"1795368335463000"']},
        }
    }
}
"""What the document says of a response with an ETag."""


def etag(updated_at: datetime) -> str:
    """The strong ETag of a record that was last changed at that moment."""
    if updated_at.tzinfo is None:  # somebody's own driver may leave it out
        updated_at = updated_at.replace(tzinfo=UTC)
    return f'"{to_microseconds(updated_at)}"'


def versions(headers: Sequence[str]) -> list[datetime] | None:
    """The versions that `If-Match` lists; None where any will do.

    The comparison is strong (RFC 9110, 13.1.1): a weak ETag is no version, and neither is one that
    this service did not make. Raises `InvalidInput` for what is not a list of ETags.
    """
    header = ",".join(headers).strip()
    if not headers or header == "*":
        return None
    if not _LIST.fullmatch(header):
        raise InvalidInput(
            "it must be * or a list of ETags in their double quotes, as answers have them in the "
            'header ETag: "1795368335463000"',
            ("header", "If-Match"),
        )
    ours = (_OURS.fullmatch(tag) for tag in re.findall(_TAG, header))
    found = (_moment(int(tag[1])) for tag in ours if tag is not None)
    return [moment for moment in found if moment is not None]


def _moment(microseconds: int) -> datetime | None:
    try:
        return from_microseconds(microseconds)
    except OverflowError:
        return None


async def _if_match(request: Request) -> list[datetime] | None:
    return versions(request.headers.getlist("if-match"))


IfMatchDep: TypeAlias = Annotated[list[datetime] | None, Depends(_if_match)]
"""The versions of which a record must have one to be changed; None where any will do."""
