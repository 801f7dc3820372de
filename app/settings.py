"""Every environment variable of the service, typed and documented.

A variable's name is its group's prefix and the field's name in capitals, unless the field has an
alias. An empty variable counts as unset. A `.env` file in the working directory is read too.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, SettingsConfigDict

from app.errors import ConfigurationError


def _group(prefix: str) -> SettingsConfigDict:
    return SettingsConfigDict(
        enable_decoding=False,  # a group's own name, such as MEMORY_LIMITS, is not a setting
        env_prefix=prefix,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        validate_default=True,
    )


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    whole = parts.scheme in {"http", "https"} and parts.hostname and port != 0
    if not whole or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must look like http://host:8001, without a user, query or fragment")
    return url.rstrip("/")


def _visible(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not re.fullmatch(r"[\x21-\x7e]+", secret.get_secret_value()):
        raise ValueError("must be visible ASCII characters")
    return secret


class Limits(BaseSettings):
    """The largest values the service accepts; text is counted in Unicode code points."""

    model_config = _group("MEMORY_MAX_")

    content_chars: int = Field(32_768, ge=1, le=131_072, description="characters of a content")
    query_chars: int = Field(8_192, ge=1, le=131_072, description="characters of a query")
    # Two ids of 256 characters are the most that a row of a b-tree has room for, and a content of
    # 131,072 has words for a text search vector.
    user_id_chars: int = Field(256, ge=1, le=256, description="characters of a user id")
    conversation_id_chars: int = Field(
        256, ge=1, le=256, description="characters of a conversation id"
    )
    tags: int = Field(64, ge=0, le=10_000, description="tags of a memory, and excluded tags")
    tag_chars: int = Field(128, ge=1, le=10_000, description="characters of a tag")
    metadata_bytes: int = Field(
        16_384, ge=2, le=16_777_216, description="bytes of a metadata object as compact JSON"
    )
    metadata_depth: int = Field(16, ge=1, le=64, description="nested levels of a metadata object")
    category_chars: int = Field(128, ge=1, le=256, description="characters of a category")
    title_chars: int = Field(512, ge=1, le=10_000, description="characters of a title")
    doc_id_chars: int = Field(256, ge=1, le=10_000, description="characters of a doc_id")
    top_k: int = Field(100, ge=50, le=10_000, description="records of one recall or page")
    batch: int = Field(1_000, ge=1, le=10_000, description="records of one batch")
    body_bytes: int = Field(8_388_608, ge=1_024, description="bytes of a request body")


class EmbeddingSettings(BaseSettings):
    """How text becomes vectors."""

    model_config = _group("MEMORY_EMBEDDING_")

    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        min_length=1,
        description="a sentence-transformers model: a local path or a name on the hub",
    )
    provider: Literal["local", "openai"] = Field(
        "local", description="local: in this process; openai: an endpoint like OpenAI's"
    )
    engine: Literal["auto", "onnxruntime", "openvino", "torch"] = Field(
        "auto",
        description="auto, onnxruntime, openvino or torch; auto: openvino where it is installed "
        "and the processor has bf16, else onnxruntime, or torch where the model needs it",
    )
    device: str = Field("cpu", min_length=1, description="cpu, or a device of torch: cuda, mps")
    threads: int | None = Field(
        None, ge=1, description="CPU threads of a pass; unset: one per processor"
    )
    batch_size: int = Field(
        32, ge=1, le=1_024, description="texts at most that are embedded in one pass"
    )
    queue_size: int = Field(
        10_000, ge=1, le=1_000_000, description="texts that may wait, then 503; queries apart"
    )
    query_cache: int = Field(
        1_024, ge=0, le=1_000_000, description="vectors of queries that are kept; 0: none"
    )
    cache_dir: Path | None = Field(
        None, description="where exported models are kept; unset: the user's cache folder"
    )
    url: str | None = Field(
        None, description="openai: the endpoint up to /v1, such as http://host:8080/v1"
    )
    api_key: SecretStr | None = Field(None, description="openai: sent as a Bearer token")
    dimension: int | None = Field(
        None, ge=1, le=65_536, description="openai: what vectors must have; unset: what they have"
    )
    timeout: float = Field(30.0, gt=0, le=600, description="openai: seconds to wait for one answer")
    retries: int = Field(2, ge=0, le=10, description="openai: times that a failed call is repeated")

    @field_validator("device")
    @classmethod
    def _only_torch_has_devices(cls, device: str, info: ValidationInfo) -> str:
        engine = info.data.get("engine")
        if device != "cpu" and engine in ("onnxruntime", "openvino"):
            raise ValueError(f"must be cpu with MEMORY_EMBEDDING_ENGINE={engine}")
        return device

    @field_validator("url")
    @classmethod
    def _endpoint(cls, url: str | None, info: ValidationInfo) -> str | None:
        if (url is not None) != (info.data.get("provider") == "openai"):
            raise ValueError("goes with MEMORY_EMBEDDING_PROVIDER=openai, and that with it")
        return url and _http_url(url)

    @field_validator("api_key")
    @classmethod
    def _header(cls, key: SecretStr | None) -> SecretStr | None:
        return _visible(key)


class RecallSettings(BaseSettings):
    """How the pgvector driver ranks memories for a query."""

    model_config = _group("MEMORY_RECALL_")

    ranking: str = Field(
        "fused",
        description="fused (all of it), vector (the cosine alone), or some of "
        "lexical,window,date,speaker,form",
    )
    language: str = Field(
        "english",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
        description="PostgreSQL text search configuration; one that it does not know: simple",
    )

    context: bool = Field(
        False,
        description="also embed each memory with the two before it in its conversation: finds "
        "more, and storing costs twice",
    )

    @field_validator("ranking")
    @classmethod
    def _known_parts(cls, ranking: str) -> str:
        unknown = [part for part in _parts(ranking) if part not in PARTS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not fused, vector, or some of {', '.join(PARTS)}")
        if "window" in _parts(ranking) and "lexical" not in _parts(ranking):
            raise ValueError("window needs lexical")
        return ranking

    @property
    def parts(self) -> frozenset[str]:
        """The evidence that counts beside the cosine: some of `PARTS`."""
        return frozenset(_parts(self.ranking))


def _parts(ranking: str) -> Sequence[str]:
    if ranking in {"fused", "vector"}:
        return PARTS if ranking == "fused" else ()
    return [part.strip() for part in ranking.split(",")]


PARTS = ("lexical", "window", "date", "speaker", "form")
"""Kinds of evidence that a ranking adds to the cosine; `app/core/memory/ranking` explains them."""


class DatabaseSettings(BaseSettings):
    """PostgreSQL, for the pgvector driver. Durations are in seconds."""

    model_config = _group("DATABASE_")

    url: SecretStr | None = Field(
        None, description="postgresql://user:password@host:5432/database; unset: embedded server"
    )
    pool_min_size: int = Field(1, ge=0, le=1_000, description="connections kept open")
    pool_max_size: int = Field(10, ge=1, le=1_000, description="connections at most")
    pool_timeout: float = Field(
        5.0, gt=0, le=600, description="seconds to wait for a free connection, then 503"
    )
    connect_timeout: float = Field(5.0, gt=0, le=600, description="seconds to wait for a connect")
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
    data_dir: Path = Field(
        Path(".memory-data"),
        validation_alias=AliasChoices("MEMORY_DATA_DIR"),
        description="where the embedded PostgreSQL keeps its data",
    )

    @field_validator("url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        scheme, _, rest = url.get_secret_value().partition("://")
        try:
            netloc = urlsplit(f"//{rest}").netloc
            if "@" in rest and "@" not in netloc:
                raise ValueError
            hosts = netloc.rpartition("@")[2].split(",")
            ports = [urlsplit(f"//{host}").port for host in hosts]
        except ValueError:
            ports = []
        if scheme.partition("+")[0] not in {"postgres", "postgresql"} or not rest or not ports:
            raise ValueError(
                "must look like postgresql://user:password@host:5432/database, with "
                "%-escapes for special characters of the password"
            )
        return SecretStr(f"postgresql://{rest}")

    @field_validator("pool_max_size")
    @classmethod
    def _not_below_minimum(cls, size: int, info: ValidationInfo) -> int:
        if size < info.data.get("pool_min_size", 0):
            raise ValueError("must not be less than DATABASE_POOL_MIN_SIZE")
        return size

    @property
    def migrates(self) -> bool:
        """Whether this process brings the schema to head when it starts."""
        return self.url is None if self.migrate is None else self.migrate

    @property
    def rebuilds_index(self) -> bool:
        """Whether this process rebuilds a stale index by itself."""
        return self.url is None if self.index_rebuild is None else self.index_rebuild


class AutomemSettings(BaseSettings):
    """A running AutoMem, for the automem driver. Durations are in seconds."""

    model_config = _group("AUTOMEM_")

    url: str = Field("http://localhost:8001", description="where AutoMem listens")
    api_token: SecretStr | None = Field(None, description="AutoMem's AUTOMEM_API_TOKEN")
    timeout: float = Field(30.0, gt=0, le=600, description="seconds to wait for one answer")
    connect_timeout: float = Field(5.0, gt=0, le=600, description="seconds to wait for a connect")
    pool_size: int = Field(20, ge=1, le=1_000, description="connections at most")
    pool_timeout: float = Field(
        5.0, gt=0, le=600, description="seconds to wait for a free connection, then 503"
    )
    retries: int = Field(
        2, ge=0, le=10, description="times that a failed call is repeated, where that is safe"
    )
    tag_secret: SecretStr = Field(
        SecretStr(""),
        description="key of the tags that scope memories; another one finds none of the old",
    )
    search_chars: int = Field(
        2_000,
        ge=1,
        le=2_000,
        description="characters of a content that AutoMem embeds and searches; all are kept",
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
        return _http_url(url)

    @field_validator("api_token")
    @classmethod
    def _header(cls, token: SecretStr | None) -> SecretStr | None:
        return _visible(token)

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


class Settings(BaseSettings):
    """The whole configuration; build it with `load_settings` for one-line errors."""

    model_config = _group("MEMORY_")

    driver: str = Field(
        "automem",
        min_length=1,
        description="built-in or registered name, entry point, or package.module:Class",
    )
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8_000, ge=0, le=65_535, description="port to listen on; 0: any free one")
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="accepted keys, comma-separated, each plain or as sha256:<64 hex digits>",
    )
    allow_anonymous: bool = Field(
        False, description="without any key, serve other machines too, not only this one"
    )
    body_timeout: float = Field(
        60.0, gt=0, le=3_600, description="seconds to wait for all of a request's body, then 408"
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

    limits: Limits = Field(default_factory=Limits)
    embedding: EmbeddingSettings = Field(default_factory=EmbeddingSettings)
    recall: RecallSettings = Field(default_factory=RecallSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    automem: AutomemSettings = Field(default_factory=AutomemSettings)

    @field_validator("api_keys")
    @classmethod
    def _keys(cls, keys: SecretStr) -> SecretStr:
        if keys.get_secret_value() and not _split(keys):
            raise ValueError("has no key")
        for key in _split(keys):
            if key[:7].lower() == "sha256:" and not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", key):
                raise ValueError("a hashed key is sha256: and 64 hex digits")
        return keys

    @cached_property
    def api_key_digests(self) -> frozenset[bytes]:
        """The SHA-256 digest of every accepted key, 32 bytes each; empty: no key is needed."""
        return frozenset(
            bytes.fromhex(key.removeprefix("sha256:"))
            if key.startswith("sha256:")
            else hashlib.sha256(key.encode()).digest()
            for key in _split(self.api_keys)
        )


def _split(keys: SecretStr) -> list[str]:
    return [key.strip() for key in keys.get_secret_value().split(",") if key.strip()]


def load_settings(**instead: Any) -> Settings:
    """Read the environment, but for the fields given `instead`.

    Raises `ConfigurationError` that names the first wrong variable.
    """
    try:
        return Settings(**instead)
    except ValidationError as error:
        groups: dict[str, type[BaseSettings]] = {g.__name__: g for g in _all_groups()}
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else error.title
        group = groups[error.title]
        if name in group.model_fields:
            name = variable_name(group, name)
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{name}: {message}") from error


_GROUPS: dict[str, type[BaseSettings]] = {
    "limits": Limits,
    "embedding": EmbeddingSettings,
    "recall": RecallSettings,
    "database": DatabaseSettings,
    "automem": AutomemSettings,
}


def _all_groups() -> list[type[BaseSettings]]:
    return [Settings, *_GROUPS.values()]


def variables() -> Iterator[tuple[str, FieldInfo]]:
    """Every environment variable and its field, in the order of the documentation."""
    for group in _all_groups():
        for name, field in group.model_fields.items():
            if name not in _GROUPS:
                yield variable_name(group, name), field


def variable_name(group: type[BaseSettings], field: str) -> str:
    """The environment variable that sets `field`."""
    alias = group.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return f"{group.model_config.get('env_prefix', '')}{field}".upper()


def unknown_variables() -> dict[str, str | None]:
    """Set `MEMORY_*` variables that mean nothing here, each with the nearest known name."""
    known = [name for name, _ in variables()]
    in_file = DotEnvSettingsSource(Settings).env_vars
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1)), None)
        for name in sorted({name.upper() for name in (*os.environ, *in_file)})
        if name.startswith("MEMORY_") and name not in known
    }
