"""Keeping a record under an id that its caller gives, where nothing is there already.

AutoMem makes its own ids and compares nothing: this looks first, one caller of the process after
the other. Two services that look at the same moment both store; the later version is the record.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import cast

from app.core.memory.once import repeated
from app.core.memory.records import Kept, Memory, Record, key_of, record_id
from app.drivers.automem.mapping import Row
from app.drivers.automem.replacing import Replacer
from app.drivers.automem.versions import latest
from app.drivers.automem.writing import Writer, some_at_once
from app.turns import Turns


class Once:
    """Answers a repeated request with the record that it made."""

    def __init__(
        self,
        writer: Writer,
        replacer: Replacer,
        turns: Turns,
        others: Callable[[str, str], Awaitable[list[Row]]],
        is_alive: Callable[[Record], bool],
    ) -> None:
        """`others` finds another client's memory of an id for a user."""
        self._writer = writer
        self._replacer = replacer
        self._turns = turns
        self._others = others
        self._is_alive = is_alive

    async def keep(self, records: Sequence[Kept]) -> list[Kept]:
        """As `Keep` says of `once`; raises `Conflict`."""
        async with AsyncExitStack() as turns:
            for one in sorted(set(map(record_id, records))):  # in one order: nobody waits in a ring
                await turns.enter_async_context(self._turns.of(one))
            there = await self._replacer.versions(records)
            found = [there[key_of(record)] for record in records]
            found = await some_at_once(self._with_others, zip(records, found, strict=True))
            kept = [self._known(record, n, found[n]) for n, record in enumerate(records)]
            new = [n for n, known in enumerate(kept) if known is None]
            if not new:
                return [one for one in kept if one is not None]
            await self._writer.store([records[n] for n in new], there)
            # Another service may have stored something else since.
            left = await self._replacer.tidy([records[n] for n in new])
        answer = [
            record if known is None else known for known, record in zip(kept, records, strict=True)
        ]
        for n in new:
            rows = [row for row in left if key_of(row.record) == key_of(records[n])]
            last = latest(rows)
            if last is not None and last.record.updated_at != records[n].updated_at:
                answer[n] = self._known(records[n], n, rows) or records[n]
        return answer

    def _known(self, record: Kept, place: int, rows: Sequence[Row]) -> Kept | None:
        """What is there, as the answer to the same request; raises `Conflict` for another one."""
        last = latest(rows)
        if last is None or not self._is_alive(last.record):
            return None
        return repeated(cast(Kept, last.record), record, place)

    async def _with_others(self, pair: tuple[Record, Sequence[Row]]) -> Sequence[Row]:
        record, rows = pair
        if rows or not isinstance(record, Memory):
            return rows
        return await self._others(record.memory_id, record.user_id)
