"""Calls that are repeated while their failure may pass, everywhere with the same backoff."""

from collections.abc import Callable
from typing import Any

import stamina
import structlog
from stamina.instrumentation import (
    RetryDetails,
    RetryHook,
    get_on_retry_hooks,
    set_on_retry_hooks,
)

from app.logs import get_logger

_log = get_logger(__name__)


def attempts(on: Callable[[Exception], bool | float], retries: int, seconds: float) -> Any:
    """Tries with backoff and jitter, `async for` and then `with`: the first and `retries` more.

    `on` tells whether to repeat after an error, or the seconds to wait before. No try starts later
    than `seconds` after the first.
    """
    return stamina.retry_context(
        on=on,
        attempts=retries + 1,
        timeout=seconds,
        wait_initial=0.1,
        wait_max=2.0,
        wait_jitter=0.1,
    )


def _keep_off_standard_output() -> None:
    """Let stamina log a repeat as we log where a program configured nothing.

    structlog would print it to the program's standard output.
    """
    set_on_retry_hooks(
        _logged(hook) if hook.__module__ == "stamina.instrumentation._structlog" else hook
        for hook in get_on_retry_hooks()
    )


def _logged(theirs: RetryHook) -> RetryHook:
    def log_repeat(details: RetryDetails) -> None:
        if structlog.is_configured():
            theirs(details)
        else:
            reason = type(details.caused_by).__name__
            _log.warning("call_repeated", retry=details.retry_num, reason=reason)

    return log_repeat


_keep_off_standard_output()
