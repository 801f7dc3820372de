"""The backends' settings."""

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator

from app.settings.group import (
    DriverSettings,
    folder,
    group,
    http_url,
    index_host,
    postgresql_url,
    visible,
)
from app.settings.redis_url import redis_search_url

CLUSTER = "postgresql"
"""The embedded PostgreSQL's own folder in MEMORY_DATA_DIR."""
RESTORING = f"{CLUSTER}.restoring"
"""The folder beside it in which a restore is made."""


class DatabaseSettings(DriverSettings):
    """PostgreSQL, for the pgvector driver. Durations are in seconds."""

    model_config = group("DATABASE_")

    url: SecretStr | None = Field(
        None, description="postgresql://user:password@host:5432/database; unset: embedded server"
    )
    pool_max_size: int | None = Field(
        None,
        ge=1,
        le=1_000,
        description="connections at most; unset: 10, and with the embedded server no more than "
        "twice the processors and two",
    )
    timeout: float = Field(
        30.0, gt=0, le=3_600, description="seconds to wait for one statement, then 504"
    )
    migrate: bool | None = Field(
        None,
        validation_alias=AliasChoices("MEMORY_MIGRATE"),
        description="bring the schema to head at start; unset: only the embedded server's",
    )
    index: Literal["ivfflat", "hnsw"] = Field(
        "ivfflat", description="kind of the vector index: ivfflat or hnsw"
    )
    index_rebuild: bool | None = Field(
        None, description="rebuild a stale index by itself; unset: only the embedded server's"
    )
    expect_records: bool = Field(
        False, description="tell it as an error where there are no records: not the right database"
    )
    data_dir: Path = Field(
        Path(".memory-data"),
        validation_alias=AliasChoices("MEMORY_DATA_DIR"),
        description="where the embedded PostgreSQL keeps its data",
    )

    @field_validator("url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        return postgresql_url(url)

    @field_validator("data_dir")
    @classmethod
    def _folder(cls, data_dir: Path) -> Path:
        return folder(data_dir)

    @property
    def migrates(self) -> bool:
        """Whether this process brings the schema to head when it starts."""
        return self.url is None if self.migrate is None else self.migrate

    @property
    def upgrade(self) -> str:
        """The command that brings the schema to head, in a sentence; it reads DATABASE_URL."""
        url = self.called("url")
        named = "" if url == "DATABASE_URL" else f" with {url} as DATABASE_URL"
        return f"`alembic upgrade head`{named}"

    @property
    def rebuilds_index(self) -> bool:
        """Whether this process rebuilds a stale index by itself."""
        return self.url is None if self.index_rebuild is None else self.index_rebuild


class AutomemSettings(DriverSettings):
    """A running AutoMem, for the automem driver. Durations are in seconds."""

    model_config = group("AUTOMEM_")

    url: str = Field("http://localhost:8001", description="where AutoMem listens")
    api_token: SecretStr | None = Field(None, description="AutoMem's AUTOMEM_API_TOKEN")
    timeout: float = Field(30.0, gt=0, le=600, description="seconds to wait for one answer")
    pool_size: int = Field(20, ge=1, le=1_000, description="connections at most")
    tag_secret: SecretStr = Field(
        SecretStr(""),
        description="key of the tags that scope memories; another one finds none of the old",
    )
    legacy_tag: str | None = Field(
        None,
        max_length=200,
        description="also read what other clients tagged, such as user:{user_id}",
    )
    legacy_writable: bool = Field(False, description="may such memories of others be deleted")

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        return http_url(url)

    @field_validator("api_token")
    @classmethod
    def _header(cls, token: SecretStr | None) -> SecretStr | None:
        return visible(token)

    @field_validator("legacy_tag")
    @classmethod
    def _template(cls, tag: str | None) -> str | None:
        if tag is not None and (tag.count("{user_id}") != 1 or tag != tag.strip()):
            raise ValueError("must have {user_id} once, such as user:{user_id}")
        return tag

    @field_validator("legacy_writable")
    @classmethod
    def _needs_template(cls, writable: bool, info: ValidationInfo) -> bool:
        if writable and info.data.get("legacy_tag") is None:
            raise ValueError("needs AUTOMEM_LEGACY_TAG")
        return writable


class PineconeSettings(DriverSettings):
    """An index of Pinecone, for the pinecone driver. Durations are in seconds."""

    model_config = group("PINECONE_")

    api_key: SecretStr | None = Field(None, description="a key of the index's project")
    host: str | None = Field(
        None,
        description="the index's own host, such as memory-a1b2c3.svc.aped-4627-b74a.pinecone.io",
    )
    namespace: str = Field(
        "memory",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="what the names of all namespaces begin with; each has records of its own",
    )
    pool_size: int = Field(20, ge=1, le=1_000, description="connections at most")
    timeout: float = Field(
        10.0,
        gt=0,
        le=600,
        description="seconds for one call with its repeats, and the wait for a connection",
    )

    @field_validator("api_key")
    @classmethod
    def _header(cls, key: SecretStr | None) -> SecretStr | None:
        return visible(key)

    @field_validator("host")
    @classmethod
    def _index(cls, host: str | None) -> str | None:
        return index_host(host)


class RedisSettings(DriverSettings):
    """Redis with its query engine, for the redis driver. Durations are in seconds."""

    model_config = group("REDIS_")

    url: SecretStr = Field(
        SecretStr("redis://localhost:6379"),
        description="redis://user:password@host:6379, rediss://, unix:///path, or "
        "redis+sentinel://host:26379,host:26379/name",
    )
    pool_size: int = Field(10, ge=1, le=1_000, description="connections at most")
    timeout: float = Field(
        10.0, gt=0, le=600, description="seconds to wait for a connection, and for one answer"
    )
    namespace: str = Field(
        "memory",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="what the names of all keys begin with; each has records of its own",
    )

    @field_validator("url")
    @classmethod
    def _redis(cls, url: SecretStr) -> SecretStr | None:
        return redis_search_url(url)


class WeaviateSettings(DriverSettings):
    """Weaviate 1.38.10 or newer, for the weaviate driver. Durations are in seconds."""

    model_config = group("WEAVIATE_")

    url: str = Field("http://localhost:8080", description="where Weaviate's REST API listens")
    api_key: SecretStr | None = Field(None, description="what Weaviate takes as a Bearer token")
    timeout: float = Field(
        30.0, gt=0, le=600, description="seconds to wait for a connection, and for one answer"
    )
    pool_size: int = Field(20, ge=1, le=1_000, description="connections at most")
    prefix: str = Field(
        "Mds",
        pattern=r"^[A-Z][A-Za-z0-9]{0,63}$",
        description="what the names of the collections begin with; each has records of its own",
    )
    replicas: int = Field(
        1, ge=1, le=16, description="copies of each record, where the service makes the collections"
    )

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        return http_url(url)

    @field_validator("api_key")
    @classmethod
    def _header(cls, key: SecretStr | None) -> SecretStr | None:
        return visible(key)
