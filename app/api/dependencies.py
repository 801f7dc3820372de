"""What routes ask for: the driver that the lifespan opened."""

from typing import Annotated, TypeAlias

from fastapi import Depends, Path, Request

from app.api.limits import DocId, RecordId, UserId
from app.api.tenants import Tenants
from app.core.memory.manager import MemoryDriverManager
from app.core.memory.record_driver import RecordDriver
from app.errors import (
    BodyTimeout,
    BodyTooLarge,
    CapabilityMissing,
    ConfigurationError,
    Conflict,
    ConnectionLost,
    Contended,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    Forbidden,
    InvalidInput,
    JournalUnavailable,
    MemoryServiceError,
    NotFound,
    OutOfScope,
    PoolExhausted,
    PreconditionFailed,
    ShuttingDown,
    Unauthorized,
    UnsupportedEncoding,
    UnsupportedMediaType,
    UnsupportedPatch,
)


async def driver_of(request: Request) -> RecordDriver:
    """The part of the driver that the request's key reaches; only an `ApiRoute` knows the key."""
    tenants: Tenants = request.app.state.tenants
    return tenants.part(request.state.api_key)


async def _whole_driver(request: Request) -> RecordDriver:
    driver: RecordDriver = request.app.state.driver
    return driver


async def _manager(request: Request) -> MemoryDriverManager:
    manager: MemoryDriverManager = request.app.state.manager
    return manager


ManagerDep: TypeAlias = Annotated[MemoryDriverManager, Depends(_manager)]
DriverDep: TypeAlias = Annotated[RecordDriver, Depends(driver_of)]
WholeDriverDep: TypeAlias = Annotated[RecordDriver, Depends(_whole_driver)]
"""The driver with every tenant's records: for health, and for what needs the scope admin."""
MemoryIdPath: TypeAlias = Annotated[RecordId, Path(alias="memory_id")]
KnowledgeIdPath: TypeAlias = Annotated[RecordId, Path(alias="knowledge_id")]
UserIdPath: TypeAlias = Annotated[UserId, Path(alias="user_id")]
DocIdPath: TypeAlias = Annotated[DocId, Path(alias="doc_id")]

ALWAYS: tuple[type[MemoryServiceError], ...] = (
    Unauthorized,
    Forbidden,
    OutOfScope,
    InvalidInput,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    ConnectionLost,
    PoolExhausted,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    JournalUnavailable,
    ConfigurationError,
    ShuttingDown,
    MemoryServiceError,
)
"""The errors that any /v1 route can answer with."""

WITH_BODY = (*ALWAYS, BodyTimeout, BodyTooLarge, UnsupportedMediaType, UnsupportedEncoding)
STORED = (*WITH_BODY, Conflict, Contended, CapabilityMissing)
"""Contended: others store and delete under the id at the same time."""
LOOKED_UP = (*ALWAYS, NotFound)
CHANGED = (
    *LOOKED_UP,
    BodyTimeout,
    Contended,
    PreconditionFailed,
    BodyTooLarge,
    UnsupportedPatch,
    UnsupportedEncoding,
)
OPTIONAL = (CapabilityMissing,)
