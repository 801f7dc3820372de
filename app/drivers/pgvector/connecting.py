"""One connection to PostgreSQL; what is wrong with it is told by the setting to change."""

import asyncpg
from asyncpg import exceptions as pg

from app.drivers.pgvector.errors import describe
from app.errors import ConfigurationError, DriverUnavailable
from app.settings import DatabaseSettings, place, wrong_option

CONNECT_SECONDS = 5.0
"""How long to wait for PostgreSQL to accept a connection: one that is there does so at once."""


async def connect(
    settings: DatabaseSettings, dsn: str, command_timeout: float | None = None
) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect to where `settings` lead, which `dsn` says.

    Raises `ConfigurationError`, or `DriverUnavailable` when it may work later.
    """
    setting = settings.called("data_dir" if settings.url is None else "url")
    try:
        return await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, command_timeout=command_timeout)
    except pg.ClientConfigurationError as error:
        raise ConfigurationError(f"{setting}: {str(error).splitlines()[0]}") from error
    except (OverflowError, UnicodeError) as error:
        raise ConfigurationError(f"{setting}: the host or port is not valid") from error
    except (OSError, asyncpg.PostgresError) as error:
        wrong = wrong_option(settings.url, error)
        if wrong is not None:
            raise ConfigurationError(f"{setting}: {wrong}") from error
        reason = f"{setting}: PostgreSQL at {place(dsn)} can't be reached ({describe(error)})"
        raise DriverUnavailable(reason=reason) from error
