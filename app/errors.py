"""Every error this service raises. Each has a status, a stable code and, as docstring, a message.

MemoryServiceError                    500 internal_error
├── InvalidInput (ValueError)         422 invalid_input
├── Unauthorized                      401 unauthorized
├── Forbidden                         403 forbidden
│   └── OutOfScope
├── NotFound                          404 not_found
├── BodyTimeout                       408 body_timeout
├── Contended                         409 contended
├── Conflict                          409 conflict
├── PreconditionFailed                412 precondition_failed
├── BodyTooLarge                      413 body_too_large
├── UnsupportedMediaType              415 unsupported_media_type
│   ├── UnsupportedEncoding
│   ├── UnsupportedLines
│   └── UnsupportedPatch
├── CapabilityMissing                 501 capability_missing
├── ShuttingDown                      503 shutting_down
├── ConfigurationError (ValueError)   503 misconfigured
│   ├── DriverNotFound
│   └── InUse
└── DriverError                       502 driver_error
    ├── PartlyStored
    ├── DriverTimeout                 504 driver_timeout
    └── DriverUnavailable             503 driver_unavailable
        ├── DatabaseChanged
        ├── ModelChanged
        ├── DeletePending
        ├── NotPermitted
        ├── ConnectionLost            503 connection_lost
        ├── PoolExhausted             503 pool_exhausted
        ├── EmbeddingQueueFull        503 embedding_queue_full
        ├── EmbeddingUnavailable      503 embedding_unavailable
        └── JournalUnavailable        503 journal_unavailable

A message is written for the caller: it never holds a DSN, a key, SQL or a backend's own words. Only
a ConfigurationError's is for the operator, who gets it at start; callers get its docstring.
"""

import inspect
from collections.abc import Sequence
from typing import ClassVar, NoReturn


class MemoryServiceError(Exception):
    """The service failed; the log has the reason under this request id."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    headers: ClassVar[dict[str, str]] = {}
    uncertain: ClassVar[bool] = False
    """Whether a write that failed so may have happened all the same."""

    def __init__(self, message: str | None = None, *, reason: str | None = None) -> None:
        super().__init__(message or self.default_message())
        self.reason = reason or str(self)
        """What the operator should read in the log; it may name hosts, and never a secret."""

    @property
    def detail(self) -> str:
        """What the caller of the API may read."""
        return str(self)

    @classmethod
    def default_message(cls) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(cls) or cls.__name__).splitlines()[0]


class InvalidInput(MemoryServiceError, ValueError):
    """The input is not valid.

    `loc` is the path to the offending value, such as `("memories", 3, "content")`. `others` are the
    errors of other entries of the same batch.
    """

    status = 422
    code = "invalid_input"

    def __init__(
        self,
        message: str | None = None,
        loc: tuple[str | int, ...] = (),
        *,
        others: Sequence["InvalidInput"] = (),
    ) -> None:
        super().__init__(message)
        self.loc = loc
        self.others = tuple(others)


class Unauthorized(MemoryServiceError):
    """A valid API key is required: Authorization: Bearer <key>."""

    status = 401
    code = "unauthorized"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class Forbidden(MemoryServiceError):
    """No API key is configured, so only requests from this machine, to this machine, are served."""

    status = 403
    code = "forbidden"


class OutOfScope(Forbidden):
    """This API key may not do this."""


class NotFound(MemoryServiceError):
    """There is no such record, or it is another user's."""

    status = 404
    code = "not_found"


class BodyTimeout(MemoryServiceError):
    """The request body did not come in time."""

    status = 408
    code = "body_timeout"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}


class Contended(MemoryServiceError):
    """Others keep changing this record at the same time; nothing was changed, try again."""

    status = 409
    code = "contended"


class Conflict(MemoryServiceError):
    """Something else was stored under this id before; nothing was stored.

    `place` is the record's among those that a hook was given; `loc` the path to what asked for it,
    such as `("memories", 3)`.
    """

    status = 409
    code = "conflict"

    def __init__(
        self,
        message: str | None = None,
        *,
        place: int = 0,
        loc: tuple[str | int, ...] = (),
    ) -> None:
        super().__init__(message)
        self.place = place
        self.loc = loc


