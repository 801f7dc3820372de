"""The wrapping drivers' settings. Durations are in seconds."""

import re
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from app.settings.group import ESCAPES, DriverSettings, folder, group, postgresql_url
from app.settings.limits import TENANT

_REDIS_OPTIONS = (
    "client_name",
    "db",
    "health_check_interval",
    "password",
    "socket_keepalive",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
    "ssl_password",
    "username",
)
"""What a URL of Redis may have after its `?`. The client takes any argument of its constructors
there, also those that are no text, and those that change what its answers are."""


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
        if url is None:
            return None
        is_cut = False  # by a /, ? or # of the password: its rest, and the host, are behind
        try:
            parts = urlsplit(url.get_secret_value())
            is_cut = "@" in parts.path + parts.query + parts.fragment
            is_unix = parts.scheme == "unix"
            host = parts.scheme in {"redis", "rediss"} and parts.port != 0 and parts.hostname
            whole = bool(parts.path if is_unix else host)
            named = [] if is_unix else [parts.path.strip("/")]
            options = parse_qs(parts.query, strict_parsing=bool(parts.query))
            databases = [*named, *options.get("db", [])]
        except ValueError:
            whole = False
        whole = whole and all(re.fullmatch("[0-9]*", each) for each in databases)
        if is_cut and (not whole or "@" in parts.fragment):
            raise ValueError(ESCAPES)
        if not whole:
            raise ValueError(
                "must look like redis://user:password@host:6379/0, where the last is the number "
                "of a database"
            )
        for option in options:
            if option not in _REDIS_OPTIONS:
                raise ValueError(
                    f"the option {option!r} is not known; there are {', '.join(_REDIS_OPTIONS)}"
                )
        return url


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
