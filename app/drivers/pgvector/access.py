"""Reaching the database from a command, whether or not a service runs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.drivers.pgvector.embedded import accounts
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.errors import ConfigurationError
from app.private import is_private
from app.settings import CLUSTER, DatabaseSettings, real


@asynccontextmanager
async def reached(settings: DatabaseSettings, role: str = accounts.SERVICE) -> AsyncIterator[str]:
    """The DSN of the database's URL or, for the `role`, of the embedded server.

    The server of a running service is used as it is; else one is started, and stopped afterwards.
    Raises `ConfigurationError` when there is no embedded database yet.
    """
    if settings.url is not None:
        yield settings.url.get_secret_value()
        return
    cluster = real(settings.data_dir) / CLUSTER
    try:
        is_there = (cluster / "PG_VERSION").exists()
    except OSError as error:
        raise ConfigurationError(
            f"{settings.called('data_dir')}: {cluster} can't be used ({error.strerror})"
        ) from error
    if not is_there:
        raise ConfigurationError(
            f"{settings.called('url')} is not set, and {settings.called('data_dir')}: "
            f"{cluster.parent} has no database"
        )
    server = EmbeddedPostgres(settings.data_dir, settings.called("data_dir"))
    try:
        await server.open()
    except ConfigurationError:
        dsn = _running(cluster, role)
        if dsn is None:
            raise
        yield dsn
        return
    try:
        yield server.dsn_of(role)
    finally:
        await server.close()


def _running(cluster: Path, role: str) -> str | None:
    """The DSN of the server that runs on `cluster`, as PostgreSQL's own note about it says."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        owner = cluster.stat().st_uid
    except OSError:
        return None
    if len(lines) < 8 or lines[7].strip() != "ready" or not is_private(Path(lines[4]), owner):
        return None
    return accounts.url(role, accounts.DATABASE, lines[4], lines[3])
