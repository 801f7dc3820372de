"""JSON merge patches, as RFC 7396 has them, and within the limits of records."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.core.memory.merge_patch import (
    checked_knowledge_patch,
    checked_memory_patch,
    merged,
    patched,
)
from app.core.memory.records import Knowledge, Memory
from app.errors import InvalidInput
from app.settings import Limits

LIMITS = Limits()
NOW = datetime(2026, 11, 22, 17, 25, 35, 463_000, UTC)
MEMORY = Memory(
    memory_id="01a2044a-b867-7414-b083-e35efec64b1d",
    user_id="ada",
    content="kettle",
    conversation_id="kitchen",
    tags=["home"],
    metadata={"n": 1, "a": {"b": [1]}},
    created_at=NOW,
    updated_at=NOW + timedelta(microseconds=1),
)
KNOWLEDGE = Knowledge(
    knowledge_id="01a2044a-b8dd-73bd-8e23-d078fc8498e3",
    content="kettle",
    category="kitchen",
    title="Care",
    doc_id="care",
    created_at=NOW,
)

APPENDIX_A = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]
"""The table of RFC 7396, appendix A: the original, the patch, the result."""


@pytest.mark.parametrize(("original", "patch", "result"), APPENDIX_A)
def test_a_patch_is_merged_as_the_rfc_has_it(original: str, patch: str, result: str) -> None:
    before, changes = json.loads(original), json.loads(patch)
    assert json.dumps(merged(before, changes), separators=(",", ":")) == result
    assert (before, changes) == (json.loads(original), json.loads(patch))


@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"content": "kettle"},
        {"conversation_id": "kitchen", "tags": ["home"]},
        {"metadata": {}},
        {"metadata": {"n": 1, "a": {"b": [1], "c": None}, "z": None}},
    ],
)
def test_a_patch_that_changes_nothing_gives_the_record_itself(patch: dict[str, Any]) -> None:
    assert patched(MEMORY, checked_memory_patch(patch, LIMITS, NOW), LIMITS) is MEMORY


@pytest.mark.parametrize("number", [1.0, True])
def test_an_integer_a_float_and_true_are_three_values(number: object) -> None:
    patch = checked_memory_patch({"metadata": {"n": number}}, LIMITS, NOW)
    changed = patched(MEMORY, patch, LIMITS)
    assert json.dumps(changed.metadata["n"]) == json.dumps(number)


def test_null_takes_away_what_may_be_absent() -> None:
    memory = {"conversation_id": None, "tags": None, "metadata": None}
    changed = patched(MEMORY, checked_memory_patch(memory, LIMITS, NOW), LIMITS)
    assert (changed.conversation_id, changed.tags, changed.metadata) == (None, [], {})
    knowledge = checked_knowledge_patch({"title": None, "doc_id": None}, LIMITS, NOW)
    known = patched(KNOWLEDGE, knowledge, LIMITS)
    assert (known.title, known.doc_id, known.content) == (None, None, "kettle")


@pytest.mark.parametrize("patch", [None, [], "x", 1, [("content", "x")]])
def test_a_patch_is_an_object(patch: Any) -> None:
    for check in (checked_memory_patch, checked_knowledge_patch):
        with pytest.raises(InvalidInput, match="object"):
            check(patch, LIMITS, NOW)


def test_what_is_patched_shares_nothing_with_the_patch() -> None:
    changes: dict[str, Any] = {"tags": ["x"], "metadata": {"c": {"d": [1]}}}
    changed = patched(MEMORY, checked_memory_patch(changes, LIMITS, NOW), LIMITS)
    changes["tags"].append("y")
    changes["metadata"]["c"]["d"].append(2)
    changed.metadata["a"]["b"].append(2)
    assert (changed.tags, changed.metadata["c"]) == (["x"], {"d": [1]})
    assert MEMORY.metadata == {"n": 1, "a": {"b": [1]}}
