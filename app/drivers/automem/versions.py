"""The versions of a record: AutoMem has several while one takes the place of another."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from app.core.memory.records import Key, key_of
from app.drivers.automem.mapping import Row

SPREAD = timedelta(milliseconds=1)
"""AutoMem's timestamp of a version is less than this after its `created_at`."""


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

    def take(self, down_to: datetime | None = None) -> list[Row]:
        """Those that were created at `down_to` or later; without it, all that are left."""
        taken = [
            (key, row)
            for key, row in self._waiting.items()
            if down_to is None or row.record.created_at >= down_to
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
