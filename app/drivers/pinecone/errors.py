"""Pinecone's answers that are no success as the service's own errors, beside the transport's.

What Pinecone says may hold a user's words, so none of it is passed on: the log has the status, the
code and Pinecone's id of the request.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx

from app.errors import (
    ConfigurationError,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
    PoolExhausted,
)
from app.settings import PineconeSettings
from app.transport import transport_errors

# What is not here and not below 400 is a DriverError.
STATUSES: Final[dict[int, type[MemoryServiceError]]] = {
    401: ConfigurationError,
    408: DriverTimeout,
    412: DriverUnavailable,
    429: DriverUnavailable,
    500: DriverUnavailable,
    502: DriverUnavailable,
    503: DriverUnavailable,
    504: DriverTimeout,
}

# What only the text tells apart, in lower case: the first that is in it.
TEXTS: Final[tuple[tuple[str, str], ...]] = (
    ("document schema", "the index has a document schema; the service needs one for vectors"),
    ("does not match the dimension", "the index is of another dimension"),
    ("namespaces", "the plan's limit of namespaces is reached"),
    ("quota", "a quota of the plan is used up"),
    ("payment", "a quota of the plan is used up"),
    ("metadata size", "a record's metadata is larger than the index takes"),
    ("larger than the maximum", "the request is larger than the index takes"),
    ("message length too large", "the answer is larger than the index gives"),
)
_OF_CONFIGURATION: Final = ("document schema", "does not match the dimension")
_OF_LIMITS: Final = ("namespaces", "quota", "payment")
_REPEATABLE: Final = frozenset({408, 429, 500, 502, 503, 504})
_NOT_FOUND: Final = 5
"""The code in the body of a 404 that is about the namespace, and not about the host."""
_LONGEST_PAUSE: Final = 5.0


class Answered(Exception):
    """Pinecone answered with a status that is no success."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.request_id = response.headers.get("x-pinecone-request-id", "")[:64]
        self.retry_after = _seconds(response.headers.get("retry-after", ""))
        self.code, self.text = _said(response)
        super().__init__(f"Pinecone answered {self.status}")

    @property
    def is_missing(self) -> bool:
        """Whether there is no such namespace."""
        return self.status == 404 and self.code == _NOT_FOUND

    @property
    def told(self) -> tuple[str, str] | None:
        """Which of `TEXTS` it is."""
        return next((pair for pair in TEXTS if pair[0] in self.text), None)


def _said(response: httpx.Response) -> tuple[int | None, str]:
    """The code and the message of an error, which comes as JSON in two shapes, as text or HTML."""
    text = response.text[:2_000]
    try:
        body = json.loads(text)
    except ValueError:
        return None, text.lower()
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if not isinstance(body, dict):
        return None, text.lower()
    code = body.get("code")
    return code if isinstance(code, int) else None, str(body.get("message", "")).lower()


def _seconds(text: str) -> float | None:
    """A Retry-After in seconds; one that is a date counts as none."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


@contextmanager
def backend_errors(settings: PineconeSettings) -> Iterator[None]:
    """Let no error of httpx, no failed status and no failure of the socket leave as it is."""
    try:
        with transport_errors("Pinecone", settings.called("host")):
            yield
    except Answered as error:
        raise of_answer(error, settings) from error


def of_answer(answer: Answered, settings: PineconeSettings) -> MemoryServiceError:
    """What the answer means."""
    about = f"status {answer.status}"
    if answer.request_id:
        about += f", request {answer.request_id}"
    text, said = answer.told or ("", "")
    if text in _OF_CONFIGURATION:
        return ConfigurationError(f"{settings.called('host')}: {said} ({about})")
    if answer.status in (402, 403) and text in _OF_LIMITS:
        return DriverError(reason=f"{said} ({about})")
    if answer.status in (401, 403):
        return ConfigurationError(f"{settings.called('api_key')}: Pinecone refuses it ({about})")
    if answer.status == 404 and not answer.is_missing:
        return ConfigurationError(f"{settings.called('host')}: is no index ({about})")
    kind = STATUSES.get(answer.status, DriverError)
    return kind(reason=f"{settings.called('host')}: Pinecone answered {said} ({about})".strip())


def is_missing(error: Exception) -> bool:
    """Whether Pinecone knows no such namespace, in which then is nothing."""
    return isinstance(error.__cause__, Answered) and error.__cause__.is_missing


def pause(error: Exception) -> bool | float:
    """Whether the same call may succeed a moment later, or after how many seconds."""
    cause = error.__cause__
    if isinstance(cause, Answered):
        if cause.status == 429 and cause.retry_after is not None:
            return cause.retry_after if cause.retry_after <= _LONGEST_PAUSE else False
        return cause.status in _REPEATABLE
    return isinstance(error, (DriverTimeout, DriverUnavailable)) and not isinstance(
        error, PoolExhausted
    )
