"""Logs are events with fields: one line each, on standard error."""

import logging
import sys
from typing import Any

import structlog
from structlog.typing import Processor, WrappedLogger

from app.settings import Settings


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: it logs as the process has configured structlog.

    A program that only imports drivers may have configured nothing. structlog would then print to
    the program's standard output; this logger prints to standard error, and leaves structlog as
    it is.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        None,
        wrapper_class=_configured,  # type: ignore[arg-type]  # it is only ever called
        logger_factory_args=(name,),
    )
    return logger


def _configured(logger: WrappedLogger, processors: list[Processor], context: Any) -> Any:
    if not structlog.is_configured():
        logger = structlog.PrintLogger(sys.stderr)
        # structlog's own shows the variables of every frame, and so contents and passwords.
        processors = [
            _console(sys.stderr.isatty())
            if isinstance(each, structlog.dev.ConsoleRenderer)
            else each
            for each in processors
        ]
    build = structlog.get_config()["wrapper_class"]
    return build(logger, processors=processors, context=context)


def _console(colors: bool = True) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )


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
        [_console()]
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
