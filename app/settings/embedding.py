"""The embedding's settings."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from app.settings.group import group, http_url, visible


class EmbeddingSettings(BaseSettings):
    """How text becomes vectors."""

    model_config = group("MEMORY_EMBEDDING_")

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
        return url and http_url(url)

    @field_validator("api_key")
    @classmethod
    def _header(cls, key: SecretStr | None) -> SecretStr | None:
        return visible(key)
