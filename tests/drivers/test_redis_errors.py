"""Every error that redis-py can raise leaves the driver as one of ours, without what was sent."""

import inspect

import pytest
from redis import exceptions
from redis.asyncio import sentinel

from app.drivers.redis.errors import TEXTS, backend_errors, describe, translate
from app.errors import (
    ConfigurationError,
    ConnectionLost,
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
    for module in (exceptions, sentinel)
    for _, kind in inspect.getmembers(module, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == module.__name__
]


def made(kind: type[Exception], said: str) -> Exception:
    """One with that text, but those that say nothing but where a key is."""
    return kind("7 redis.internal:6379" if issubclass(kind, exceptions.AskError) else said)


def test_there_is_something_to_map() -> None:
    assert len(PUBLIC) > 30


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_public_error_is_mapped(kind: type[Exception]) -> None:
    original = made(kind, "secret")
    with pytest.raises(MemoryServiceError) as raised, backend_errors():
        raise original
    assert raised.value.__cause__ is original
    told = f"{raised.value} {raised.value.reason} {describe(original)}"
    assert "secret" not in told


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), DriverTimeout),
        (exceptions.TimeoutError(), DriverTimeout),
        (exceptions.ConnectionError(), ConnectionLost),
        (ConnectionResetError(), ConnectionLost),
        (exceptions.InvalidResponse(), ConnectionLost),
        (exceptions.BusyLoadingError(), DriverUnavailable),
        (exceptions.MasterDownError("7 h:1"), DriverUnavailable),
        (exceptions.MovedError("7 h:1"), DriverUnavailable),
        (exceptions.ReadOnlyError(), NotPermitted),
        (exceptions.OutOfMemoryError(), NotPermitted),
        (exceptions.NoPermissionError(), NotPermitted),
        (exceptions.ResponseError("MISCONF can't save"), NotPermitted),
        (exceptions.AuthenticationError(), DriverUnavailable),
        (exceptions.ResponseError("unknown command 'FT.INFO'"), ConfigurationError),
        (exceptions.ResponseError("no such index"), DatabaseChanged),
        (exceptions.ResponseError("Timeout limit was reached"), DriverTimeout),
        (exceptions.ResponseError("WRONGTYPE"), DriverError),
        (exceptions.DataError(), DriverError),
    ],
    ids=lambda value: f"{type(value).__name__} {value}" if isinstance(value, Exception) else "",
)
def test_an_error_means_what_its_kind_or_its_text_says(
    error: Exception, expected: type[MemoryServiceError]
) -> None:
    assert type(translate(error)) is expected


def test_the_log_says_which_shard_has_the_keys() -> None:
    moved = translate(exceptions.MovedError("7 redis.internal:6380"))
    assert moved is not None
    assert moved.reason == "MovedError: the keys are on the shard at redis.internal:6380"


def test_what_was_never_sent_did_not_happen() -> None:
    for error in (ConnectionRefusedError(), exceptions.ConnectionError(), TimeoutError()):
        found = translate(error, sent=False)
        assert type(found) is DriverUnavailable
        assert not found.uncertain
        after = translate(error)
        assert after is not None
        assert after.uncertain


@pytest.mark.parametrize("text", [text for text, _ in TEXTS])
def test_a_text_counts_in_what_redis_says_alone(text: str) -> None:
    """A socket's error with the same words is none of Redis's."""
    assert type(translate(OSError(text))) is ConnectionLost


def test_our_own_errors_pass_unchanged() -> None:
    for error in (InvalidInput("x"), ConfigurationError("x")):
        with pytest.raises(type(error)) as raised, backend_errors():
            raise error
        assert raised.value is error
