"""Recalls of a backend's driver in a reranker's order, where one is configured."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from app.core.memory.base import DriverHealth
from app.core.memory.embedded import text_of
from app.core.memory.records import Memory, Recalled
from app.core.memory.requests import Recall
from app.reranking import Reranking

MOST = 30
"""The best so many are scored again: TEI takes 32 texts in a call."""
CHARS = 8_192
"""Of a text: hardly a model reads on, and TEI takes 2 MB in a call."""


class Reranked:
    """The reranking of one driver; without a reranker it changes nothing and costs nothing."""

    def __init__(self, reranking: Reranking | None) -> None:
        self._reranking = reranking

    async def open(self) -> None:
        """Get the reranker ready; who built it closes it."""
        if self._reranking is not None:
            await self._reranking.open()

    async def recall(
        self, driver: str, wanted: Recall, ask: Callable[[Recall], Awaitable[list[Memory]]]
    ) -> list[Memory]:
        """What the driver of that name finds by `ask`; the best 30 in the reranker's order.

        That is, by its score, which is their `score`; ties stay as they were. The others follow,
        with no `score` above it. Without scores in time the answer is what `ask` gave, `degraded`.
        """
        query = wanted.query
        if self._reranking is None or query is None or not wanted.use_vector:
            return await ask(wanted)
        found = await ask(replace(wanted, top_k=max(wanted.top_k, MOST)))
        best, others = found[:MOST], found[MOST:]
        texts = [text_of(memory)[:CHARS] for memory in best]
        scores = await self._scores(self._reranking, query, texts)
        if scores is None:
            return Recalled.like(found, found[: wanted.top_k], driver=driver, degraded=True)
        order = sorted(range(len(best)), key=lambda n: scores[n], reverse=True)
        reranked = [_with_score(best[n], scores[n]) for n in order]
        least = reranked[-1].score if reranked else None
        memories = (reranked + [_at_most(memory, least) for memory in others])[: wanted.top_k]
        return Recalled.like(found, memories, driver=driver)

    async def _scores(
        self, reranking: Reranking, query: str, texts: Sequence[str]
    ) -> list[float] | None:
        """One score a text: equal texts, which are sent once, have equal ones."""
        different = list(dict.fromkeys(texts))
        if not different:
            return []
        scores = await reranking.scores(query, different)
        if scores is None:
            return None
        score_of = dict(zip(different, scores, strict=True))
        return [score_of[text] for text in texts]

    def health(self, state: DriverHealth) -> DriverHealth:
        """The driver's state with the reranker's: degraded while that fails."""
        if self._reranking is None:
            return state
        state = replace(state, facts={**state.facts, "reranking": self._reranking.facts()})
        trouble = self._reranking.trouble
        if trouble is None or state.status != "ok":
            return state
        return replace(state, status="degraded", detail=f"recalls are not reranked: {trouble}")


def _with_score(memory: Memory, score: float) -> Memory:
    score = round(score, 6)
    why = memory.explanation
    return replace(
        memory, score=score, explanation=None if why is None else replace(why, rerank=score)
    )


def _at_most(memory: Memory, score: float | None) -> Memory:
    if score is None or memory.score is None or memory.score <= score:
        return memory
    return replace(memory, score=score)
