"""Which answers may be shared: those about the same records, of drivers configured alike."""

import hashlib
import json
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from app import __version__
from app.core.memory.base import BaseMemoryDriver, DriverContext
from app.settings import Settings, databases_among, real


class Identity:
    """All that an answer of a driver depends on, besides the question.

    Whoever has another one finds other answers in the same Redis, or none. It may differ more often
    than the answers do.
    """

    def __init__(self, driver: BaseMemoryDriver, configured: str) -> None:
        """`configured`: how the driver is configured, as `configured` tells it."""
        self._driver = driver
        self._configured = configured
        self._records: frozenset[str] | None = None
        self._digest = ""

    def now(self) -> str | None:
        """A digest; None while the driver does not know where its records are."""
        records = self._driver.identity()
        if records is None:
            return None
        if records != self._records:
            self._records, self._digest = records, _digest([self._configured, sorted(records)])
        return self._digest


def configured(context: DriverContext) -> str:
    """A digest of the version and of the configuration of all that the context's driver holds."""
    return _digest([__version__, context.embedder.name, _describe(context.settings, context.name)])


def _digest(described: list[Any]) -> str:
    text = json.dumps(described, default=_reveal, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _describe(settings: Settings, name: str) -> list[Any]:
    named = settings.named.get(name)
    own = settings.of(name)
    groups: list[BaseSettings] = [
        own.database,
        own.automem,
        own.redis,
        own.recall,
        own.rerank,
        own.embedding,
    ]
    embedded = any(each.url is None for each in databases_among(settings, [name]).values())
    return [
        name,
        named.type if named else name,
        dict(named.options) if named else {},
        [group.model_dump() for group in groups],
        real(own.database.data_dir) if embedded else None,
        [_describe(settings, inner) for inner in (named.inner if named else ())],
    ]


def _reveal(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
