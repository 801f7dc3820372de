"""The wrapping drivers' settings. Durations are in seconds."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from app.settings.group import DriverSettings, folder, group, postgresql_url
from app.settings.limits import TENANT
from app.settings.redis_url import redis_url


class JournalSettings(BaseSettings):
    """Where writes wait for a driver that could not take them."""

    model_config = group("MEMORY_JOURNAL_")

    url: SecretStr | None = Field(
        None,
        description="postgresql://user:password@host:5432/database, shared by every replica of the "
        "service; unset: files of this process",
    )
    path: Path = Field(
        Path(".memory-data/journal"),
        description="the folder of the files, of one process at a time",
    )
    timeout: float = Field(
        10.0, gt=0, le=600, description="seconds to wait for the journal, then 503"
    )

    @field_validator("path")
    @classmethod
    def _folder(cls, path: Path) -> Path:
        return folder(path)

    @field_validator("url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        return postgresql_url(url)


class FailoverSettings(DriverSettings):
    """failover: the first driver that answers."""

    model_config = group("MEMORY_FAILOVER_")

    writes: Literal["primary", "journal"] = Field(
        "primary",
        description="while the first driver is down; primary: 503; journal: accepted, and "
        "delivered when it is back",
    )
    timeout: float = Field(
        10.0,
        gt=0,
        le=600,
        description="seconds to wait for a driver before the next is asked, for each 25 records "
        "of a batch",
    )


class ReplicatedSettings(DriverSettings):
    """replicated: every write on every driver."""

    model_config = group("MEMORY_REPLICATED_")

    acknowledge: Literal["journal", "primary", "quorum", "all"] = Field(
        "primary",
        description="who must have a write before it is answered: primary, quorum or all; journal: "
        "the primary, or while it is away the journal alone",
    )
    reads: Literal["primary", "replicas"] = Field(
        "primary",
        description="who is read from: primary, or replicas: also those that miss nothing",
    )
    timeout: float = Field(
        10.0,
        gt=0,
        le=600,
        description="seconds to wait for who is read, and for those who must have a write, for "
        "each 25 records of a batch, then 504",
    )


class CacheSettings(DriverSettings):
    """cached: recalls answered again without asking."""

    model_config = group("MEMORY_CACHE_")

    url: SecretStr | None = Field(
        None, description="redis://host:6379/0, shared by every replica; unset: in this process"
    )
    ttl: float = Field(
        300.0, gt=0, le=86_400, description="seconds after which an answer is forgotten"
    )

    @field_validator("url")
    @classmethod
    def _redis(cls, url: SecretStr | None) -> SecretStr | None:
        return redis_url(url)


class ScopedOptions(BaseModel):
    """scoped: one tenant's records, apart from all others. No variable sets it."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, validate_default=True)

    tenant: str = ""

    @field_validator("tenant", mode="before")
    @classmethod
    def _name(cls, tenant: object) -> object:
        if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
            raise ValueError("must be 1 to 32 letters, digits, _ and -")
        return tenant
