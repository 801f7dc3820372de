"""AutoMem's statuses as the service's own, beside the errors of the transport."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import (
    ConfigurationError,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
    PoolExhausted,
)
from app.transport import transport_errors

# What is not here and not below 400 is a DriverError. AutoMem says 500 while its database is down.
STATUSES: dict[int, type[MemoryServiceError]] = {
    401: ConfigurationError,
    403: ConfigurationError,
    408: DriverTimeout,
    429: DriverUnavailable,
    500: DriverUnavailable,
    502: DriverUnavailable,
    503: DriverUnavailable,
    504: DriverTimeout,
}

_REPEATABLE = frozenset({408, 429, 502, 503, 504})


class Answered(Exception):
    """AutoMem answered with a status that is no success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"AutoMem answered {status}")
        self.status = status


@contextmanager
def backend_errors(setting: str = "AUTOMEM_API_TOKEN", url: str = "AUTOMEM_URL") -> Iterator[None]:
    """Let no httpx error, no failed status and no failure of the socket leave as it is.

    `setting` and `url`: what the operator sets the token and the address by.
    """
    try:
        with transport_errors("AutoMem", url):
            yield
    except Answered as error:
        raise _of_status(error.status, setting, url) from error


def _of_status(status: int, setting: str, url: str) -> MemoryServiceError:
    kind = STATUSES.get(status, DriverError)
    if kind is ConfigurationError:
        return kind(f"{setting}: AutoMem refuses it (status {status})")
    return kind(reason=f"{url}: AutoMem answered {status}")


def may_pass(error: Exception) -> bool:
    """Whether the same call may succeed a moment later."""
    cause = error.__cause__
    if isinstance(cause, Answered):
        return cause.status in _REPEATABLE
    return isinstance(error, (DriverTimeout, DriverUnavailable)) and not isinstance(
        error, PoolExhausted
    )
