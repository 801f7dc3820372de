"""Named drivers: a name, its type, the drivers it holds, and its own options.

They come from the TOML file of `MEMORY_CONFIG`, as `[drivers.<name>]` with `type`, `inner` and
options, and from the environment as `MEMORY_DRIVERS__<NAME>__<OPTION>`, which outranks the file.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigurationError
from app.settings.group import group
from app.settings.types import MOST, TYPES

ENVIRONMENT = "MEMORY_DRIVERS__"


class NamedDriver(BaseModel):
    """One driver that the configuration names."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    type: str
    """A built-in or registered name, an entry point, or package.module:Class."""
    inner: tuple[str, ...] = ()
    """The names of the drivers it holds, in order."""
    options: Mapping[str, Any] = Field(default={}, repr=False)
    """As they were given: not shown, since passwords are among them."""


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(**group("MEMORY_"), env_nested_delimiter="__")

    drivers: dict[str, dict[str, Any]] = {}


def read_drivers(config: Path | None) -> tuple[str | None, dict[str, NamedDriver]]:
    """The `driver` that the file selects, and all named drivers.

    Raises `ConfigurationError`, also where the environment's value is no mapping.
    """
    file = _read(config) if config is not None else {}
    selected = file.pop("driver", None)
    if selected is not None and not isinstance(selected, str):
        raise ConfigurationError("MEMORY_CONFIG: driver must be a name")
    tables = file.pop("drivers", {})
    if file:
        raise ConfigurationError(
            f"MEMORY_CONFIG: {next(iter(file))} is unknown; there are driver and drivers"
        )
    try:
        environment = _Environment().drivers
    except ValueError as error:
        raise ConfigurationError(
            f"{ENVIRONMENT}*: must look like {ENVIRONMENT}<NAME>__<OPTION>=value"
        ) from error
    if not isinstance(tables, dict):
        raise ConfigurationError("MEMORY_CONFIG: drivers must be tables, [drivers.<name>]")
    named = {}
    for name in {**tables, **environment}:
        table = tables.get(name, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"MEMORY_CONFIG: drivers.{name} must be a table")
        named[name] = _named(name, {**table, **environment.get(name, {})})
    return selected, named


def _read(config: Path) -> dict[str, Any]:
    try:
        text = config.expanduser().read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"MEMORY_CONFIG: can't read {config}: {reason}") from error
    except (RuntimeError, ValueError) as error:  # an unknown user, or NUL
        raise ConfigurationError(f"MEMORY_CONFIG: {str(config)!r} is no path of a file") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"MEMORY_CONFIG: {config} is not TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # an endless number, or brackets without end
        raise ConfigurationError(
            f"MEMORY_CONFIG: {config} holds a value that can't be read"
        ) from error


def _named(name: str, table: dict[str, Any]) -> NamedDriver:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", name):
        shown = name if name.isprintable() else repr(name)
        raise ConfigurationError(
            f"drivers.{shown}: a name is a small letter, then small letters, digits, _ and -"
        )
    if "__" in name or name.endswith("_"):
        raise ConfigurationError(
            f"drivers.{name}: a name has no __ and does not end with _: {ENVIRONMENT}* could not "
            "tell it from its options"
        )
    kind = table.pop("type", name)
    inner = table.pop("inner", ())
    if isinstance(inner, str):
        inner = [each.strip() for each in inner.split(",") if each.strip()]
    if not isinstance(kind, str) or not kind:
        raise ConfigurationError(f"drivers.{name}.type: must be the name of a type of driver")
    if not isinstance(inner, Sequence) or not all(isinstance(each, str) for each in inner):
        raise ConfigurationError(f"drivers.{name}.inner: must be names of drivers")
    return NamedDriver(type=kind, inner=tuple(inner), options=table)


def check_drivers(named: Mapping[str, NamedDriver]) -> None:
    """Refuse cycles, and wrapping drivers that hold too few or too many.

    Raises `ConfigurationError`. Whether a name is known at all, only the manager can tell; what a
    driver's options may be, `Settings.of`.
    """
    for name, driver in named.items():
        kind = TYPES.get(driver.type)
        least, most = kind.holds if kind is not None else (0, MOST)
        if len(driver.inner) < least:
            wanted = "a driver" if least == 1 else f"{least} drivers"
            raise ConfigurationError(
                f"drivers.{name}.inner: {driver.type} needs the names of at least {wanted} to hold"
            )
        if len(driver.inner) > most:
            raise ConfigurationError(
                f"drivers.{name}.inner: {driver.type} holds "
                f"{'no other driver' if most == 0 else f'at most {most}'}"
            )
        if len(set(driver.inner)) < len(driver.inner):
            raise ConfigurationError(f"drivers.{name}.inner: a driver is named twice")
        _check_cycle(named, (name,))


def tenants_above(named: Mapping[str, NamedDriver], name: str) -> int:
    """How many drivers above it, one holding the other, write a tenant into records, at most."""
    return max(
        (
            tenants_above(named, above) + (driver.type in TYPES and TYPES[driver.type].tenant)
            for above, driver in named.items()
            if name in driver.inner
        ),
        default=0,
    )


def below(named: Mapping[str, NamedDriver], name: str) -> set[str]:
    """The names of all drivers that the driver holds, and that those hold; there is no cycle."""
    driver = named.get(name)
    inner = driver.inner if driver is not None else ()
    return {*inner}.union(*(below(named, each) for each in inner))


def _check_cycle(named: Mapping[str, NamedDriver], path: tuple[str, ...]) -> None:
    driver = named.get(path[-1])
    for inner in driver.inner if driver is not None else ():
        if inner in path:
            circle = " → ".join((*path[path.index(inner) :], inner))
            raise ConfigurationError(f"drivers.{inner}.inner: {circle} is a cycle")
        _check_cycle(named, (*path, inner))
