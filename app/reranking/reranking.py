"""The reranker within a time limit: where it fails, a recall goes on without it."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any

from app.errors import MemoryServiceError
from app.metrics import RERANKINGS
from app.reachability import Reachability
from app.reranking.base import Reranker

FAILURES = 3
"""So many in a row, and it counts as failing: one slow answer does not."""
PAUSE = 5.0
"""Seconds after which one recall tries a failing reranker again; the others don't wait for it."""


class Reranking:
    """Scores by a reranker, or None where there are none in time."""

    def __init__(self, reranker: Reranker, where: str, seconds: float) -> None:
        """`where` is the setting that leads to the reranker."""
        self._reranker = reranker
        self._seconds = seconds
        self._reachability = Reachability("reranker", where, failures=FAILURES)
        self._reason = ""
        self._next_try = 0.0
        """When a failing reranker is tried again, by the monotonic clock."""

    async def open(self) -> None:
        """Get the reranker ready; raises `ConfigurationError` for a model that can't be loaded."""
        self._reachability.start()
        await self._reranker.open()

    async def close(self) -> None:
        """Release what `open` and `scores` made."""
        await self._reachability.stop()
        await self._reranker.close()

    async def scores(self, query: str, texts: Sequence[str]) -> list[float] | None:
        """As `Reranker.scores`; None without an answer in time, or with one that makes no sense.

        The first failures wait for the time limit. Then nobody waits but the one who tries again.
        """
        started = monotonic()
        if self._reachability.away:
            if started < self._next_try:
                RERANKINGS.labels("skipped").inc()
                return None
            self._next_try = started + PAUSE
        try:
            await self._reranker.open()
            async with asyncio.timeout(self._seconds):
                found = await self._reranker.scores(query, texts)
        except TimeoutError:
            self._failed(f"no answer within {self._seconds:g} s", started)
            return None
        except MemoryServiceError as error:
            self._failed(error.reason, started)
            return None
        self._reachability.answered(started)
        RERANKINGS.labels("reranked").inc()
        return found

    @property
    def trouble(self) -> str | None:
        """Why recalls are not reranked at present; None: they are."""
        return self._reason if self._reachability.away else None

    def facts(self) -> dict[str, Any]:
        """For `/health`."""
        model = {"model": self._reranker.name} if self._reranker.name is not None else {}
        return {"kind": self._reranker.kind, **model, "failing": self.trouble}

    def _failed(self, reason: str, started: float) -> None:
        RERANKINGS.labels("failed").inc()
        self._reason = reason
        self._next_try = monotonic() + PAUSE
        self._reachability.failed(reason, started)
