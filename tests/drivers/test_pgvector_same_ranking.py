"""However a user's memories are known, a recall finds the same ten, with the same scores."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.core.memory.records import Memory
from app.drivers.inmemory import InMemoryDriver
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.sql import recall as sql
from app.embedding import Embedder
from app.settings import Limits, RecallSettings
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.resident import WINDOW, Chance, become_resident, statements
from tests.storm import times

WORDS = [
    f"{start}{end}" for start in "bdfgklmnprstvz" for end in ("ota", "emi", "anu", "irel", "o")
]
SPEAKERS = ["Ada", "Bob", "Cleo Marsh", "Zoë"]
DAYS = ["2023-05-09", "2021-07-01", "2024-02-29"]
START = datetime(2024, 3, 1, tzinfo=UTC)
SEEDS = range(times(2, 12))

QUERIES: list[dict[str, Any]] = [
    {"query": "What did Ada say about the bota and the demi?"},
    {"query": "What did Cleo Marsh and Bob do in May 2023?"},
    {"query": f"gota gemi ganu{WINDOW}zirel"},
    {"query": "Did Bob like the kota?"},
    {"query": "zo"},
    {"query": "?"},
    {"query": "When was Zoë in kota?", "use_vector": False},
]
SCOPES: list[dict[str, Any]] = [
    {},
    {"conversation_id": "talk 1"},
    {"conversation_id": "nowhere"},
    {"exclude_tags": ["odd"]},
    {"conversation_id": "talk 2", "exclude_tags": ["odd", "even"]},
]


def memories(seed: int, count: int) -> list[Memory]:
    """Ada's: with and without conversations, speakers, dates and tags; some long, some twice."""
    rng = random.Random(seed)
    made: list[Memory] = []
    for _ in range(count):
        said = " ".join(rng.choices(WORDS, k=rng.randint(2, 9)))
        if made and rng.random() < 0.05:
            said = rng.choice(made).content
        elif rng.random() < 0.1:
            said = WINDOW.join([said, *rng.sample(WORDS, rng.randint(1, 3))])
        speaker = rng.choice(SPEAKERS)
        talk = rng.randint(0, 3)  # in the first only Ada speaks
        if talk == 3 and not said.startswith(tuple(SPEAKERS)):
            said = f"{speaker}: {said}?"
        at = START + timedelta(minutes=rng.randint(0, count))
        metadata: dict[str, Any] = {}
        if rng.random() < 0.7:
            metadata["speaker"] = speaker if talk != 1 else "Ada"
        if rng.random() < 0.2:
            metadata["date"] = rng.choice(DAYS)
        made.append(
            Memory(
                memory_id=str(UUID(int=rng.getrandbits(128))),
                user_id="ada",
                content=said,
                conversation_id=f"talk {talk}" if talk else None,
                tags=[tag for tag in ("odd", "even") if rng.random() < 0.3],
                metadata=metadata,
                created_at=at,
                updated_at=at,
            )
        )
    return made


def same(found: list[Memory], wanted: list[Memory]) -> None:
    """The same memories in the same order; where points differ by rounding, in another."""
    assert [memory.score for memory in found] == [
        pytest.approx(memory.score, abs=1e-5) for memory in wanted
    ]
    for one, other in zip(found, wanted, strict=True):
        if one.memory_id != other.memory_id:
            assert one.content != other.content


async def check(driver: PgvectorDriver, yardstick: InMemoryDriver) -> None:
    for query in QUERIES:
        for scope in SCOPES:
            asked = {**query, **scope, "top_k": 10}
            same(await driver.recall("ada", **asked), await yardstick.recall("ada", **asked))


async def fill(driver: PgvectorDriver | InMemoryDriver, wanted: list[Memory]) -> None:
    for start in range(0, len(wanted), 500):
        await driver.import_records(wanted[start : start + 500])


async def first_statements(driver: PgvectorDriver) -> list[str]:
    async with statements(driver) as seen:
        await driver.recall("ada", query="zo")
    return seen


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [5, 60, 450, 3_000])
async def test_the_same_ten_are_found_whoever_knows_the_memories(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder, count: int, seed: int
) -> None:
    quick = Chance(embedder.dimension)
    yardstick = InMemoryDriver(quick, Limits())
    url = await new_database()

    async def opened(megabytes: int) -> PgvectorDriver:
        recall = RecallSettings(resident_mb=megabytes)
        return await open_driver(url, instead=quick, recall=recall, pool_max_size=1)

    every = memories(seed, count)
    none, whole = await opened(0), await opened(64)
    await fill(none, every[: count // 2])
    await become_resident(whole, "ada")
    # The rest comes as changes: new ones, other texts of some, and some that go.
    later = every[count // 2 :]
    for memory in every[: count // 10]:
        at = memory.updated_at + timedelta(days=1)
        later.append(Memory(**{**_fields(memory), "content": "zo kota", "updated_at": at}))
    gone = {memory.memory_id for memory in every[count // 10 : count // 5]}
    await fill(none, later)
    for memory_id in gone:
        await none.delete(memory_id, "ada")
    kept = {memory.memory_id: memory for memory in [*every, *later]}
    await fill(yardstick, [memory for key, memory in kept.items() if key not in gone])

    await check(none, yardstick)
    assert sql.CHANGED not in await first_statements(none)
    await whole.recall("ada", query="zo")
    await check(whole, yardstick)
    assert await first_statements(whole) == [sql.CHANGED]
    if count >= 450:
        light = await opened(1 + (count > 1_000))
        await become_resident(light, "ada")
        seen = await first_statements(light)
        assert seen[0] == sql.CHANGED
        assert sql.COSINES[False, True] in seen
        await check(light, yardstick)


def _fields(memory: Memory) -> dict[str, Any]:
    return {name: getattr(memory, name) for name in Memory.__dataclass_fields__}


async def test_vectors_in_context_count_the_same_in_memory(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    quick, url = Chance(embedder.dimension), await new_database()
    whole, none = [
        await open_driver(
            url, instead=quick, recall=RecallSettings(resident_mb=megabytes, context=True)
        )
        for megabytes in (64, 0)
    ]
    every = memories(7, 60)
    await fill(none, every[:30])
    await become_resident(whole, "ada")
    for more in ([], every[30:]):
        await fill(none, more)
        for query in QUERIES:
            same(await whole.recall("ada", **query), await none.recall("ada", **query))
