"""One record for one request: what is stored under a caller's id is stored once.

A record that was stored so keeps its `request`, which tells apart what was asked; an update leaves
it as it is. So the same request again finds its record, whatever became of that, and another one
under the same id is a `Conflict`.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NoReturn

from app.core.memory.records import Kept, Key, key_of, record_id
from app.core.memory.requests import Keep
from app.errors import Conflict


async def keep_once(
    keep: Callable[[Keep[Kept]], Awaitable[Sequence[Kept]]],
    records: Sequence[Kept],
    batch: str | None = None,
) -> list[Kept]:
    """The records as the driver whose hook `keep` is has them, in their order.

    Raises a `Conflict` that names the id and, in a `batch` of that name, the entry.
    """
    first: dict[Key, int] = {}
    for place, record in enumerate(records):
        same = records[first.setdefault(key_of(record), place)]
        if same.request != record.request:
            _refuse(records, place, batch)
    places = list(first.values())
    try:
        kept = await keep(Keep([records[place] for place in places], once=True))
    except Conflict as error:
        _refuse(records, places[error.place], batch)
    there = dict(zip(first, kept, strict=True))
    return [
        replace(there[key], repeated=True) if first[key] != place else there[key]
        for place, key in enumerate(map(key_of, records))
    ]


def _refuse(records: Sequence[Kept], place: int, batch: str | None) -> NoReturn:
    one = record_id(records[place])
    raise Conflict(
        f"something else was stored under the id {one}; nothing was stored",
        place=place,
        loc=() if batch is None else (batch, place),
    ) from None


def repeated(there: Kept, wanted: Kept, place: int) -> Kept:
    """What is there, as the answer to the same request again.

    Raises `Conflict` with the `place` where `wanted` is another request.
    """
    if there.request != wanted.request:
        raise Conflict(place=place)
    return replace(there, repeated=True)


def is_same(there: Kept, wanted: Kept) -> bool:
    """Whether `there` was made of `wanted`, and not of the same request made at another time."""
    return there.created_at == wanted.created_at and there.request == wanted.request


@contextmanager
def placed(places: Sequence[int]) -> Iterator[None]:
    """In the block only the records of these places are asked for: a `Conflict` names its place."""
    try:
        yield
    except Conflict as error:
        raise Conflict(place=places[error.place]) from None
