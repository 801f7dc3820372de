"""Refuses two drivers, or a driver and the journal, on one database, by what servers tell."""

from collections.abc import Iterable, Mapping

from app import cluster
from app.core.memory.base import BaseMemoryDriver
from app.errors import ConfigurationError


def refuse_one_database(wrapper: str, leaves: Iterable[BaseMemoryDriver]) -> None:
    """Raise `ConfigurationError` when two drivers are one database, whatever their addresses."""
    seen: dict[str, str] = {}
    for driver in sorted(leaves, key=lambda leaf: leaf.name):
        for identity in driver.identity() or ():
            other = seen.setdefault(identity, driver.name)
            if other != driver.name:
                raise ConfigurationError(
                    f"drivers.{wrapper}.inner: {other} and {driver.name} are one database, which "
                    "can't stand in for itself: give each its own"
                )


def refuse_same_cluster(
    wrapper: str, journal: str | None, identities: Mapping[str, frozenset[str] | None]
) -> None:
    """Raise `ConfigurationError` when the journal is in the PostgreSQL of a driver.

    `journal`: the journal's cluster. `identities`: each driver's, by its name. None, where the
    server is away or may not be asked, is let pass.
    """
    for name, identity in identities.items():
        if journal and any(cluster.is_in(each, journal) for each in identity or ()):
            raise ConfigurationError(
                f"MEMORY_JOURNAL_URL: it is in the PostgreSQL of {name}, a driver that {wrapper} "
                "holds, whose outage the journal has to survive: use another server, or unset it "
                "for a file"
            )
