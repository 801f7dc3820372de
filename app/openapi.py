"""`python -m app.openapi` writes openapi.json, as the default settings make it."""

import json
from pathlib import Path

from app.core.memory.manager import MemoryDriverManager
from app.main import create_app
from app.settings import DatabaseSettings, EmbeddingSettings, Limits, Settings


def render() -> str:
    """The OpenAPI document of the service, as text."""
    settings = Settings.model_construct(
        driver="inmemory",
        limits=Limits(),
        embedding=EmbeddingSettings.model_construct(),
        database=DatabaseSettings.model_construct(),
    )
    schema = create_app(MemoryDriverManager(settings)).openapi()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path("openapi.json").write_text(render())
