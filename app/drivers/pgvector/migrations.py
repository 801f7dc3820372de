"""The schema's version, and bringing it to head from inside the service.

A database that is at head needs no Alembic: with SQLAlchemy it takes 27 MB and a third of a second.
"""

import asyncio
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config

_HERE = Path(__file__).parent
_INSTALLED = _HERE / "alembic"
_ONE_AT_A_TIME = threading.Lock()  # Alembic's context is the process's
_SCRIPTS = _INSTALLED if _INSTALLED.is_dir() else _HERE.parents[2] / "alembic"


def alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@cache
def revisions() -> tuple[str, ...]:
    """Every schema there was, the oldest first: what the files are called by."""
    return tuple(
        sorted(file.name.partition("_")[0] for file in (_SCRIPTS / "versions").glob("*.py"))
    )


def head() -> str:
    """The revision that this version of the service works with."""
    return revisions()[-1]


def is_older(revision: str | None) -> bool:
    """Whether a database with `revision`, or with no schema, can be brought to head."""
    return revision is None or revision in revisions()[:-1]


class MigrationFailed(Exception):
    """PostgreSQL refused a statement of a migration; nothing of that migration is kept."""

    def __init__(self, sqlstate: str | None, cause: Exception) -> None:
        super().__init__(str(cause))
        self.sqlstate = sqlstate
        self.cause = cause


async def upgrade(dsn: str, dimension: int) -> None:
    """Bring the schema to head; processes that start together wait for one another.

    `dimension` is that of the embedding columns, where they do not exist yet. Raises
    `MigrationFailed`.
    """
    config = alembic_config()
    config.attributes.update(dsn=dsn, dimension=lambda: dimension)
    # `alembic/env.py` runs an event loop, which only a thread without one can do.
    await asyncio.to_thread(_upgrade, config)


def _upgrade(config: "Config") -> None:
    from sqlalchemy.exc import DBAPIError

    from alembic import command

    with _ONE_AT_A_TIME:
        try:
            command.upgrade(config, "head")
        except DBAPIError as error:
            raise MigrationFailed(getattr(error.orig, "sqlstate", None), error) from error
