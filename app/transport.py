"""httpx's errors as the service's own, for every HTTP backend: a table, a context manager."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

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
from app.tls import refusal

# The first row that fits counts.
TRANSLATIONS: Final[tuple[tuple[type[Exception], type[MemoryServiceError]], ...]] = (
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

_SAID: Final[dict[type[MemoryServiceError], str]] = {
    DriverUnavailable: "can't be reached",
    ConnectionLost: "was lost",
    DriverTimeout: "does not answer in time",
}
"""What is told with the address; where no answer came, it may be wrong."""

_NEVER_SENT: Final = (
    NoSlotFree,
    httpx.PoolTimeout,
    httpx.ConnectTimeout,
    httpx.ConnectError,
    httpx.ProxyError,
)


@contextmanager
def transport_errors(backend: str, setting: str) -> Iterator[None]:
    """Let no error of httpx or of the socket leave as it is.

    `backend` is the name that the log has; `setting` what the operator sets the address by.
    """
    try:
        yield
    except tuple(kind for kind, _ in TRANSLATIONS) as error:
        kind = next(ours for theirs, ours in TRANSLATIONS if isinstance(error, theirs))
        said = _SAID.get(kind)
        name = ": ".join(filter(None, (type(error).__name__, refusal(error))))
        raise kind(reason=f"{setting}: {backend} {said} ({name})" if said else name) from error


def was_sent(error: Exception) -> bool:
    """Whether the backend may have got the request that failed with this error of ours."""
    return not isinstance(error.__cause__, _NEVER_SENT)
