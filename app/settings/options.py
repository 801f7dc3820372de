"""The options of one named driver, in the place of what its type's group says."""

import difflib

from pydantic import BaseModel, ValidationError

from app.errors import ConfigurationError
from app.settings.group import DriverSettings, first_error, variable_name
from app.settings.named import NamedDriver


def check_options(name: str, driver: NamedDriver, kind: type[BaseModel] | None) -> None:
    """Raise `ConfigurationError` for an option that the driver's type does not have.

    `kind`: its options, None where it has none.
    """
    known = list(kind.model_fields) if kind is not None else []
    for option in driver.options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"; there are {', '.join(known)}" if known else ""
            raise ConfigurationError(
                f"drivers.{name}.{option}: {driver.type} has no such option"
                f"{f'; did you mean {near[0]}?' if near else hint}"
            )


def with_options(name: str, driver: NamedDriver, given: DriverSettings) -> DriverSettings:
    """The settings `given`, with the options of the driver instead.

    Raises `ConfigurationError`, which names the option, or the variable where that is wrong.
    """
    kind = type(given)
    for option, value in driver.options.items():
        try:
            given.check_kind(option, value)
        except ValueError as error:
            raise ConfigurationError(f"drivers.{name}.{option}: {error}") from error
    values = {option: getattr(given, option) for option in kind.model_fields}
    try:
        own = kind(**{**values, **driver.options})
    except ValidationError as error:
        wrong, message = first_error(error)
        called = {each: f"drivers.{name}.{each}" for each in driver.options}
        setting = called.get(wrong) or variable_name(kind, wrong)
        raise ConfigurationError(f"{setting}: {message}") from error
    return own.of_driver(name, driver.options)


def check_alone(name: str, driver: NamedDriver, kind: type[BaseModel]) -> None:
    """Raise `ConfigurationError` for wrong options of a type that has no group of settings."""
    try:
        kind(**driver.options)
    except ValidationError as error:
        wrong, message = first_error(error)
        raise ConfigurationError(f"drivers.{name}.{wrong}: {message}") from error
