"""Which answers may be shared: those of drivers that are configured alike."""

import hashlib
import json
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from app import __version__
from app.core.memory.base import DriverContext
from app.settings import Settings


def identity(context: DriverContext) -> str:
    """A digest of all that an answer of the context's driver depends on.

    Whoever has another one finds other answers in the same Redis, or none. It may differ more often
    than the answers do. It is the same for two databases where the settings do not tell them apart:
    two `inmemory`, and two embedded servers with the same relative folder.
    """
    described = [__version__, context.embedder.name, _describe(context.settings, context.name)]
    text = json.dumps(described, default=_reveal, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _describe(settings: Settings, name: str) -> list[Any]:
    named = settings.named.get(name)
    own = settings.of(name)
    groups: list[BaseSettings] = [own.database, own.automem, own.recall, own.embedding]
    return [
        name,
        named.type if named else name,
        dict(named.options) if named else {},
        [group.model_dump() for group in groups],
        [_describe(settings, inner) for inner in (named.inner if named else ())],
    ]


def _reveal(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
