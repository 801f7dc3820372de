"""What a driver answers by one model, so that it can be told from what it answers by another."""

from collections.abc import Sequence
from typing import TypeAlias

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory, key_of

QUESTIONS = ("text of a copper kettle", "harbour window", "sundial and basil", "text 41")
KNOWN = "user 3"
"""Whose memories stay as they are: what a model answers is known."""

Answer: TypeAlias = dict[str, float]
"""The score of each record that was found."""


def answer_of(found: Sequence[Memory | Knowledge]) -> Answer:
    """All that was found but for the last and what is as good: that is a tie."""
    return without_last({key_of(each)[1]: each.score or 0.0 for each in found})


def without_last(scores: Answer) -> Answer:
    """Those that are better than the last."""
    return {one: score for one, score in scores.items() if score > min(scores.values()) + 1e-4}


def is_same(one: Answer, other: Answer) -> bool:
    """Whether both are one model's: PostgreSQL and numpy add the same numbers up otherwise."""
    return one.keys() == other.keys() and all(abs(one[key] - other[key]) < 1e-4 for key in one)


async def answers(driver: RecordDriver) -> dict[str, tuple[Answer, Answer]]:
    """What the driver finds for each question: of the memories and of the knowledge."""
    return {
        question: (
            answer_of(await driver.recall(KNOWN, query=question, top_k=8)),
            answer_of(await driver.recall_global_knowledge(question, 6, "things")),
        )
        for question in QUESTIONS
    }


def assert_same(
    one: dict[str, tuple[Answer, Answer]], other: dict[str, tuple[Answer, Answer]]
) -> None:
    for question in QUESTIONS:
        for kind in (0, 1):
            assert is_same(one[question][kind], other[question][kind])
