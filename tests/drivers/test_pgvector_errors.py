"""Every error that asyncpg can raise leaves the driver as one of ours."""

import inspect
import struct

import asyncpg
import pytest
from asyncpg import exceptions

from app.drivers.pgvector.errors import backend_errors, describe, translate
from app.errors import (
    ConfigurationError,
    DatabaseChanged,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    InvalidInput,
    MemoryServiceError,
    NotPermitted,
)

PUBLIC = [
    kind
    for _, kind in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(kind, Exception) and not issubclass(kind, Warning)
]


def test_there_is_something_to_map() -> None:
    assert len(PUBLIC) > 200


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_public_error_is_mapped(kind: type[Exception]) -> None:
    original = kind("select secret from memories")
    with pytest.raises(MemoryServiceError) as raised, backend_errors():
        raise original
    assert raised.value.__cause__ is original
    assert "secret" not in str(raised.value)
    assert "secret" not in describe(raised.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), DriverTimeout),
        (exceptions.QueryCanceledError(""), DriverTimeout),
        (ConnectionRefusedError(), DriverUnavailable),
        (ConnectionResetError(), DriverUnavailable),
        (FileNotFoundError(), DriverUnavailable),
        (exceptions.ConnectionDoesNotExistError(""), DriverUnavailable),
        (exceptions.CannotConnectNowError(""), DriverUnavailable),
        (exceptions.AdminShutdownError(""), DriverUnavailable),
        (exceptions.TooManyConnectionsError(""), DriverUnavailable),
        (exceptions.DiskFullError(""), DriverUnavailable),
        (exceptions.InvalidPasswordError(""), DriverUnavailable),
        (exceptions.DeadlockDetectedError(""), DriverUnavailable),
        (exceptions.ReadOnlySQLTransactionError(""), NotPermitted),
        (exceptions.InsufficientPrivilegeError(""), NotPermitted),
        (asyncpg.InterfaceError("connection is closed"), DriverUnavailable),
        (exceptions.ClientConfigurationError(""), ConfigurationError),
        (exceptions.UndefinedTableError(""), DatabaseChanged),
        (exceptions.InternalServerError(""), DatabaseChanged),
        (exceptions.InvalidCachedStatementError(""), DatabaseChanged),
        (ValueError("unknown type: public.vector"), DatabaseChanged),
        (TypeError(), DatabaseChanged),
        (KeyError("x"), DatabaseChanged),
        (IndexError(), DatabaseChanged),
        (OverflowError(), DatabaseChanged),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), DatabaseChanged),
        (struct.error(), DatabaseChanged),
        (exceptions.DataError(""), DriverError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_means_what_its_kind_says(
    error: Exception, expected: type[MemoryServiceError]
) -> None:
    assert type(translate(error)) is expected


def test_our_own_errors_pass_unchanged() -> None:
    for error in (InvalidInput("x"), ConfigurationError("x")):
        with pytest.raises(type(error)) as raised, backend_errors():
            raise error
        assert raised.value is error
