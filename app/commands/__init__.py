"""What commands share: settings that are read or refused, and how they refuse."""

from typing import NoReturn

import typer

from app.errors import ConfigurationError
from app.logs import configure_logging
from app.settings import Settings, load_settings


def read_settings() -> Settings:
    """The configuration, with the logs set up by it; ends the command where it is wrong."""
    try:
        settings = load_settings()
    except ConfigurationError as error:
        refuse(error.reason)
    configure_logging(settings)
    return settings


def refuse(reason: str) -> NoReturn:
    """End the command with one line and exit code 1."""
    typer.echo(f"memory-driver: {reason}", err=True)
    raise typer.Exit(1)
