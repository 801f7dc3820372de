"""Users, knowledge and texts that are larger than one answer of Pinecone's, or one vector's."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, NewKnowledge, NewMemory
from app.drivers.inmemory import InMemoryDriver
from app.drivers.pinecone import PineconeDriver
from app.embedding import Embedder
from app.errors import CapabilityMissing
from app.settings import Limits
from tests.drivers.conftest import OpenPinecone
from tests.drivers.pinecone_fake import LARGEST_BODY, FakePinecone
from tests.drivers.resident import Chance
from tests.drivers.test_pgvector_same_ranking import QUERIES, SCOPES, memories, same

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = 200_000
"""Bytes of an answer: of some twenty records."""


@pytest.fixture
async def small(open_pinecone: OpenPinecone, embedder: Embedder) -> PineconeDriver:
    """A driver whose answers have room for few records."""
    driver = await open_pinecone(answer_bytes=SMALL, instead=Chance(embedder.dimension))
    assert 15 < driver._index.most < 25
    return driver


def told(count: int, every: timedelta = timedelta(hours=1)) -> list[Memory]:
    """So many memories of ada, in an order that is not that of time."""
    made = [
        Memory(
            memory_id=str(UUID(int=7_919 * n % 10_007 + 1)),
            user_id="ada",
            content=f"kettle {n}" if n % 3 else f"pan {n}",
            conversation_id="kitchen" if n % 2 else None,
            tags=["odd"] if n % 2 else ["even"],
            metadata={"n": n},
            created_at=FIRST + n * every,
        )
        for n in range(count)
    ]
    random.Random(1).shuffle(made)
    return made


def newest_first(memories: list[Memory]) -> list[Memory]:
    return sorted(memories, key=lambda one: (one.occurred_at, one.memory_id), reverse=True)


async def listed(driver: RecordDriver, limit: int, conversation: str | None = None) -> list[Memory]:
    found: list[Memory] = []
    cursor = None
    while True:
        page = await driver.list_memories("ada", conversation, cursor=cursor, limit=limit)
        assert len(page.memories) <= limit
        found += page.memories
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("every", [timedelta(hours=1), timedelta(), timedelta(microseconds=60)])
async def test_pages_have_every_memory_once_newest_first(
    small: PineconeDriver, index: FakePinecone, every: timedelta
) -> None:
    made = told(90, every)
    await small.import_records(made)
    for late in (0.0, 100.0):  # with and without what was written lately
        index.time += late
        for limit in (30, 100):
            assert await listed(small, limit) == newest_first(made)
        of_one = [one for one in made if one.conversation_id == "kitchen"]
        assert await listed(small, 50, "kitchen") == newest_first(of_one)
        assert await small.recall("ada", top_k=60) == newest_first(made)[:60]
    wanted = {"metadata": {"n": {"gte": 70}}}
    found = await small.recall("ada", top_k=100, filter=wanted)
    assert found == [one for one in newest_first(made) if one.metadata["n"] >= 70]


async def test_a_page_of_a_large_user_costs_few_calls(
    small: PineconeDriver, index: FakePinecone
) -> None:
    await small.import_records(told(400))
    index.asked.clear()
    assert len(await small.recall("ada", top_k=5)) == 5
    assert len(index.calls("/query")) <= 6
    assert len(index.asked) == len(index.calls("/query"))


async def test_lexical_recall_finds_every_memory_that_has_a_word(small: PineconeDriver) -> None:
    made = told(130)
    await small.import_records(made)
    found = await small.recall("ada", query="pan", use_vector=False, top_k=100)
    assert {one.memory_id for one in found} == {
        one.memory_id for one in made if "pan" in one.content
    }
    assert [one.memory_id for one in found] == [
        one.memory_id for one in newest_first(made) if "pan" in one.content
    ]
    [one] = await small.recall("ada", query="77", use_vector=False)
    assert one.content == "kettle 77"
    assert await small.recall("ada", query="teapot", use_vector=False) == []


async def test_a_filter_comes_before_the_limit_however_much_it_leaves_out(
    small: PineconeDriver,
) -> None:
    made = told(130)
    await small.import_records(made)
    for wanted in ({"metadata": {"n": {"lt": 30}}}, {"tags": {"any": ["odd"]}}):
        admitted = {
            one.memory_id
            for one in made
            if ("tags" in wanted and one.tags == ["odd"])
            or ("metadata" in wanted and one.metadata["n"] < 30)
        }
        for vector in (True, False):
            found = await small.recall(
                "ada", query="kettle pan", use_vector=vector, top_k=20, filter=wanted
            )
            assert len(found) == 20
            assert {one.memory_id for one in found} <= admitted


async def test_a_memory_that_has_the_query_s_words_is_found_however_far_its_vector_is(
    small: PineconeDriver,
) -> None:
    made = told(300)
    await small.import_records(made)
    hidden = await small.store("ada", "The spare key is under the flowerpot.")
    found = await small.recall("ada", query="flowerpot key", top_k=3)
    assert found[0].memory_id == hidden.memory_id


async def test_too_many_records_for_a_filter_are_refused_and_not_left_out(
    open_pinecone: OpenPinecone, embedder: Embedder
) -> None:
    driver = await open_pinecone(
        answer_bytes=SMALL, most_read=50, instead=Chance(embedder.dimension)
    )
    await driver.import_records(told(130))
    with pytest.raises(CapabilityMissing, match="narrow"):
        await driver.recall("ada", query="kettle", filter={"metadata": {"n": {"lt": 0}}})
    found = await driver.recall(
        "ada",
        query="kettle",
        filter={"metadata": {"n": {"lt": 5}}, "created": {"to": FIRST + timedelta(hours=9)}},
    )
    assert len(found) == 5


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("count", [5, 150])
async def test_the_same_ten_are_found_as_in_memory(
    open_pinecone: OpenPinecone, embedder: Embedder, count: int, seed: int
) -> None:
    quick = Chance(embedder.dimension)
    driver, yardstick = await open_pinecone(instead=quick), InMemoryDriver(quick, Limits())
    every = memories(seed, count)
    await driver.import_records(every)
    await yardstick.import_records(every)
    for query in QUERIES:
        for scope in SCOPES:
            asked = {**query, **scope, "top_k": 10}
            same(await driver.recall("ada", **asked), await yardstick.recall("ada", **asked))


async def test_the_best_knowledge_is_found_by_exact_scores_ties_newest_first(
    small: PineconeDriver,
) -> None:
    new = [NewKnowledge(content=f"kettle {n % 40}", category="c") for n in range(120)]
    stored = await small.store_knowledge_many(new)
    found = await small.recall_global_knowledge("kettle 7", top_k=5)
    equal = [one for one in stored[::-1] if one.content == "kettle 7"]
    assert [one.knowledge_id for one in found[:3]] == [one.knowledge_id for one in equal]
    assert len({one.score for one in found[:3]}) == 1
    narrow = await small.recall_global_knowledge(
        "kettle 7", top_k=5, filter={"created": {"to": stored[60].created_at}}
    )
    assert all(one.created_at < stored[60].created_at for one in narrow)


async def test_more_equal_knowledge_than_an_answer_holds_comes_newest_first(
    small: PineconeDriver,
) -> None:
    stored = await small.store_knowledge_many(
        [NewKnowledge(content="the same", category="c") for _ in range(70)]
    )
    found = await small.recall_global_knowledge("the same", top_k=10)
    assert [one.knowledge_id for one in found] == [one.knowledge_id for one in stored[:-11:-1]]


TEXTS = {
    "escaped": '\x01"\\\u2028\u2029\ud7ff</script>' * 2_340,
    "four bytes": "".join(chr(0x1F300 + n * 7_919 % 700) for n in range(32_768)),
    "any": "".join(chr(0x4E00 + n * 7_919 % 20_000) for n in range(32_768)),
    "many words": " ".join(f"w{n * 7_919:x}" for n in range(3_600)),
    "spaces": f" {' ' * 20_000}x{' ' * 10_000} ",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=[*TEXTS])
async def test_a_text_above_what_a_vector_keeps_comes_back_byte_for_byte(
    open_pinecone: OpenPinecone, index: FakePinecone, text: str
) -> None:
    driver = await open_pinecone()
    metadata = {"big": "é\x7f" * 4_000, "n": 2**60, "f": 1.0, "nothing": None, "deep": [{"a": [1]}]}
    stored = await driver.store("ada", text[:32_768], "c", ["x" * 128] * 64, metadata)
    known = await driver.store_global_knowledge(text[:32_768], "c", metadata=metadata)
    reader = await open_pinecone()
    for _ in range(2):
        found = await reader.get(stored.memory_id, "ada")
        assert found == stored
        assert [*found.metadata["deep"], type(found.metadata["f"])] == [{"a": [1]}, float]
        assert await reader.get_knowledge(known.knowledge_id) == known
        assert await reader.recall("ada") == [stored]
        again = await reader.recall("ada", query="w1eef w3dde", use_vector=True)
        assert [one.content for one in again] == [text[:32_768]]
        stored_again = await driver.update(stored.memory_id, "ada", {"tags": ["y"]})
        assert stored_again is not None
        stored = stored_again
    assert await driver.delete(stored.memory_id, "ada")
    assert await driver.delete_knowledge(known.knowledge_id)
    assert not [one for one in index.vectors() if one.split("/")[1][0] in "mwp"]


async def test_words_beyond_those_of_a_vector_are_found(
    small: PineconeDriver, index: FakePinecone
) -> None:
    await small.import_records(told(100))
    stored = await small.store("ada", TEXTS["many words"])
    word = f"w{3_500 * 7_919:x}"
    [found] = await small.recall("ada", query=word, use_vector=False)
    assert found.memory_id == stored.memory_id
    await small.update(stored.memory_id, "ada", {"content": "few words"})
    assert await small.recall("ada", query=word, use_vector=False) == []
    assert len([one for one in index.vectors("w") if stored.memory_id[:8] in one]) == 0


async def test_a_batch_is_cut_by_bytes_and_by_vectors(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    many = [NewMemory(user_id="ada", content=f"kettle {n} {'x' * 600}") for n in range(1_000)]
    stored = await pinecone.store_many(many)
    sizes = [int(each.headers["content-length"]) for each in index.calls("/vectors/upsert")]
    assert max(sizes) <= LARGEST_BODY
    assert len(sizes) < 20
    assert all(len(each.body["vectors"]) <= 1_000 for each in index.calls("/vectors/upsert"))
    assert await listed(pinecone, 100) == stored[::-1]
    assert await pinecone.delete_user("ada") == 1_000
    assert index.vectors("m") == {}


async def test_no_answer_is_larger_than_pinecone_gives(
    open_pinecone: OpenPinecone, index: FakePinecone, embedder: Embedder
) -> None:
    driver = await open_pinecone(instead=Chance(embedder.dimension))
    text = "".join(chr(0x4E00 + n * 7_919 % 20_000) for n in range(900))
    many = [
        NewMemory(
            user_id="ada",
            content=f"{n} {text[n:]}",
            tags=[f"{m} {'x' * 100}" for m in range(64)],
            metadata={"k": f"{n}" * 300},
        )
        for n in range(500)
    ]
    await driver.store_many(many)
    index.time += 200
    largest = max(len(str(each.metadata)) for each in index.vectors("m").values())
    assert largest > 6_000
    assert len(await driver.recall("ada", query="kettle", top_k=100)) == 100
    assert len(await driver.recall("ada", top_k=100)) == 100


async def test_users_are_counted_however_many_memories_they_have(
    small: PineconeDriver, index: FakePinecone, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = told(130)
    gone = replace(made[0], memory_id=str(UUID(int=20_000)), expires_at=FIRST)
    await small.import_records([*made, gone])
    [user] = (await small.list_users()).users
    assert user.memories == 130
    monkeypatch.setattr("app.drivers.pinecone.reading.MOST_MATCHES", 50)
    [user] = (await small.list_users()).users
    assert user.memories == 130
