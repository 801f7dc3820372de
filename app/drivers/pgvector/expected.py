"""Whether records are expected in a database where there are none: it may not be the right one."""

import contextlib
import os

from app.drivers.pgvector.checks import Connection, Pooled
from app.drivers.pgvector.sql import memories as sql
from app.logs import get_logger
from app.private import open_private
from app.settings import CLUSTER, DatabaseSettings, real

_log = get_logger(__name__)


class ExpectedRecords:
    """Remembers where records were, for the embedded server in a file beside its cluster.

    It is asked when a database is opened, and by health and now and then until there are records;
    never by requests.
    """

    def __init__(self, settings: DatabaseSettings) -> None:
        self.missing: str | None = None
        """What is wrong, where records are expected and there are none."""
        self.seen = False
        """Whether there were records at the last look."""
        self._settings = settings
        self._file = real(settings.data_dir) / f"{CLUSTER}.records"
        self._where: str | None = None
        """The database and the table in it where records were."""

    async def look(self, connection: "Connection | Pooled", database: frozenset[str]) -> None:
        """See whether there are records in that database."""
        row = await connection.fetchrow(sql.RECORDS)
        assert row is not None  # noqa: S101 - there is one row
        where = " ".join([*sorted(database), row["table"]])
        self.seen = row["some"]
        if self.seen:
            self.missing = None
            self._remember(where)
            return
        before, missing = self._remembered(), None
        if before is not None and before != where:
            missing = "there are no records, and there were some in the database of before"
        elif self._settings.expect_records:
            missing = f"there are no records, and {self._settings.called('expect_records')} is true"
        if missing is not None and missing != self.missing:
            _log.error("records_missing", reason=missing)
        self.missing = missing

    def _remembered(self) -> str | None:
        if self._where is None and self._settings.url is None:
            with contextlib.suppress(OSError, UnicodeError):
                self._where = self._file.read_text() or None
        return self._where

    def _remember(self, where: str) -> None:
        if where == self._remembered():
            return
        self._where = where
        if self._settings.url is None:
            try:
                with open(open_private(self._file, os.O_WRONLY | os.O_TRUNC), "w") as file:
                    file.write(where)
            except OSError as error:
                _log.warning("records_not_remembered", reason=type(error).__name__)
