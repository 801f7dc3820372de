"""Refuses folders that two would use: those of embedded servers, and the journal's.

Which server a URL leads to is asked of the server itself, in app/journal/placing.py.
"""

from collections.abc import Iterable

from app.errors import ConfigurationError
from app.settings.backends import CLUSTER, RESTORING, DatabaseSettings
from app.settings.group import real
from app.settings.service import Settings
from app.settings.types import TYPES


def check_places(settings: Settings, selected: Iterable[str]) -> None:
    """Raise `ConfigurationError` for drivers that can't work side by side. Makes nothing on disk.

    `selected`: the names of drivers that are in use without being declared or held.
    """
    used = {*selected}.union(*(driver.inner for driver in settings.named.values()))
    databases = databases_among(settings, [*settings.named, *(used - settings.named.keys())])
    _check_folders(settings, databases)
    if names_with_journal(settings) and settings.journal.url is None:
        _check_journal(settings, databases)


def names_with_journal(settings: Settings) -> set[str]:
    """The named drivers that keep a journal."""
    return {
        name
        for name, driver in settings.named.items()
        if driver.type in TYPES and TYPES[driver.type].journal
    }


def databases_among(settings: Settings, names: Iterable[str]) -> dict[str, DatabaseSettings]:
    """The settings of those of the named drivers that keep records in PostgreSQL, by name."""
    found = {}
    for name in names:
        driver = settings.named.get(name)
        kind = TYPES.get(name if driver is None else driver.type)
        if kind is not None and kind.settings is DatabaseSettings:
            found[name] = settings.of(name).database
    return found


def _check_folders(settings: Settings, databases: dict[str, DatabaseSettings]) -> None:
    """Refuse two embedded servers on one folder."""
    first: dict[object, str] = {}
    for name, database in databases.items():
        if database.url is not None:
            continue
        setting = f"drivers.{name}.data_dir" if name in settings.named else "MEMORY_DATA_DIR"
        other = first.setdefault(real(database.data_dir), setting)
        if other != setting:
            raise ConfigurationError(
                f"{other} and {setting} are the same folder, {real(database.data_dir)}: give each "
                "its own"
            )


def _check_journal(settings: Settings, databases: dict[str, DatabaseSettings]) -> None:
    """Refuse a journal's file where an embedded server wants an empty folder, or its own files."""
    journal = real(settings.journal.path)
    for database in (settings.database, *databases.values()):
        if database.url is not None:
            continue
        for part in (CLUSTER, f"{CLUSTER}.unfinished", RESTORING):
            cluster = real(database.data_dir / part)
            if journal.is_relative_to(cluster):
                raise ConfigurationError(
                    f"MEMORY_JOURNAL_PATH: {journal} is in the embedded PostgreSQL's own folder, "
                    f"{cluster}: choose one outside of it"
                )
