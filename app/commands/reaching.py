"""Which database in PostgreSQL a command means, and how what it does there ends the command.

Only a command that runs imports what PostgreSQL needs: other drivers do without.
"""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer

from app.commands import refuse
from app.core.memory.manager import MemoryDriverManager
from app.errors import MemoryServiceError
from app.settings import TYPES, DatabaseSettings, Settings, below, databases_among

T = TypeVar("T")

Driver = Annotated[
    str | None,
    typer.Option(help="Whose database, by name; needed where several are in use."),
]


def chosen(settings: Settings, driver: str | None) -> DatabaseSettings:
    """The database of the driver of pgvector that is meant; ends the command unless it is one."""
    try:
        MemoryDriverManager(settings).check_names()
        known = databases_among(settings, [*settings.named, *TYPES])
    except MemoryServiceError as error:
        refuse(error.reason)
    if driver is not None:
        if driver not in known:
            refuse(f"--driver: {driver!r} is no driver of pgvector; there are {', '.join(known)}")
        return known[driver]
    used = {settings.driver, *below(settings.named, settings.driver)}
    found = [name for name in known if name in used]
    if len(found) == 1:
        return known[found[0]]
    if found or known.keys() & settings.named.keys():
        refuse(f"--driver: say which driver's database is meant: {', '.join(found or known)}")
    return settings.database


def run(database: DatabaseSettings, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; a failure ends the command with one line."""
    try:
        from asyncpg import UndefinedTableError

        return asyncio.run(work)
    except ModuleNotFoundError as error:
        work.close()
        refuse(f"this needs {error.name}: pip install 'memory-driver-service[pgvector]'")
    except MemoryServiceError as error:
        if isinstance(error.__cause__, UndefinedTableError):
            refuse(f"the schema is not there: run {database.upgrade}")
        refuse(error.reason)
    except OSError as error:
        refuse(f"{database.called('data_dir')}: can't be used ({error.strerror})")
