"""Logs are events with fields: one line each, on standard error."""

import logging
import sys

import structlog
from structlog.typing import Processor

from app.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Send the service's and its libraries' logs through one format."""
    console = settings.log_format == "console" or (
        settings.log_format is None and sys.stderr.isatty()
    )
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # A traceback for every attempt to refill a pool, where we tell once that PostgreSQL is away.
    logging.getLogger("asyncpg").setLevel(logging.CRITICAL)
    # A line for every repeated call, likewise.
    logging.getLogger("stamina").setLevel(logging.CRITICAL)
    logging.getLogger("app").setLevel(settings.log_level.upper())
