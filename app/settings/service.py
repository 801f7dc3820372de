"""The whole configuration, and how it is read."""

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
)

from app.errors import ConfigurationError
from app.settings.backends import (
    AutomemSettings,
    DatabaseSettings,
    PineconeSettings,
    RedisSettings,
    WeaviateSettings,
)
from app.settings.embedding import EmbeddingSettings
from app.settings.environment import check_file, check_variables, is_service_link
from app.settings.group import first_error, group, variable_name
from app.settings.hosts import parse_hosts
from app.settings.keys import ApiKey, parse_keys
from app.settings.limits import Limits, LimitSettings, read_limits
from app.settings.named import NamedDriver, read_drivers, tenants_above
from app.settings.options import check_alone, check_options, with_options
from app.settings.recall import RecallSettings
from app.settings.rerank import RerankSettings
from app.settings.types import TYPES
from app.settings.wrappers import (
    CacheSettings,
    FailoverSettings,
    JournalSettings,
    ReplicatedSettings,
)


class Settings(BaseSettings):
    """The whole configuration; build it with `load_settings` for one-line errors."""

    model_config = group("MEMORY_")

    driver: str = Field(
        "automem",
        min_length=1,
        description="built-in or registered name, entry point, or package.module:Class",
    )
    config: Path | None = Field(
        None, description="a TOML file that names drivers, each with its type and settings"
    )
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8_000, ge=0, le=65_535, description="port to listen on; 0: any free one")
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="accepted keys, comma-separated, each plain or as sha256:<64 hex digits>, and "
        "then ;name=, ;tenant= and ;scopes=read+write+admin",
    )
    allow_anonymous: bool = Field(
        False, description="without any key, serve other machines too, not only this one"
    )
    allowed_hosts: str = Field(
        "",
        description="without any key, names by which the service may be called besides localhost, "
        "comma-separated",
    )
    shutdown_timeout: int = Field(
        20, ge=1, le=3_600, description="seconds that running requests get to end"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level to log: debug, info, warning or error"
    )
    log_format: Literal["console", "json"] | None = Field(
        None, description="console or json; unset: console on a terminal"
    )

    limits: Limits = Field(default_factory=read_limits)
    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    recall: RecallSettings = Field(default_factory=RecallSettings)
    rerank: RerankSettings = Field(default_factory=RerankSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    automem: AutomemSettings = Field(default_factory=AutomemSettings)
    pinecone: PineconeSettings = Field(default_factory=PineconeSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    weaviate: WeaviateSettings = Field(default_factory=WeaviateSettings)
    journal: JournalSettings = Field(default_factory=JournalSettings)
    failover: FailoverSettings = Field(default_factory=FailoverSettings)
    replicated: ReplicatedSettings = Field(default_factory=ReplicatedSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    named: Mapping[str, NamedDriver] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("named drivers"),  # no variable: `load_settings` reads them
    )
    """The drivers that the configuration names, by name."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Pass over the MEMORY_PORT that Kubernetes sets for a Service called memory."""
        environment = EnvSettingsSource(settings_cls)
        environment.env_vars = {
            name: value
            for name, value in environment.env_vars.items()
            if not is_service_link(name.upper(), value)
        }
        return init_settings, environment, dotenv_settings

    @field_validator("api_keys")
    @classmethod
    def _keys(cls, keys: SecretStr) -> SecretStr:
        parse_keys(keys.get_secret_value())
        return keys

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, hosts: str) -> str:
        parse_hosts(hosts)
        return hosts

    def of(self, name: str) -> "Settings":
        """The settings of one driver: its own options in the place of its group's.

        The limits have room for what the scoped drivers above it add: those that hold it, and that
        of a key's tenant. Raises `ConfigurationError` for an option that its type does not have.
        """
        limits = self.limits
        above = tenants_above(self.named, name) + any(key.tenant for key in self.accepted_keys)
        for _ in range(above):
            limits = limits.widened()
        changes: dict[str, Any] = {"limits": limits} if above else {}
        driver = self.named.get(name)
        kind = TYPES.get(driver.type) if driver is not None else None
        if driver is not None and kind is not None:
            check_options(name, driver, kind.settings)
            field = _field_of(kind.settings)
            if field is not None:
                changes[field] = with_options(name, driver, getattr(self, field))
            elif kind.settings is not None:
                check_alone(name, driver, kind.settings)
        return self.model_copy(update=changes) if changes else self

    @cached_property
    def accepted_keys(self) -> tuple[ApiKey, ...]:
        """Every accepted key; empty: no key is needed."""
        return parse_keys(self.api_keys.get_secret_value())

    @cached_property
    def host_names(self) -> frozenset[str]:
        """Every name of `allowed_hosts`, in the form of `host_name`."""
        return parse_hosts(self.allowed_hosts)


def load_settings(**instead: Any) -> Settings:
    """Read the environment and the file of `MEMORY_CONFIG`, but for the fields given `instead`.

    Raises `ConfigurationError` that names the first wrong variable.
    """
    try:
        _check_environment()
        settings = Settings(**instead)
    except ValidationError as error:
        groups: dict[str, type[BaseSettings]] = {g.__name__: g for g in all_groups()}
        name, message = first_error(error)
        kind = groups[error.title]
        if name in kind.model_fields:
            name = variable_name(kind, name)
        raise ConfigurationError(f"{name}: {message}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(".env: it is not UTF-8") from error
    selected, named = read_drivers(settings.config)
    changes: dict[str, Any] = {"named": named}
    if selected is not None and "driver" not in settings.model_fields_set:
        changes["driver"] = selected
    return settings.model_copy(update=changes)


_GROUPS: dict[str, type[BaseSettings]] = {
    "limits": LimitSettings,
} | {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseSettings)
}
"""The classes that read variables for fields."""


def _field_of(kind: type[BaseModel] | None) -> str | None:
    """The field that is a group of that class."""
    return next((name for name, group in _GROUPS.items() if group is kind), None)


def all_groups() -> list[type[BaseSettings]]:
    """Every class that reads variables."""
    return [Settings, *_GROUPS.values()]


def variables() -> Iterator[tuple[str, FieldInfo]]:
    """Every environment variable and its field, in the order of the documentation."""
    for kind in all_groups():
        for name, field in kind.model_fields.items():
            if name not in _GROUPS and name != "named":
                yield variable_name(kind, name), field


def _check_environment() -> None:
    """Refuse what was meant as a setting, and is none, in the environment and the `.env` file."""
    known = {name: name for name, _ in variables()}
    for kind in all_groups():
        prefix = kind.model_config.get("env_prefix", "")
        for field in kind.model_fields.keys() - _GROUPS.keys() - {"named"}:
            known.setdefault(f"{prefix}{field}".upper(), variable_name(kind, field))
    file = Settings.model_config.get("env_file")
    if isinstance(file, (str, Path)):
        check_file(Path(file))
    check_variables(known, os.environ, DotEnvSettingsSource(Settings).env_vars)
