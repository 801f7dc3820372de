"""redis-py's errors as the service's own: one table by kind, one by text, one context manager.

What Redis and its client say may hold a command with its arguments, which are a user's texts. So no
message is passed on, and the log has the kind alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions as redis

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
from app.tls import refusal

CHANGED = "MEMORYCHANGED"
"""What our scripts say where the database is not the one that was opened."""

PAUSED = "MEMORYPAUSED"
"""What our scripts say where a write has to wait for a switch to another model's place."""


class Paused(DriverUnavailable):
    """Writes wait for a moment; try again."""


# What only the text tells apart, in whatever case: the first that is in it; else the kind counts.
TEXTS: tuple[tuple[str, type[MemoryServiceError]], ...] = (
    (CHANGED, DatabaseChanged),
    (PAUSED, Paused),
    ("no such index", DatabaseChanged),
    ("unknown index", DatabaseChanged),
    ("Timeout limit was reached", DriverTimeout),
    ("LOADING", DriverUnavailable),
    ("NOREPLICAS", NotPermitted),
    ("MISCONF", NotPermitted),
    ("BUSY ", DriverUnavailable),
    ("unknown command", ConfigurationError),
)

# The first row that fits counts.
TRANSLATIONS: tuple[tuple[type[Exception], type[MemoryServiceError]], ...] = (
    (TimeoutError, DriverTimeout),
    (redis.TimeoutError, DriverTimeout),
    (redis.AuthenticationError, DriverUnavailable),
    (redis.AuthenticationWrongNumberOfArgsError, DriverUnavailable),
    (redis.AuthorizationError, DriverUnavailable),
    (redis.BusyLoadingError, DriverUnavailable),
    (redis.MaxConnectionsError, DriverUnavailable),
    (redis.ExternalAuthProviderError, DriverUnavailable),
    (redis.ConnectionError, ConnectionLost),
    (redis.ReadOnlyError, NotPermitted),
    (redis.NoPermissionError, NotPermitted),
    (redis.OutOfMemoryError, NotPermitted),
    (redis.ExecAbortError, DriverError),
    (redis.NoScriptError, DriverUnavailable),
    (redis.ModuleError, ConfigurationError),
    (redis.ClusterDownError, DriverUnavailable),
    (redis.TryAgainError, DriverUnavailable),
    (redis.AskError, DriverUnavailable),
    (redis.ClusterError, DriverUnavailable),
    (redis.RedisClusterException, DriverUnavailable),
    (redis.InvalidResponse, ConnectionLost),
    (redis.RedisError, DriverError),
    (redis.ChildDeadlockedError, DriverError),
    (redis.IncorrectPolicyType, DriverError),
    (OSError, ConnectionLost),
    (UnicodeError, DriverError),
)


def translate(error: Exception, *, sent: bool = True) -> MemoryServiceError | None:
    """The service's error for `error`, or None when it is not the backend's.

    `sent`: whether Redis may have the commands; if not, what was lost is only unavailable.
    """
    before = error.__cause__ or error.__context__
    if type(error) is redis.ConnectionError and isinstance(before, redis.RedisError):
        error = before  # what Redis said to who connected, or to who wrote to a replica
    if isinstance(error, redis.RedisError):
        said = str(error).lower()
        for text, ours in TEXTS:
            if text.lower() in said:
                return _told(ours, error)
    for kind, ours in TRANSLATIONS:
        if isinstance(error, kind):
            lost = ours is ConnectionLost or (ours is DriverTimeout and not sent)
            return _told(DriverUnavailable if lost and not sent else ours, error)
    return None


def _told(ours: type[MemoryServiceError], error: Exception) -> MemoryServiceError:
    if ours is ConfigurationError:
        return ConfigurationError(f"Redis refuses this service ({describe(error)})")
    return ours(reason=describe(error))


@contextmanager
def backend_errors(*, sent: bool = True) -> Iterator[None]:
    """Let no error of redis-py or of the socket leave as it is; ours pass."""
    try:
        yield
    except MemoryServiceError:
        raise
    except tuple(kind for kind, _ in TRANSLATIONS) as error:
        raise (translate(error, sent=sent) or DriverError()) from error


def describe(error: BaseException) -> str:
    """What the log may say of `error`: its kind, what TLS said, and where else the keys are."""
    said = [type(error).__name__, refusal(error)]
    if isinstance(error, redis.AskError):
        host, port = error.node_addr
        said.append(f"the keys are on the shard at {host}:{port}")
    return ": ".join(filter(None, said))
