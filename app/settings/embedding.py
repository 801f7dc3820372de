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
    engine: Literal["auto", "onnxruntime", "openvino", "torch"] = Field(
        "auto",
        description="auto, onnxruntime, openvino or torch; auto: openvino where it is installed "
        "and the processor has bf16, else onnxruntime, or torch where the model needs it",
    )
    device: str = Field("cpu", min_length=1, description="cpu, or a device of torch: cuda, mps")
    threads: int | None = Field(
        None, ge=1, description="CPU threads of a pass; unset: one per processor"
    )
    cache_dir: Path | None = Field(
        None, description="where exported models are kept; unset: the user's cache folder"
    )
    url: str | None = Field(
        None,
        description="an endpoint like OpenAI's, up to /v1: http://host:8080/v1; "
        "unset: this process embeds",
    )
    api_key: SecretStr | None = Field(None, description="what the endpoint takes as a Bearer token")
    timeout: float = Field(
        30.0, gt=0, le=600, description="seconds to wait for one answer of the endpoint"
    )

    @field_validator("device")
    @classmethod
    def _only_torch_has_devices(cls, device: str, info: ValidationInfo) -> str:
        engine = info.data.get("engine")
        if device != "cpu" and engine in ("onnxruntime", "openvino"):
            raise ValueError(f"must be cpu with MEMORY_EMBEDDING_ENGINE={engine}")
        return device

    @field_validator("url")
    @classmethod
    def _endpoint(cls, url: str | None) -> str | None:
        return url and http_url(url)

    @field_validator("api_key")
    @classmethod
    def _header(cls, key: SecretStr | None) -> SecretStr | None:
        return visible(key)
