"""Ids are ours, and nothing is silently changed or lost."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewMemory
from app.embedding import Embedder
from app.errors import InvalidInput
from app.settings import Limits
from tests.conformance.cases import examples, on_drivers, on_wrappers
from tests.remembering import Remembering

LIMITS = Limits()


@pytest.fixture(scope="session")
def embedder(embedder: Embedder) -> Embedder:
    return Remembering(embedder)


async def test_ids_are_uuidv7_and_grow_with_time(driver: RecordDriver) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    stored = [await driver.store("ada", f"kettle {n}") for n in range(5)]
    knowledge = await driver.store_global_knowledge("kettle", "kitchen")
    ids = [*(memory.memory_id for memory in stored), knowledge.knowledge_id]
    assert all(UUID(record_id).version == 7 for record_id in ids)
    assert ids == sorted(set(ids))
    assert before <= stored[0].created_at <= datetime.now(UTC)
    assert stored[0].created_at.utcoffset() == timedelta(0)


CONTENTS = [
    " leading and trailing \n",
    "line\r\nline\rline\u2028line",
    "e\u0301 is not é",
    "🦊👩‍👩‍👧\u202e\ufeff",
    "'\"\\%_{}\x01\x7f\u0085",
    "Ω" * 32_768,
    "\U0001f98a" * 32_768,
    "x" * 32_768,
    " ".join(f"word{n}" for n in range(3_600)),
]


async def test_content_comes_back_as_it_was(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    for n, content in enumerate(CONTENTS):
        with subtests.test(content=n):
            user, start = f"user {n}", content[:256]
            stored = await driver.store(user, content, conversation_id=start, tags=[content[:128]])
            found = await driver.recall(user, query=content[:100])
            assert found[0].content == content
            assert found[0].conversation_id == start
            assert found[0].tags == [content[:128]]
            assert await driver.recall(user, conversation_id=start) == [stored]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(
                st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30
)


async def check_same(driver: RecordDriver, tags: list[str], metadata: dict[str, Any]) -> None:
    await driver.store("ada", "kettle", tags=tags, metadata=metadata)
    found = (await driver.recall("ada", top_k=1))[0]
    assert found.tags == tags
    assert json.dumps(found.metadata) == json.dumps(metadata)
    knowledge = await driver.store_global_knowledge("kettle", "k", metadata=metadata)
    assert json.dumps(knowledge.metadata) == json.dumps(metadata)
    await driver.delete_user("ada")


any_data = given(
    tags=st.lists(texts, max_size=6),
    metadata=st.dictionaries(texts, json_values, max_size=5),
)
odd_data = example(
    tags=["\u2028", "e\u0301", "é"],
    metadata={"ß": [10**40, -0.0, 5e-324, 1e308, True, None], "x": {"🦊": "\u2029\x7f", "a": {}}},
)


@on_drivers
@examples(40)
@any_data
@odd_data
async def test_tags_and_metadata_come_back_byte_for_byte(
    driver: RecordDriver, tags: list[str], metadata: dict[str, Any]
) -> None:
    await check_same(driver, tags, metadata)


@on_wrappers
@examples(10)
@any_data
@odd_data
async def test_tags_and_metadata_come_back_byte_for_byte_through_a_wrapper(
    driver: RecordDriver, tags: list[str], metadata: dict[str, Any]
) -> None:
    await check_same(driver, tags, metadata)


async def test_what_is_left_out_is_empty(driver: RecordDriver) -> None:
    await driver.store("ada", "kettle")
    found = (await driver.recall("ada"))[0]
    assert (found.conversation_id, found.tags, found.metadata) == (None, [], {})


async def test_what_a_caller_does_with_an_answer_changes_nothing(driver: RecordDriver) -> None:
    metadata: dict[str, Any] = {"a": {"b": [1]}}
    stored = await driver.store("ada", "kettle", tags=["x"], metadata=metadata)
    metadata["a"]["b"].append(2)
    stored.metadata["a"]["b"].append(3)
    stored.tags.append("y")
    (await driver.recall("ada"))[0].metadata.clear()
    found = (await driver.recall("ada", query="kettle"))[0]
    assert (found.tags, found.metadata) == (["x"], {"a": {"b": [1]}})


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("content", {"content": ""}, "empty"),
    ("content", {"content": "x" * 32_769}, "32768"),
    ("content", {"content": "a\x00b"}, "NUL"),
    ("content", {"content": "a\ud800b"}, "surrogate"),
    ("user_id", {"user_id": ""}, "empty"),
    ("user_id", {"user_id": "x" * 257}, "256"),
    ("user_id", {"user_id": "\x00"}, "NUL"),
    ("conversation_id", {"conversation_id": ""}, "empty"),
    ("conversation_id", {"conversation_id": "x" * 257}, "256"),
    ("tags", {"tags": ["x"] * 65}, "64"),
    ("tags", {"tags": ["x", ""]}, "empty"),
    ("tags", {"tags": ["x" * 129]}, "128"),
    ("tags", {"tags": ["\udfff"]}, "surrogate"),
    ("tags", {"tags": "x"}, "list"),
    ("metadata", {"metadata": {"a": "x" * 16_384}}, "16384"),
    ("metadata", {"metadata": {"a": float("nan")}}, "NaN"),
    ("metadata", {"metadata": {"a": [float("inf")]}}, "infinity"),
    ("metadata", {"metadata": {"a": "\x00"}}, "NUL"),
    ("metadata", {"metadata": {"\ud800": 1}}, "surrogate"),
    ("metadata", {"metadata": {1: 1}}, "keys"),
    ("metadata", {"metadata": {"a": datetime.now(UTC)}}, "datetime"),
    ("metadata", {"metadata": {"a": 10**5_000}}, "digits"),
    ("metadata", {"metadata": []}, "object"),
    ("metadata", {"metadata": json.loads('{"a":' * 40 + "1" + "}" * 40)}, "deep"),
]


async def test_what_cannot_be_kept_is_refused_by_name(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    for field, arguments, limit in REFUSED:
        with subtests.test(field=field, limit=limit):
            with pytest.raises(InvalidInput, match=limit) as refusal:
                await driver.store(**{"user_id": "ada", "content": "kettle", **arguments})
            assert refusal.value.loc[0] == field
            assert await driver.recall("ada") == []


async def test_a_batch_with_one_bad_memory_keeps_none_and_names_it(
    driver: RecordDriver,
) -> None:
    batch = [NewMemory(user_id="ada", content=f"kettle {n}") for n in range(5)]
    batch[3] = NewMemory(user_id="ada", content="kettle", tags=["a\x00"])
    with pytest.raises(InvalidInput) as refusal:
        await driver.store_many(batch)
    assert refusal.value.loc == ("memories", 3, "tags", 0)
    assert await driver.recall("ada") == []


OUT_OF_RANGE: list[dict[str, Any]] = [
    {"top_k": 0},
    {"top_k": -1},
    {"top_k": 101},
    {"top_k": True},
    {"top_k": 1.5},
    {"query": ""},
    {"query": "\x00"},
    {"query": "x" * 8_193},
    {"user_id": ""},
    {"conversation_id": ""},
    {"exclude_tags": [""]},
    {"exclude_tags": "noise"},
]


async def test_a_recall_out_of_range_is_refused(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    for arguments in OUT_OF_RANGE:
        with subtests.test(**arguments), pytest.raises(InvalidInput):
            await driver.recall(**{"user_id": "ada", "query": "kettle", **arguments})
