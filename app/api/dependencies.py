"""What routes ask for: the driver that the lifespan opened."""

from typing import Annotated, TypeAlias

from fastapi import Depends, Path, Request

from app.api.limits import RecordId, UserId
from app.core.memory.base import BaseMemoryDriver
from app.errors import (
    BodyTimeout,
    BodyTooLarge,
    CapabilityMissing,
    ConfigurationError,
    ConnectionLost,
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
    PoolExhausted,
    ShuttingDown,
    Unauthorized,
    UnsupportedMediaType,
)


async def _driver(request: Request) -> BaseMemoryDriver:
    driver: BaseMemoryDriver = request.app.state.driver
    return driver


DriverDep: TypeAlias = Annotated[BaseMemoryDriver, Depends(_driver)]
MemoryIdPath: TypeAlias = Annotated[RecordId, Path(alias="memory_id")]
KnowledgeIdPath: TypeAlias = Annotated[RecordId, Path(alias="knowledge_id")]
UserIdPath: TypeAlias = Annotated[UserId, Path(alias="user_id")]

ALWAYS: tuple[type[MemoryServiceError], ...] = (
    Unauthorized,
    Forbidden,
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

WITH_BODY = (*ALWAYS, BodyTimeout, BodyTooLarge, UnsupportedMediaType)
LOOKED_UP = (*ALWAYS, NotFound)
OPTIONAL = (CapabilityMissing,)
