"""The reranking's settings."""

from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from app.settings.group import group, http_url, visible

_URL_SECONDS = 0.5
_MODEL_SECONDS = 2.0


class RerankSettings(BaseSettings):
    """Who scores the best 30 of a recall again; without a URL and a model, nobody."""

    model_config = group("MEMORY_RERANK_")

    url: str | None = Field(
        None,
        description="a reranking endpoint, with or without /rerank at its end: http://host:8080",
    )
    form: Literal["tei", "jina", "cohere"] = Field(
        "tei",
        description="what the endpoint takes: tei (text-embeddings-inference), jina (also vLLM, "
        "Infinity, llama.cpp), or cohere",
    )
    name: str | None = Field(
        None, min_length=1, description="the endpoint's model, for the forms jina and cohere"
    )
    api_key: SecretStr | None = Field(None, description="what the endpoint takes as a Bearer token")
    model: str | None = Field(
        None,
        min_length=1,
        description="without a URL: a cross-encoder of sentence-transformers for this process to "
        "run, a local path or a name on the hub",
    )
    timeout: float | None = Field(
        None,
        gt=0,
        le=60,
        description="seconds after which a recall is answered as it was ranked; unset: "
        f"{_URL_SECONDS} with a URL, {_MODEL_SECONDS} with a model",
    )

    @field_validator("url")
    @classmethod
    def _endpoint(cls, url: str | None) -> str | None:
        return url and http_url(url)

    @field_validator("name")
    @classmethod
    def _where_the_form_has_one(cls, name: str | None, info: ValidationInfo) -> str | None:
        form = info.data.get("form")
        if name is not None and form == "tei":
            raise ValueError("must be unset with MEMORY_RERANK_FORM=tei, which has one model")
        if name is None and form in ("jina", "cohere"):
            raise ValueError(f"must be set with MEMORY_RERANK_FORM={form}")
        return name

    @field_validator("api_key")
    @classmethod
    def _header(cls, key: SecretStr | None) -> SecretStr | None:
        return visible(key)

    @field_validator("model")
    @classmethod
    def _one_of_both(cls, model: str | None, info: ValidationInfo) -> str | None:
        if model is not None and info.data.get("url") is not None:
            raise ValueError("must be unset with MEMORY_RERANK_URL: one of them reranks")
        return model

    @property
    def seconds(self) -> float:
        """The time limit of one reranking."""
        return self.timeout or (_URL_SECONDS if self.url is not None else _MODEL_SECONDS)
