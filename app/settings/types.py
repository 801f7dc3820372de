"""The types of driver that the service brings, one row each: the manager asks nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from app.settings.backends import (
    AutomemSettings,
    DatabaseSettings,
    PineconeSettings,
    RedisSettings,
    WeaviateSettings,
)
from app.settings.wrappers import (
    CacheSettings,
    FailoverSettings,
    ReplicatedSettings,
    ScopedOptions,
)

MOST: Final = 16
"""How many drivers one may hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverType:
    """All that is known of a type of driver before its class is imported."""

    path: str
    """Where the class is, as package.module:Class."""
    extra: str | None = None
    """The extra that installs what it needs."""
    holds: tuple[int, int] = (0, 0)
    """How many drivers it holds, at least and at most."""
    settings: type[BaseModel] | None = None
    """What a named driver may set. Where it is a group of `Settings`, what is not set is that's."""
    journal: bool = False
    """Whether it keeps a journal."""
    tenant: bool = False
    """Whether it writes a tenant into what it hands down, which then is longer."""

    @property
    def wraps(self) -> bool:
        """Whether it exists only where the configuration names it, and the drivers it holds."""
        return self.holds[0] > 0


TYPES: Final[Mapping[str, DriverType]] = {
    "automem": DriverType(
        path="app.drivers.automem:AutomemDriver",
        extra="automem",
        settings=AutomemSettings,
    ),
    "cached": DriverType(
        path="app.wrappers.cached:CachedDriver",
        extra="cache",
        holds=(1, 1),
        settings=CacheSettings,
    ),
    "failover": DriverType(
        path="app.wrappers.failover:FailoverDriver",
        extra="journal",
        holds=(1, MOST),
        settings=FailoverSettings,
        journal=True,
    ),
    "inmemory": DriverType(path="app.drivers.inmemory:InMemoryDriver"),
    "pgvector": DriverType(
        path="app.drivers.pgvector:PgvectorDriver",
        extra="pgvector",
        settings=DatabaseSettings,
    ),
    "pinecone": DriverType(
        path="app.drivers.pinecone:PineconeDriver",
        extra="pinecone",
        settings=PineconeSettings,
    ),
    "redis": DriverType(
        path="app.drivers.redis:RedisDriver",
        extra="redis",
        settings=RedisSettings,
    ),
    "replicated": DriverType(
        path="app.wrappers.replicated:ReplicatedDriver",
        extra="journal",
        holds=(2, MOST),
        settings=ReplicatedSettings,
        journal=True,
    ),
    "scoped": DriverType(
        path="app.wrappers.scoped:ScopedDriver",
        holds=(1, 1),
        settings=ScopedOptions,
        tenant=True,
    ),
    "weaviate": DriverType(
        path="app.drivers.weaviate:WeaviateDriver",
        extra="weaviate",
        settings=WeaviateSettings,
    ),
}
"""By name. A type that is none of them is somebody else's: what it may hold and set, it says."""
