"""The database: made when it is new, else checked; opened anew where it is another one."""

import asyncio
import json
from secrets import token_hex
from typing import Any

import numpy as np

from app.drivers.redis.index import Index
from app.drivers.redis.layout import Names
from app.drivers.redis.server import Command, Script, Server
from app.embedding import AGREEMENT, SAMPLE, Embedder, Vector
from app.errors import ConfigurationError, DatabaseChanged
from app.ranking.words import VERSION
from app.settings import RedisSettings

_LAYOUT = 1


class Database:
    """One namespace of a Redis, whose records are of one model and have words of one language.

    What it is, is checked when it is opened. Every exchange asks whether it is that one still: a
    server that was emptied, restored or replaced is opened anew.
    """

    def __init__(self, settings: RedisSettings, embedder: Embedder, language: str) -> None:
        self.names = Names(settings.namespace)
        self.server = Server(settings)
        self.index = Index(self.server, self.names, settings)
        self.language = language
        self._settings = settings
        self._embedder = embedder
        self._identity: str | None = None
        self._opening = asyncio.Lock()

    @property
    def identity(self) -> frozenset[str] | None:
        """Which one it is, by whatever way it is reached; None before it was opened."""
        return None if self._identity is None else frozenset({f"redis/{self._identity}"})

    async def open(self) -> str:
        """Make or check what is there; what the database is known by.

        Raises `ConfigurationError`, or `DriverUnavailable` when it may work later.
        """
        async with self._opening:
            if self._identity is None:
                await self._embedder.open()
                sample = (await self._embedder.embed([SAMPLE]))[0]
                identity = await self._checked(sample)
                await self.index.open(self._embedder.dimension)
                self._identity = identity
            return self._identity

    async def close(self) -> None:
        """Disconnect."""
        self._identity = None
        await self.server.close()

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to commands of the database that was opened. Raises `DatabaseChanged`."""
        identity = self._identity or await self.open()
        known, *answers = await self.server.ask(("HGET", self.names.of("meta"), "id"), *commands)
        if known != identity.encode():
            self._changed(identity)
            raise DatabaseChanged(reason="it has another identity")
        return answers

    async def run(self, script: Script, *arguments: str | bytes | int) -> Any:
        """What a script of `scripts.py` answers. Raises `DatabaseChanged`."""
        identity = self._identity or await self.open()
        try:
            named = identity + token_hex(8)
            return await self.server.run(script, self.names.root, named, *arguments)
        except DatabaseChanged:
            self._changed(identity)
            raise

    async def nearest(self, vector: Vector, clauses: str, count: int) -> list[tuple[bytes, float]]:
        """As `Index.nearest`. Raises `DatabaseChanged` where the index is gone."""
        identity = self._identity or await self.open()
        try:
            return await self.index.nearest(vector, clauses, count)
        except DatabaseChanged:
            self._changed(identity)
            raise

    def _changed(self, identity: str) -> None:
        if self._identity == identity:
            self._identity = None

    async def _checked(self, sample: Vector) -> str:
        """The identity of the database, whose records are of our model and have our words."""
        key, ours = self.names.of("meta"), self._embedder
        about = {
            "model": ours.name,
            "dimension": ours.dimension,
            "sample": sample.astype("<f4").tobytes().hex(),
            "layout": _LAYOUT,
            "language": self.language,
            "words": VERSION,
        }
        _, there = await self.server.ask(
            ("HSETNX", key, "about", json.dumps(about)), ("HGET", key, "about")
        )
        known = json.loads(there)
        await self._check_layout(known)
        self._check_model(known, sample)
        await self._check_words(known, about)
        _, identity = await self.server.ask(
            ("HSETNX", key, "id", token_hex(16)), ("HGET", key, "id")
        )
        return str(identity, "ascii")

    async def _check_layout(self, known: dict[str, Any]) -> None:
        if known["layout"] != _LAYOUT:
            raise ConfigurationError(
                f"{self._settings.called('namespace')}: the records there are laid out by another "
                "version of the service: use that, or another namespace"
            )

    def _check_model(self, known: dict[str, Any], sample: Vector) -> None:
        """Refuse a model other than the one that the records were embedded with.

        It is known by its vector of one sentence, whatever it is called.
        """
        ours = self._embedder
        same = known["dimension"] == ours.dimension
        if same:
            theirs = np.frombuffer(bytes.fromhex(known["sample"]), "<f4")
            same = float(theirs @ sample) >= AGREEMENT
        if not same:
            raise ConfigurationError(
                f"MEMORY_EMBEDDING_MODEL: {ours.name!r} ({ours.dimension} dimensions) is not the "
                f"model of this database's vectors ({known['model']}, {known['dimension']} "
                f"dimensions): set it back, or choose another {self._settings.called('namespace')}"
            )

    async def _check_words(self, known: dict[str, Any], about: dict[str, Any]) -> None:
        """Refuse words of another language or version; where there are none, take ours."""
        if (known["language"], known["words"]) == (about["language"], VERSION):
            return
        key = self.names.of("meta")
        [users] = await self.server.ask(("ZCARD", self.names.of("users")))
        if users:
            raise ConfigurationError(
                f"MEMORY_RECALL_LANGUAGE: the words of the stored memories are "
                f"{known['language']}, version {known['words']}, not {self.language}, version "
                f"{VERSION}: set it back, or export the records into another "
                f"{self._settings.called('namespace')}"
            )
        changed = {**known, "language": self.language, "words": VERSION}
        await self.server.ask(("HSET", key, "about", json.dumps(changed)))