class PreconditionFailed(MemoryServiceError):
    """The record is not as If-Match has it: somebody changed it since; nothing was changed."""

    status = 412
    code = "precondition_failed"


class BodyTooLarge(MemoryServiceError):
    """The request body is too large."""

    status = 413
    code = "body_too_large"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}


class UnsupportedMediaType(MemoryServiceError):
    """Send the body as JSON, with Content-Type: application/json."""

    status = 415
    code = "unsupported_media_type"


class UnsupportedEncoding(UnsupportedMediaType):
    """Send the body uncompressed, without a Content-Encoding."""

    headers: ClassVar[dict[str, str]] = {"Accept-Encoding": "identity"}


class UnsupportedLines(UnsupportedMediaType):
    """Send the records as JSON lines, with Content-Type: application/x-ndjson."""


class UnsupportedPatch(UnsupportedMediaType):
    """Send the changes as a JSON merge patch, with Content-Type: application/merge-patch+json."""

    headers: ClassVar[dict[str, str]] = {
        "Accept-Patch": "application/merge-patch+json, application/json"
    }


class CapabilityMissing(MemoryServiceError):
    """The configured driver can't do this."""

    status = 501
    code = "capability_missing"


class ShuttingDown(MemoryServiceError):
    """The service is stopping and the request took too long; whether it took effect is unknown."""

    status = 503
    code = "shutting_down"
    uncertain = True
    headers: ClassVar[dict[str, str]] = {"Retry-After": "5"}


class ConfigurationError(MemoryServiceError, ValueError):
    """The service is not configured correctly; the log has the reason."""

    status = 503
    code = "misconfigured"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "30"}

    @property
    def detail(self) -> str:
        return ConfigurationError.default_message()


class DriverNotFound(ConfigurationError):
    """The memory driver was not found."""


class InUse(ConfigurationError):
    """Another process has what only one can have."""


class DriverError(MemoryServiceError):
    """The memory backend refused the request; the log has the reason."""

    status = 502
    code = "driver_error"


class PartlyStored(DriverError):
    """The memory backend took some of the records and may have kept them."""

    uncertain = True


class DriverTimeout(DriverError):
    """The memory backend did not answer in time; a write may or may not have happened."""

    status = 504
    code = "driver_timeout"
    uncertain = True


class DriverUnavailable(DriverError):
    """The memory backend can't be reached; try again."""

    status = 503
    code = "driver_unavailable"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}


class DatabaseChanged(DriverUnavailable):
    """The backend's database is not as it was when it was opened; try again."""


class ModelChanged(DriverUnavailable):
    """The backend's vectors are another model's now; try again."""


class DeletePending(DriverUnavailable):
    """What is to be stored was deleted, and a driver still has to delete it; try again."""


class NotPermitted(DriverUnavailable):
    """The memory backend does not permit this at present, and did nothing; try again."""


class ConnectionLost(DriverUnavailable):
    """The memory backend was lost while it answered; a write may or may not have happened."""

    code = "connection_lost"
    uncertain = True


class PoolExhausted(DriverUnavailable):
    """Every connection to the memory backend is busy; try again."""

    code = "pool_exhausted"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class EmbeddingQueueFull(DriverUnavailable):
    """More texts wait to be embedded than may wait; try again."""

    code = "embedding_queue_full"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class EmbeddingUnavailable(DriverUnavailable):
    """The embedding endpoint can't be reached, or asks to wait; try again."""

    code = "embedding_unavailable"


class JournalUnavailable(DriverUnavailable):
    """The journal of writes can't be reached; a write may or may not have happened."""

    code = "journal_unavailable"
    uncertain = True


def raise_uncertain(error: MemoryServiceError) -> NoReturn:
    """Raise the error of a write that may happen all the same, not one that says it did not."""
    if error.uncertain:
        raise error
    raise ConnectionLost(reason=error.reason) from error
