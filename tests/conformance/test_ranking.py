"""One formula: every driver that gives candidates ranks them as the reference driver does."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, NewMemory
from app.core.memory.requests import Recency
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import CapabilityMissing
from app.settings import Limits
from tests.remembering import Remembering

SPOKEN = datetime(2026, 5, 8, 12, tzinfo=UTC)

TALK: list[tuple[str, str, str | None]] = [
    ("Ada", "Hello Bob, how was the market?", "2026-03-02"),
    ("Bob", "Crowded as ever, I came back without bread.", "2026-03-02"),
    ("Ada", "Did you bring the zither back from the workshop?", "2026-03-02"),
    ("Bob", "Yes, it is in the car.", "2026-03-02"),
    ("Bob", "The varnish took them three weeks.", "2026-03-09"),
    ("Ada", "Good that somebody still repairs such things.", None),
    ("Bob", "They also had a copper kettle from 1920 in app/window.py style letters.", None),
    ("Ada", "What does a kettle like that cost?", "2026-05-07"),
    ("Bob", "Forty, and it whistles.", "2026-05-07"),
]
JOURNEY: list[tuple[str, str, str | None]] = [
    ("Cleo", "Is the tent dry again?", "2025-07-01"),
    ("Ada", "Yes, it is in the car.", "2025-07-01"),
    ("Cleo", "We leave for the mountains on Friday.", "2025-07-01T22:00:00+02:00"),
    ("Ada", "I will pack the stove tonight.", None),
    ("Cleo", "And the map of the glacier? The kettle too!", None),
    ("Ada", "The map is at my brother's, the kettle is here.", "2025-07-03"),
]
ALONE = [
    "Ada prefers tea from Assam, without milk.",
    "The zither has 32 strings.",
    "Where did the kettle come from?",
    "今天我们在京都玩成语接龙",
    "Ada's brother lives in Zürich.",
    " ".join(["The minutes of the meeting go on and on about the roof and the lamps."] * 60)
    + " In the end Cleo was asked to look after the spare key.",
]
QUERIES = [
    "What did Bob say about the zither?",
    "What did Ada and Bob talk about in March?",
    "What happened yesterday?",
    "Where is the map of the glacier?",
    "kettle",
    "Who has the spare key?",
    "成语接龙",
    "app/window.py",
    "Will it rain?",
    "What does Ada drink?",
    " ".join(["We spoke about the weather and the long way home."] * 40) + " What is in the car?",
]
WAYS: list[dict[str, Any]] = [
    {},
    {"use_vector": False},
    {"conversation_id": "talk"},
    {"conversation_id": "talk", "use_vector": False},
    {"exclude_tags": ["odd"]},
    {"recency": Recency(half_life_days=30, weight=0.2)},
    {"top_k": 3},
]


async def fill(driver: RecordDriver) -> None:
    """Store what was said, some of it with tags."""
    for conversation, turns in (("talk", TALK), ("journey", JOURNEY)):
        await driver.store_many(
            [
                NewMemory(
                    user_id="ada",
                    content=text,
                    conversation_id=conversation,
                    tags=["odd"] if n % 2 else None,
                    metadata={"speaker": speaker, **({"date": date} if date else {})},
                )
                for n, (speaker, text, date) in enumerate(turns)
            ]
        )
    await driver.store_many([NewMemory(user_id="ada", content=text) for text in ALONE])
    await driver.store("bob", "The zither, the kettle and the map are Bob's own.")


@pytest.fixture(scope="session")
def embedder(embedder: Embedder) -> Embedder:
    return Remembering(embedder)


@pytest.fixture
async def yardstick(driver: RecordDriver, embedder: Embedder) -> AsyncIterator[RecordDriver]:
    """The reference driver with the same records, under the same ids."""
    await fill(driver)
    async with InMemoryDriver(embedder, Limits()) as reference:
        await reference.import_records([record async for record in driver.export_records()])
        yield reference


def reasons(memory: Memory) -> dict[str, float | None]:
    return asdict(memory.explanation) if memory.explanation is not None else {}


async def test_order_scores_and_reasons_are_those_of_the_reference_driver(
    driver: RecordDriver, yardstick: RecordDriver, subtests: pytest.Subtests
) -> None:
    if "explain_recall" not in driver.capabilities():
        return
    for way in WAYS:
        for query in QUERIES * 2:  # what a driver remembers of the first time ranks alike
            arguments: dict[str, Any] = {
                "top_k": 100,
                "as_of": SPOKEN,
                "explain": True,
                **way,
                "query": query,
            }
            with subtests.test(query=query[-40:], **way):
                found = await driver.recall("ada", **arguments)
                right = await yardstick.recall("ada", **arguments)
                assert [m.memory_id for m in found] == [m.memory_id for m in right]
                assert [m.score for m in found] == pytest.approx([m.score for m in right], abs=1e-5)
                for one, other in zip(found, right, strict=True):
                    assert reasons(one) == pytest.approx(reasons(other), abs=1e-5)


async def test_by_words_alone_order_and_scores_are_the_same_on_every_driver(
    driver: RecordDriver, yardstick: RecordDriver, subtests: pytest.Subtests
) -> None:
    for way in ({}, {"conversation_id": "talk"}, {"exclude_tags": ["odd"]}, {"top_k": 3}):
        for query in QUERIES:
            arguments: dict[str, Any] = {"top_k": 100, **way, "query": query, "use_vector": False}
            with subtests.test(query=query[-40:], **way):
                found = await driver.recall("ada", **arguments)
                right = await yardstick.recall("ada", **arguments)
                assert [(m.memory_id, m.score) for m in found] == [
                    (m.memory_id, m.score) for m in right
                ]


async def test_recency_prefers_the_newer_of_two_facts(driver: RecordDriver) -> None:
    recency = Recency(half_life_days=30, weight=0.2)
    if "weigh_recency" not in driver.capabilities():
        with pytest.raises(CapabilityMissing):
            await driver.recall("ada", query="kettle", recency=recency)
        return
    old, new = "Ada's phone number is 555 0101.", "The phone number of Ada is now 555 0199 instead."
    for text, days in ((old, 400), (new, 1)):
        memory = Memory(
            memory_id=str(uuid4()),
            user_id="ada",
            content=text,
            created_at=SPOKEN - timedelta(days=days),
        )
        await driver.import_records([memory])
    query = "What is Ada's phone number?"
    without = await driver.recall("ada", query=query, as_of=SPOKEN)
    assert [memory.content for memory in without] == [old, new]
    found = await driver.recall("ada", query=query, as_of=SPOKEN, recency=recency, explain=True)
    assert [memory.content for memory in found] == [new, old]
    given = [why.recency for why in (memory.explanation for memory in found) if why is not None]
    assert given == pytest.approx([0.2 * 0.5 ** (1 / 30), 0.2 * 0.5 ** (400 / 30)], abs=1e-6)
