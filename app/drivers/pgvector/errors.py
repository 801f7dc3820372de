"""asyncpg's errors as the service's own: one table, one context manager."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from asyncpg import exceptions as pg

from app.errors import (
    ConfigurationError,
    DatabaseChanged,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
    ModelChanged,
    NotPermitted,
)

OTHER_GENERATION = "MDG01"
"""The SQLSTATE of a statement with vectors of a generation that the database has not."""

# The first row that fits counts. What asyncpg or PostgreSQL may say tomorrow is a DriverError.
TRANSLATIONS: tuple[tuple[type[Exception], type[MemoryServiceError]], ...] = (
    (TimeoutError, DriverTimeout),
    (pg.QueryCanceledError, DriverTimeout),
    (pg.LockNotAvailableError, DriverTimeout),
    (pg.ClientConfigurationError, ConfigurationError),
    (pg.PostgresConnectionError, DriverUnavailable),
    (pg.InvalidAuthorizationSpecificationError, DriverUnavailable),
    (pg.InvalidCatalogNameError, DriverUnavailable),
    (pg.InsufficientResourcesError, DriverUnavailable),
    (pg.OperatorInterventionError, DriverUnavailable),
    (pg.PostgresSystemError, DriverUnavailable),
    (pg.TransactionRollbackError, DriverUnavailable),
    (pg.ReadOnlySQLTransactionError, NotPermitted),
    (pg.InsufficientPrivilegeError, NotPermitted),
    (pg.InvalidCachedStatementError, DatabaseChanged),
    (pg.OutdatedSchemaCacheError, DatabaseChanged),
    (pg.InternalServerError, DatabaseChanged),  # such as "cache lookup failed for type"
    (pg.UndefinedTableError, DatabaseChanged),
    (pg.UndefinedColumnError, DatabaseChanged),
    (pg.UndefinedObjectError, DatabaseChanged),
    (pg.UndefinedFunctionError, DatabaseChanged),
    (pg.InvalidColumnReferenceError, DatabaseChanged),  # `on conflict` without the key
    (pg.InvalidSchemaNameError, DatabaseChanged),
    (pg.DatatypeMismatchError, DatabaseChanged),
    (pg.PostgresError, DriverError),
    (pg.UnsupportedClientFeatureError, DatabaseChanged),
    (pg.ProtocolError, DatabaseChanged),
    (asyncpg.InterfaceError, DriverUnavailable),
    (asyncpg.InternalClientError, DriverUnavailable),
    (OSError, DriverUnavailable),
    # What a codec raises that reads or writes a type which is another now.
    (ValueError, DatabaseChanged),
    (TypeError, DatabaseChanged),
    (LookupError, DatabaseChanged),
    (ArithmeticError, DatabaseChanged),
    (AttributeError, DatabaseChanged),
    (AssertionError, DatabaseChanged),
    (BufferError, DatabaseChanged),
    (struct.error, DatabaseChanged),
)


def translate(error: Exception) -> MemoryServiceError | None:
    """The service's error for `error`, or None when it is not the backend's."""
    if getattr(error, "sqlstate", None) == OTHER_GENERATION:
        return ModelChanged(reason=describe(error))
    for kind, ours in TRANSLATIONS:
        if isinstance(error, kind):
            return ours(reason=describe(error))
    return None


@contextmanager
def backend_errors() -> Iterator[None]:
    """Let no error of asyncpg, of a codec or of the socket leave as it is; ours pass."""
    try:
        yield
    except MemoryServiceError:
        raise
    except tuple(kind for kind, _ in TRANSLATIONS) as error:
        raise (translate(error) or DriverError()) from error


def describe(error: BaseException) -> str:
    """What the log may say of `error`: its kind and SQLSTATE, never a value or a DSN."""
    cause = error.__cause__ or error
    state = getattr(cause, "sqlstate", None)
    return f"{type(cause).__name__} {state}" if state else type(cause).__name__
