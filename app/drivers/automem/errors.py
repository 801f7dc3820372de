"""httpx's errors and AutoMem's statuses as the service's own: two tables, one context manager."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
    PoolExhausted,
)
from app.slots import NoSlotFree

# The first row that fits counts.
TRANSLATIONS: tuple[tuple[type[Exception], type[MemoryServiceError]], ...] = (
    (NoSlotFree, PoolExhausted),
    (httpx.PoolTimeout, PoolExhausted),
    (httpx.ConnectTimeout, DriverUnavailable),
    (httpx.ConnectError, DriverUnavailable),
    (httpx.ProxyError, DriverUnavailable),
    (httpx.TimeoutException, DriverTimeout),
    (TimeoutError, DriverTimeout),
    (httpx.UnsupportedProtocol, ConfigurationError),
    (httpx.LocalProtocolError, DriverError),
    (httpx.TransportError, ConnectionLost),
    (httpx.HTTPError, DriverError),
    (httpx.InvalidURL, ConfigurationError),
    (httpx.CookieConflict, DriverError),
    (httpx.StreamError, DriverError),
    (OSError, DriverUnavailable),
)

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

_SAID: dict[type[MemoryServiceError], str] = {
    DriverUnavailable: "can't be reached",
    ConnectionLost: "was lost",
    DriverTimeout: "does not answer in time",
}
"""What is told with the address; where no answer came, it may be wrong."""

_NEVER_SENT = (
    NoSlotFree,
    httpx.PoolTimeout,
    httpx.ConnectTimeout,
    httpx.ConnectError,
    httpx.ProxyError,
)
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
        yield
    except Answered as error:
        raise _of_status(error.status, setting, url) from error
    except tuple(kind for kind, _ in TRANSLATIONS) as error:
        kind = next(ours for theirs, ours in TRANSLATIONS if isinstance(error, theirs))
        said = _SAID.get(kind)
        told = f"{url}: AutoMem {said} ({type(error).__name__})" if said else type(error).__name__
        raise kind(reason=told) from error


def _of_status(status: int, setting: str, url: str) -> MemoryServiceError:
    kind = STATUSES.get(status, DriverError)
    if kind is ConfigurationError:
        return kind(f"{setting}: AutoMem refuses it (status {status})")
    return kind(reason=f"{url}: AutoMem answered {status}")


def was_sent(error: Exception) -> bool:
    """Whether AutoMem may have got the request."""
    return not isinstance(error.__cause__, _NEVER_SENT)


def may_pass(error: Exception) -> bool:
    """Whether the same call may succeed a moment later."""
    cause = error.__cause__
    if isinstance(cause, Answered):
        return cause.status in _REPEATABLE
    return isinstance(error, (DriverTimeout, DriverUnavailable)) and not isinstance(
        error, PoolExhausted
    )
