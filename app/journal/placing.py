"""Refuses a journal that lives where the drivers do whose outage it has to survive."""

import asyncio
import importlib
import os
import socket
from collections.abc import Mapping

from app import cluster
from app.errors import ConfigurationError
from app.journal.opening import connect
from app.machine import is_loopback, is_own
from app.settings import JournalSettings, servers


async def refuse_same_server(
    settings: JournalSettings, needed: frozenset[tuple[str, int]], wrapper: str
) -> None:
    """Raise `ConfigurationError` when the journal's address is one of the drivers' `servers`."""
    ours = servers(settings.url)
    if not ours:
        return
    names = {address: await _resolved(*address) for address in (*ours, *needed)}
    for journal in ours:
        for driver in needed:
            shared = names[journal] & names[driver]
            if _is_socket(journal) and _is_socket(driver):  # two folders are two servers
                shared = frozenset(filter(_is_socket, shared))
            if shared:
                host, port = driver
                raise _refusal(f"{host}:{port} is also the server of a driver", wrapper)


async def refuse_same_cluster(
    settings: JournalSettings, identities: Mapping[str, frozenset[str] | None], wrapper: str
) -> None:
    """Raise `ConfigurationError` when the journal is in the PostgreSQL of a driver.

    `identities` are the drivers', by name. The servers themselves tell which they are, so the way
    to them does not matter. What is away, or may not be asked, is let pass.
    """
    known = {name: identity for name, identity in identities.items() if identity}
    if settings.url is None or not known:
        return
    journal = await _cluster(settings.url.get_secret_value(), settings.timeout)
    for name, identity in known.items():
        if journal and any(cluster.is_in(each, journal) for each in identity):
            raise _refusal(f"it is in the PostgreSQL of {name}, a driver", wrapper)


def _refusal(found: str, wrapper: str) -> ConfigurationError:
    return ConfigurationError(
        f"MEMORY_JOURNAL_URL: {found} that {wrapper} holds, whose outage the journal has to "
        "survive: use another server, or unset it for a file"
    )


async def _cluster(dsn: str, timeout: float) -> str | None:  # noqa: ASYNC109 - the driver's own
    """None where it is away, or may not be asked."""
    asyncpg = importlib.import_module("asyncpg")
    try:
        connection = await connect(dsn, timeout)
        try:
            return cluster.cluster(await connection.fetchval(cluster.CLUSTER))
        finally:
            connection.terminate()
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None


def _is_socket(address: tuple[str, int]) -> bool:
    return address[0].startswith("/")


async def _resolved(host: str, port: int) -> frozenset[tuple[str, int]]:
    """All that it is called; what is of this machine, also localhost."""
    if host.startswith("/"):  # the folder of a Unix socket
        folder = await asyncio.to_thread(os.path.realpath, host)
        return frozenset({(folder, port), ("localhost", port)})
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        infos = []
    addresses = {str(info[4][0]) for info in infos}
    names = {host.lower(), *addresses}
    if is_loopback(host) or any(map(is_own, addresses)):
        names.add("localhost")
    return frozenset((name, port) for name in names)
