"""Where a cache keeps answers, and how writes make them unreachable.

Records belong to scopes: a user's memories, knowledge, and `ALL`, which is everything. Each scope
has a generation, a value that never comes back, and knows who writes to it at the moment. An answer
is kept with the generations that were read before it was computed, its stamp, and is found only
while they are the current ones. A write marks its scopes and renews their generations before it
starts; when it is over it renews them again and takes its mark away. While there is a mark nothing
is served and nothing is kept. So an answer that could miss a write is never served after it,
wherever the writer stops.
"""

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Self

ALL = "all"
KNOWLEDGE = "knowledge"

UNCERTAIN_SECONDS = 60.0
"""How long a write may still happen after it failed or was given up."""


def user_scope(user_id: str) -> str:
    """The scope of a user's memories."""
    return f"user:{user_id}"


@dataclass(frozen=True, slots=True)
class Found:
    """What there is for a key: a value, or the stamp to keep one with, or neither."""

    stamp: bytes | None
    """None: nothing may be kept at the moment."""
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A value to keep, computed after `find` gave the stamp; for so many `seconds` at most."""

    stamp: bytes
    value: bytes
    seconds: float = inf


@dataclass(frozen=True, slots=True)
class Write:
    """A write to scopes, from before it starts until it is over."""

    token: str
    scopes: tuple[str, ...]

    @classmethod
    def to(cls, scopes: Iterable[str]) -> Self:
        return cls(secrets.token_hex(8), tuple(scopes))


class CacheStore(ABC):
    """Keeps bytes by key until they are too old, or a write makes them unreachable.

    No method fails: a store that can't be reached finds nothing and keeps nothing.
    """

    kind: ClassVar[str]
    shared: ClassVar[bool] = False
    """Whether other processes find what this one keeps."""

    async def find_vector(self, key: str) -> bytes | None:
        """What `keep_vector` kept: it depends on its key alone, and no write changes it."""
        return None

    async def keep_vector(self, key: str, value: bytes) -> None:  # noqa: B027
        """Keep a query's vector."""

    @abstractmethod
    async def find(self, key: str, scope: str) -> Found:
        """The value of `key`, unless something was written to `scope` or to `ALL` since."""

    @abstractmethod
    async def keep(self, key: str, scope: str, answer: Answer) -> None:
        """Keep the answer, unless something was written to `scope` or to `ALL` meanwhile."""

    @abstractmethod
    async def begin(self, write: Write) -> None:
        """Make the scopes' values unreachable, and let nobody keep any until `end`."""

    @abstractmethod
    async def end(self, write: Write, *, certain: bool) -> None:
        """Values may be kept again; unless it is `certain` that the write is over, a while later.

        Drops the scopes' values, which nobody can find any more.
        Must be called for every `begin`, whatever became of that.
        """

    @abstractmethod
    async def check(self) -> str | None:
        """What is wrong with the store, for `/health`; None: nothing."""

    def facts(self) -> dict[str, Any]:
        """Figures for `/health`."""
        return {}

    async def open(self) -> None:  # noqa: B027
        """Get ready; twice is harmless."""

    async def close(self) -> None:  # noqa: B027
        """Release what it holds."""
