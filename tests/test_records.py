"""Records: what is kept is what was given, within the limits, under an id of our own."""

import json
import math
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.memory.checks import (
    check_batch,
    check_id,
    check_metadata,
    check_tags,
    check_text,
    check_top_k,
    dump_json,
)
from app.core.memory.cursor import Cursor
from app.core.memory.records import (
    Memory,
    NewKnowledge,
    NewMemory,
    deletable_from,
    is_alive,
    new_knowledge,
    new_memory,
)
from app.core.memory.requests import Page
from app.errors import InvalidInput
from app.settings import Limits

LIMITS = Limits()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=5)


def exact(value: object) -> str:
    """A text that tells 1 from 1.0 and from True, -0.0 from 0.0, and one key order from another."""
    return repr(value)


@given(OBJECT)
def test_metadata_is_kept_exactly(metadata: dict[str, Any]) -> None:
    kept = check_metadata(metadata, LIMITS, ("metadata",))
    assert exact(kept) == exact(metadata)
    assert exact(json.loads(dump_json(kept))) == exact(metadata)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_as_json(number: float) -> None:
    back = json.loads(dump_json([number]))[0]
    assert isinstance(back, float)
    assert math.copysign(1, back) == math.copysign(1, number)
    assert back == number


def test_metadata_is_a_copy() -> None:
    given_ = {"a": {"b": [1]}}
    kept = check_metadata(given_, LIMITS, ("metadata",))
    given_["a"]["b"].append(2)
    assert kept == {"a": {"b": [1]}}


@given(st.text(max_size=10))
def test_a_text_is_kept_as_it_is_or_refused(text: str) -> None:
    encodable = "\x00" not in text and not any(0xD800 <= ord(c) <= 0xDFFF for c in text)
    if text and encodable:
        assert check_text(text, 10, ("content",)) is text
    else:
        with pytest.raises(InvalidInput, match="content"):
            check_text(text, 10, ("content",))


def test_text_is_counted_in_code_points() -> None:
    assert check_text("👩‍👩‍👧" * 2, 10, ("content",))
    with pytest.raises(InvalidInput, match="11 characters; the limit is 10"):
        check_text("é" * 11, 10, ("content",))


@pytest.mark.parametrize(
    ("metadata", "loc"),
    [
        ([], ("metadata",)),
        ("x", ("metadata",)),
        ({"a": math.nan}, ("metadata", "a")),
        ({"a": [math.inf]}, ("metadata", "a", 0)),
        ({"a": {"b": -math.inf}}, ("metadata", "a", "b")),
        ({"a": "\x00"}, ("metadata", "a")),
        ({"a": ["\ud800"]}, ("metadata", "a", 0)),
        ({"\x00": 1}, ("metadata", "key")),
        ({"\udfff": 1}, ("metadata", "key")),
        ({1: 1}, ("metadata",)),
        ({"a": {None: 1}}, ("metadata", "a")),
        ({"a": {1, 2}}, ("metadata", "a")),
        ({"a": b"x"}, ("metadata", "a")),
        ({"a": datetime.now(UTC)}, ("metadata", "a")),
        ({"a": 1j}, ("metadata", "a")),
        ({"a": 10**5_000}, ("metadata",)),
    ],
)
def test_metadata_that_is_not_json_is_refused_at_its_place(
    metadata: Any, loc: tuple[str | int, ...]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_metadata(metadata, LIMITS, ("metadata",))
    assert caught.value.loc == loc


def test_metadata_that_holds_itself_is_refused() -> None:
    metadata: dict[str, Any] = {}
    metadata["a"] = metadata
    with pytest.raises(InvalidInput, match=r"nested|more than"):
        check_metadata(metadata, LIMITS, ("metadata",))


@pytest.mark.parametrize("depth", [1, 2, 16])
def test_metadata_has_a_limit_of_depth(depth: int) -> None:
    limits = Limits(metadata_depth=depth)
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    assert check_metadata(value, limits, ("metadata",)) == value
    with pytest.raises(InvalidInput, match="nested"):
        check_metadata({"a": value}, limits, ("metadata",))


def test_metadata_has_a_limit_of_bytes_as_compact_json() -> None:
    limits = Limits(metadata_bytes=len('{"é":"é"}'.encode()))
    assert check_metadata({"é": "é"}, limits, ("metadata",))
    with pytest.raises(InvalidInput, match="12 bytes as JSON; the limit is 11"):
        check_metadata({"é": "é!"}, limits, ("metadata",))


def test_tags_keep_their_order_and_their_repetitions() -> None:
    assert check_tags(("b", "a", "b"), LIMITS, ("tags",)) == ["b", "a", "b"]
    assert check_tags(None, LIMITS, ("tags",)) == []


@pytest.mark.parametrize(
    ("tags", "loc"),
    [
        ("home", ("tags",)),
        ({"home"}, ("tags",)),
        (["a"] * 65, ("tags",)),
        (["a", ""], ("tags", 1)),
        (["a", 1], ("tags", 1)),
        (["a" * 129], ("tags", 0)),
    ],
)
def test_tags_outside_the_limits_are_refused_at_their_place(
    tags: Any, loc: tuple[str | int, ...]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_tags(tags, LIMITS, ("tags",))
    assert caught.value.loc == loc


@pytest.mark.parametrize("top_k", [1, 100])
def test_top_k_within_its_limit_is_taken(top_k: int) -> None:
    assert check_top_k(top_k, LIMITS) == top_k


@pytest.mark.parametrize("top_k", [0, -1, 101, True, 1.0, "1", None])
def test_top_k_outside_its_limit_is_refused(top_k: Any) -> None:
    with pytest.raises(InvalidInput, match="top_k must be an integer from 1 to 100"):
        check_top_k(top_k, LIMITS)


@pytest.mark.parametrize("count", [0, 1_001])
def test_a_batch_is_neither_empty_nor_too_long(count: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 1000"):
        check_batch([None] * count, LIMITS, "memories")


@pytest.mark.parametrize("value", ["", "x", None, 7, UUID(int=7), "{}", b"\x00" * 16])
def test_an_id_that_is_no_uuid_text_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="memory_id is not a UUID"):
        check_id(value)


def test_ids_are_ours_increasing_and_tell_the_time() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    memories = [new_memory(NewMemory(user_id="ada", content="x"), LIMITS) for _ in range(5_000)]
    after = datetime.now(UTC)
    ids = [UUID(memory.memory_id) for memory in memories]
    assert all(first < second for first, second in pairwise(ids))
    for memory, made in zip(memories, ids, strict=True):
        assert (made.version, str(made)) == (7, memory.memory_id)
        assert memory.created_at.tzinfo is UTC
        assert memory.created_at.timestamp() * 1_000 == made.int >> 80
        assert before <= memory.created_at <= after
        assert memory.score is None


def test_knowledge_has_an_id_of_its_own_too() -> None:
    made = new_knowledge(NewKnowledge(content="x", category="c"), LIMITS)
    assert UUID(made.knowledge_id).version == 7
    assert made.created_at.timestamp() * 1_000 == UUID(made.knowledge_id).int >> 80


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user_id": ""}, "user_id"),
        ({"content": "x" * 32_769}, "content"),
        ({"conversation_id": "\x00"}, "conversation_id"),
        ({"tags": [""]}, "tags"),
        ({"metadata": {"a": math.nan}}, "metadata"),
    ],
)
def test_a_bad_field_of_a_batch_is_told_with_its_index(change: dict[str, Any], field: str) -> None:
    new = NewMemory(**({"user_id": "ada", "content": "x"} | change))
    with pytest.raises(InvalidInput) as caught:
        new_memory(new, LIMITS, ("memories", 3))
    assert caught.value.loc[:3] == ("memories", 3, field)


MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(MOMENTS, st.uuids())
def test_a_cursor_survives_as_text(moment: datetime, memory_id: UUID) -> None:
    cursor = Cursor(moment, memory_id)
    text = cursor.encode()
    assert Cursor.decode(text) == cursor
    assert text.isascii()
    assert not set(text) & set("+/&?#% =")


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")))
def test_garbage_is_no_cursor_and_no_crash(text: str) -> None:
    with suppress(InvalidInput):
        assert Cursor.decode(text).encode() == text


@pytest.mark.parametrize("text", ["", "x", "AAAA", "é", "\x00", "A" * 28, "_" * 4_096])
def test_what_no_page_gave_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        Cursor.decode(text)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_page_tells_whether_more_follow(count: int) -> None:
    found = [new_memory(NewMemory(user_id="ada", content="x"), LIMITS) for _ in range(count)]
    made = Page(user_id="ada", limit=2).of(found)
    assert made.memories == found[:2]
    assert (made.next_cursor is not None) == (count > 2)
    if made.next_cursor:
        assert Cursor.decode(made.next_cursor) == Cursor.after(found[1])


def test_a_memory_can_not_be_changed() -> None:
    memory: Any = new_memory(NewMemory(user_id="ada", content="x"), LIMITS)
    with pytest.raises(AttributeError):
        memory.content = "y"
    assert isinstance(memory, Memory)


def test_a_record_is_alive_until_the_moment_at_which_it_expires() -> None:
    memory = new_memory(NewMemory(user_id="ada", content="x", ttl=60), LIMITS)
    assert memory.expires_at is not None
    assert is_alive(memory, memory.expires_at - timedelta(microseconds=1))
    assert not is_alive(memory, memory.expires_at)
    assert is_alive(replace(memory, expires_at=None), datetime.max.replace(tzinfo=UTC))


def test_what_was_updated_is_deleted_a_day_after_it_expired() -> None:
    memory = new_memory(NewMemory(user_id="ada", content="x", ttl=60), LIMITS)
    updated = replace(memory, updated_at=memory.updated_at + timedelta(microseconds=1))
    assert memory.expires_at is not None
    assert deletable_from(memory) == memory.expires_at
    assert deletable_from(updated) == memory.expires_at + timedelta(days=1)
    assert deletable_from(replace(updated, expires_at=None)) is None
