"""Weaviate's answers as the service's own errors: by status, by code, and by what only text tells.

What Weaviate says may hold a user's text. So no message is passed on: the log has the status alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DatabaseChanged,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
    NotPermitted,
)
from app.transport import transport_errors, was_sent

# What only the text tells apart: the first that is in it; else the status counts.
TEXTS: tuple[tuple[str, type[MemoryServiceError]], ...] = (
    ("read-only", NotPermitted),
    ("readonly", NotPermitted),
    ("not enough memory", NotPermitted),
    ("could not find class", DatabaseChanged),
    ("class not found", DatabaseChanged),
    ("deadline exceeded", DriverTimeout),
    ("context canceled", DriverTimeout),
    # Some of the copies may have what the others do not.
    ("consistency level", ConnectionLost),
    ("no replica", ConnectionLost),
)

# What is not here and not below 400 is a DriverError.
STATUSES: dict[int, type[MemoryServiceError]] = {
    401: ConfigurationError,
    403: ConfigurationError,
    404: ConfigurationError,
    408: DriverTimeout,
    429: DriverUnavailable,
    # A proxy says so also of a request that Weaviate has carried out.
    502: ConnectionLost,
    503: DriverUnavailable,
    504: DriverTimeout,
}

_ADVICE = {
    401: "Weaviate refuses {key}",
    403: "Weaviate does not let {key} do what the service needs",
    404: "{url}: there is no Weaviate 1.38.10 or newer with gRPC-Web on (grpc_web_enabled)",
}


class Answered(Exception):
    """Weaviate answered with what is no success."""

    def __init__(self, status: int, said: str = "") -> None:
        super().__init__(f"Weaviate answered {status}")
        self.status = status
        self.said = said


class ObjectsRefused(Exception):
    """Weaviate did not keep some objects of a batch; it may have kept the others."""


_REFUSING = frozenset({400, 401, 403, 404, 422, 429, 503})
"""Statuses of a request that Weaviate has not begun to carry out."""


def did_nothing(error: MemoryServiceError) -> bool:
    """Whether Weaviate did nothing of the call that failed so."""
    cause = error.__cause__
    if isinstance(cause, Answered):
        return cause.status in _REFUSING
    return isinstance(error, DatabaseChanged) or (cause is not None and not was_sent(error))


def kind_of(said: str, status: int = 500) -> type[MemoryServiceError]:
    """What an error with that text and that status is."""
    lower = said.lower()
    if status in (422, 500):
        for text, ours in TEXTS:
            if text in lower:
                return ours
    return STATUSES.get(status, DriverError)


@contextmanager
def backend_errors(key: str = "WEAVIATE_API_KEY", url: str = "WEAVIATE_URL") -> Iterator[None]:
    """Let no error of httpx or of the socket, and no failed answer, leave as it is.

    `key` and `url`: what the operator sets the key and the address by.
    """
    try:
        with transport_errors("Weaviate", url):
            yield
    except Answered as error:
        kind = kind_of(error.said, error.status)
        if kind is ConfigurationError:
            raise kind(_ADVICE[error.status].format(key=key, url=url)) from error
        raise kind(reason=f"{url}: Weaviate answered {error.status}") from error
