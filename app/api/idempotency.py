"""The header Idempotency-Key: one record for one request, however often it is sent."""

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID, uuid5

from fastapi import Depends, Request

from app.core.memory.records import Record
from app.errors import InvalidInput

MOST_CHARS: Final = 255
_KEY = re.compile(rf"[\x21-\x7e]{{1,{MOST_CHARS}}}")
_NAMESPACE: Final = UUID("6ba60355-96a5-4b45-beec-ebe2ee2ee2e5")
"""Of the ids that are made of keys: with another one no earlier request would be known again."""
_LOC: Final = ("header", "Idempotency-Key")


class IdempotencyKey:
    """A caller's key, if there is one, from which a record's id is made.

    The id is a UUIDv5 of the tenant, the user and the key, and in a batch of the entry's place too;
    knowledge has no user. So the keys of two tenants, or of two users, never meet.
    """

    def __init__(self, key: str | None = None, tenant: str | None = None) -> None:
        self._key = key
        self._tenant = tenant

    def memory_id(self, given: str | None, user_id: str, place: int | None = None) -> str | None:
        """The id to store a memory under; None: one of ours.

        Raises `InvalidInput` where an id is `given` and there is a key as well.
        """
        return self._id(given, "memory_id", ["memory", user_id, place])

    def knowledge_id(self, given: str | None, place: int | None = None) -> str | None:
        """The id to store knowledge under, likewise."""
        return self._id(given, "knowledge_id", ["knowledge", None, place])

    def _id(self, given: str | None, name: str, whose: list[Any]) -> str | None:
        if self._key is None:
            return given
        if given is not None:
            raise InvalidInput(f"it can't be given together with a {name}", _LOC)
        return str(uuid5(_NAMESPACE, json.dumps([self._tenant, *whose, self._key])))


NO_KEY: Final = IdempotencyKey()
"""Of a request without one."""


def read_key(headers: list[str]) -> str | None:
    """The key; raises `InvalidInput` where there are several, or one that is not within limits."""
    if not headers:
        return None
    if len(headers) > 1:
        raise InvalidInput("the header is given twice", _LOC)
    if not _KEY.fullmatch(headers[0]):
        raise InvalidInput(f"it must be 1 to {MOST_CHARS} visible ASCII characters", _LOC)
    return headers[0]


async def _key(request: Request) -> IdempotencyKey:
    owner = request.state.api_key
    key = read_key(request.headers.getlist("idempotency-key"))
    return IdempotencyKey(key, None if owner is None else owner.tenant)


IdempotencyKeyDep: TypeAlias = Annotated[IdempotencyKey, Depends(_key)]
"""Only an `ApiRoute` knows whose the key is."""


def status_of(stored: Iterable[Record]) -> int:
    """The status of the answer to a store: 200 where all of it was there already."""
    return 200 if all(record.repeated for record in stored) else 201


def stored_as(model: type[Any], **told: Any) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a store that answers with the model; `told` is said of them all."""
    return {
        200: {"model": model, "description": "It was there already: as it is now.", **told},
        201: {"description": "Stored.", **told},
    }
