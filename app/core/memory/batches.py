"""The entries of a batch: all of them are made, or those that can't be are named."""

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Final, TypeAlias, TypeVar

from app.core.memory.checks import check_batch
from app.errors import InvalidInput
from app.pieces import in_pieces
from app.settings import Limits

MOST_NAMED: Final = 20
"""Bad entries that an error names."""

Place: TypeAlias = tuple[str | int, ...]
Given = TypeVar("Given")
Made = TypeVar("Made")


async def made_of_each(
    batch: Sequence[Given], name: str, limits: Limits, make: Callable[[Given, Place], Made]
) -> list[Made]:
    """What `make` makes of each entry, given its place; `name` is the batch's own.

    Raises `InvalidInput` for a batch that is empty or too long. Where entries are bad, it raises
    the error of the first, with those of the next as its `others`: `MOST_NAMED` in all.
    """
    check_batch(batch, limits, name)
    bad: list[InvalidInput] = []

    def made(entry: tuple[int, Given]) -> list[Made]:
        n, given = entry
        try:
            return [make(given, (name, n))]
        except InvalidInput as error:
            bad.append(error)
            return []

    entries = takewhile(lambda _: len(bad) < MOST_NAMED, enumerate(batch))
    found = await in_pieces(made, entries)
    if bad:
        raise InvalidInput(str(bad[0]), bad[0].loc, others=bad[1:])
    return [one for some in found for one in some]
