"""The versions of a record: AutoMem has several while one takes the place of another."""

from collections.abc import Iterable
from datetime import datetime

from app.core.memory.records import Key, key_of
from app.drivers.automem.mapping import SPREAD, Row, when_of


def is_later(row: Row, than: Row) -> bool:
    return row.record.updated_at > than.record.updated_at


class Latest:
    """Takes rows as they are read, and gives the latest version of each record, once."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._waiting: dict[Key, Row] = {}
        self._taken: set[Key] = set()
        self.add(rows)

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            key = key_of(row.record)
            there = self._waiting.get(key)
            if key not in self._taken and (there is None or is_later(row, there)):
                self._waiting[key] = row

    def take(self, after: datetime | None = None) -> list[Row]:
        """Those whose own time is after this; without it, all that are left."""
        taken = [
            (key, row)
            for key, row in self._waiting.items()
            if after is None or when_of(row.record) > after
        ]
        for key, _ in taken:
            del self._waiting[key]
            self._taken.add(key)
        return [row for _, row in taken]


def latest(rows: Iterable[Row]) -> Row | None:
    """The latest version among the rows of one record, or None without rows."""
    return max(rows, key=lambda row: row.record.updated_at, default=None)


def outdated(rows: Iterable[Row]) -> list[Row]:
    """The rows that have a later version beside them; two of the same version both stay."""
    rows = list(rows)
    newest = {key_of(row.record): row for row in Latest(rows).take()}
    return [row for row in rows if is_later(newest[key_of(row.record)], row)]


def displaced(rows: Iterable[Row]) -> list[Row]:
    """Of the latest versions that are in their place, the rows that are in that of an older one."""
    rows = list(rows)
    older = {row.automem_id for row in outdated(rows)}
    newest = [row for row in rows if row.automem_id not in older]
    in_place = {key_of(row.record) for row in newest if _is_in_place(row)}
    return [row for row in newest if key_of(row.record) in in_place and not _is_in_place(row)]


def _is_in_place(row: Row) -> bool:
    when = when_of(row.record)
    return when <= row.at < when + SPREAD
