"""The filter's grammar, and the evaluator that says what a filter means."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.memory.filter import (
    EVERYTHING,
    MOST_CONDITIONS,
    MOST_VALUES,
    Filter,
    read_filter,
)
from app.core.memory.records import Knowledge, Memory
from app.errors import InvalidInput
from app.settings import Limits

LIMITS = Limits()
NOON = datetime(2026, 5, 8, 12, tzinfo=UTC)
LARGE = 2**53


def read(filter: Mapping[str, Any], *, knowledge: bool = False) -> Filter:  # noqa: A002
    return read_filter(filter, LIMITS, knowledge=knowledge)


def lets(wanted: Any, metadata: dict[str, Any]) -> bool:
    """Whether a condition on the key `k` lets the metadata through."""
    memory = Memory(memory_id="", user_id="", content="", metadata=metadata, created_at=NOON)
    return read({"metadata": {"k": wanted}}).lets(memory)


SAME: list[tuple[Any, Any]] = [
    ("x", "x"),
    ("", ""),
    ("1", "1"),
    ("a.b", "a.b"),
    ("🦊", "🦊"),
    (1, 1),
    (1, 1.0),
    (1.0, 1),
    (0, -0.0),
    (LARGE + 1, LARGE + 1),
    (10**23, 1e23),
    (1e308, 1e308),
    (10**308, 1e308),
    (5e-324, 5e-324),
    (True, True),
    (False, False),
    (None, None),
    ("x", ["y", "x"]),
    (1, ["1", 1.0]),
    (None, [1, None]),
    (True, [False, True]),
]
"""What is asked for, and a value that is it."""

OTHER: list[tuple[Any, Any]] = [
    ("x", "X"),
    ("x", "x "),
    ("é", "e\u0301"),
    ("1", 1),
    (1, "1"),
    (1, True),
    (True, 1),
    (0, False),
    (False, 0),
    (True, "true"),
    (None, "null"),
    (None, ""),
    (None, 0),
    (None, False),
    ("", None),
    (LARGE, LARGE + 1),
    (LARGE + 1, float(LARGE)),
    (0.1, 0.1 + 2**-56),
    (1e308, 10**308 + 1),
    (None, []),
    ("x", []),
    ("x", [["x"]]),
    ("x", {"x": "x"}),
    ("x", [{"x": "x"}]),
    ("['x']", ["x"]),
    ("{}", {}),
]
"""What is asked for, and a value that is another."""


@pytest.mark.parametrize(("wanted", "value"), SAME)
def test_a_value_is_itself(wanted: Any, value: Any) -> None:
    check_same(wanted, {"k": value}, same=True)


@pytest.mark.parametrize(("wanted", "value"), OTHER)
def test_a_value_of_another_type_or_kind_is_another(wanted: Any, value: Any) -> None:
    check_same(wanted, {"k": value}, same=False)


@pytest.mark.parametrize("wanted", ["x", "", 0, False, None])
def test_a_key_that_is_not_there_has_no_value(wanted: Any) -> None:
    check_same(wanted, {"K": wanted, "k ": wanted, "k.k": wanted, "": {"k": wanted}}, same=False)


def check_same(wanted: Any, metadata: dict[str, Any], *, same: bool) -> None:
    assert lets(wanted, metadata) is same
    assert lets({"eq": wanted}, metadata) is same
    assert lets({"in": ["no", wanted, -1]}, metadata) is same
    assert lets({"ne": wanted}, metadata) is not same
    assert lets({"nin": [wanted]}, metadata) is not same


ASCENDING: list[list[Any]] = [
    ["", "\x01", "A", "Z", "a", "aa", "b", "é", "\uffff", "🦊"],
    [-1e308, -1, -0.5, 0, 5e-324, 0.1, 1, 1.5, LARGE, LARGE + 1, float(LARGE + 2), 1e308, 10**400],
]
"""Texts stand in the order of their code points: U+FFFF before what UTF-16 begins with U+D8.."""


@pytest.mark.parametrize("values", ASCENDING, ids=["texts", "numbers"])
def test_what_is_above_and_below_goes_by_the_place(values: list[Any]) -> None:
    for n, limit in enumerate(values):
        for at, value in enumerate(values):
            for own in (value, [{}, value, True, None]):
                answers = [lets({one: limit}, {"k": own}) for one in ("gt", "gte", "lt", "lte")]
                assert answers == [at > n, at >= n, at < n, at <= n]


@pytest.mark.parametrize("operator", ["gt", "gte", "lt", "lte"])
@pytest.mark.parametrize("limit", ["", "5", "\U0010ffff", 0, 1e308, -1e308])
def test_another_type_is_neither_above_nor_below(operator: str, limit: Any) -> None:
    others: list[Any] = [True, False, None, [], {}, [[limit]], {"k": limit}]
    others.append(3 if isinstance(limit, str) else "3")
    for value in others:
        assert not lets({operator: limit}, {"k": value})
    assert not lets({operator: limit}, {})


def test_of_a_list_one_value_is_enough() -> None:
    assert lets({"gt": 3}, {"k": [1, 4]})
    assert lets({"gt": 3, "lt": 2}, {"k": [1, 4]})
    assert not lets({"gt": 4}, {"k": [1, 4]})


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, "x"])
def test_a_key_is_there_with_whatever_value(value: Any) -> None:
    for wanted in (True, False):
        assert lets({"exists": wanted}, {"k": value}) is wanted
        assert lets({"exists": wanted}, {"other": value}) is not wanted


def test_nothing_is_one_of_none() -> None:
    every: list[dict[str, Any]] = [{}, {"k": None}, {"k": []}, {"k": "x"}]
    for metadata in every:
        assert not lets({"in": []}, metadata)
        assert lets({"nin": []}, metadata)
    assert not read({"metadata": {"k": {"nin": []}}}), "it leaves nothing out"


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=4),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("kx"), inner, max_size=2),
    max_leaves=4,
)


@given(wanted=st.lists(SCALARS, max_size=4), metadata=st.dictionaries(st.text("kx"), VALUES))
def test_ne_and_nin_are_all_that_eq_and_in_are_not(
    wanted: list[Any], metadata: dict[str, Any]
) -> None:
    assert lets({"in": wanted}, metadata) is not lets({"nin": wanted}, metadata)
    assert lets({"in": wanted}, metadata) is any(lets(one, metadata) for one in wanted)
    for one in wanted:
        assert lets({"eq": one}, metadata) is not lets({"ne": one}, metadata)


def test_all_of_it_must_hold() -> None:
    memory = Memory(
        memory_id="",
        user_id="",
        content="",
        tags=["a", "b"],
        metadata={"state": "open", "priority": 3},
        created_at=NOON,
        occurred_at=NOON.replace(year=2020),
    )
    holding: dict[str, Any] = {
        "tags": {"any": ["a", "z"], "all": ["a", "b"], "none": ["c"]},
        "metadata": {"state": {"in": ["open", "late"]}, "priority": {"gte": 3, "lt": 4}},
        "occurred": {"from": "2020-05-08T12:00:00Z", "to": "2020-05-08T14:00:00.000001+02:00"},
        "created": {"from": "2026-05-08T14:00:00+02:00"},
    }
    assert read(holding).lets(memory)
    others: dict[str, list[dict[str, Any]]] = {
        "tags": [{"any": ["z"]}, {"all": ["a", "c"]}, {"none": ["z", "b"]}],
        "metadata": [{"state": "late"}, {"state": "open", "priority": {"gte": 3, "lt": 3}}],
        "occurred": [{"to": "2020-05-08T12:00:00Z"}, {"from": "2020-05-08T12:00:00.000001Z"}],
        "created": [{"to": "2026-05-08T12:00:00Z"}, {"from": "2026-05-08T12:00:01Z"}],
    }
    for name, parts in others.items():
        for part in parts:
            assert not read({**holding, name: part}).lets(memory)


def test_knowledge_has_metadata_and_a_creation() -> None:
    record = Knowledge(
        knowledge_id="", content="", category="c", metadata={"k": 1}, created_at=NOON
    )
    given = {"metadata": {"k": 1}, "created": {"from": "2026-05-08T12:00:00Z"}}
    assert read(given, knowledge=True).lets(record)
    for name in ("tags", "occurred"):
        with pytest.raises(InvalidInput) as refusal:
            read({name: {}}, knowledge=True)
        assert refusal.value.loc == ("filter", name)


@pytest.mark.parametrize(
    "empty",
    [None, {}, {"tags": {}}, {"tags": {"all": [], "none": []}}, {"metadata": {}}, {"created": {}}],
)
def test_a_filter_that_wants_nothing_is_none(empty: dict[str, Any] | None) -> None:
    assert read_filter(empty, LIMITS) == EVERYTHING
    assert not read_filter(empty, LIMITS)


MANY = [*range(MOST_VALUES + 1)]
REFUSED: list[tuple[Any, tuple[str | int, ...]]] = [
    ("x", ()),
    ([], ()),
    ({"tag": {}}, ("tag",)),
    ({"metadata": None}, ("metadata",)),
    ({"metadata": []}, ("metadata",)),
    ({"tags": None}, ("tags",)),
    ({"tags": ["a"]}, ("tags",)),
    ({"tags": {"some": ["a"]}}, ("tags", "some")),
    ({"tags": {"any": []}}, ("tags", "any")),
    ({"tags": {"any": "a"}}, ("tags", "any")),
    ({"tags": {"all": None}}, ("tags", "all")),
    ({"tags": {"none": ["a", ""]}}, ("tags", "none", 1)),
    ({"tags": {"none": ["a", 1]}}, ("tags", "none", 1)),
    ({"tags": {"none": ["a\x00"]}}, ("tags", "none", 0)),
    ({"tags": {"all": ["a"] * 65}}, ("tags", "all")),
    ({"metadata": {"k": []}}, ("metadata", "k")),
    ({"metadata": {"k": {}}}, ("metadata", "k")),
    ({"metadata": {"k": {"equals": 1}}}, ("metadata", "k", "equals")),
    ({"metadata": {"k": {"$gt": 1}}}, ("metadata", "k", "$gt")),
    ({"metadata": {"k": {"gt": 1, "a.b": 1}}}, ("metadata", "k", "a.b")),
    ({"metadata": {"k": {"eq": {}}}}, ("metadata", "k", "eq")),
    ({"metadata": {"k": {"ne": [1]}}}, ("metadata", "k", "ne")),
    ({"metadata": {"k": {"in": "x"}}}, ("metadata", "k", "in")),
    ({"metadata": {"k": {"in": b"x"}}}, ("metadata", "k", "in")),
    ({"metadata": {"k": {"in": None}}}, ("metadata", "k", "in")),
    ({"metadata": {"k": {"nin": [1, [2]]}}}, ("metadata", "k", "nin", 1)),
    ({"metadata": {"k": {"in": MANY}}}, ("metadata", "k", "in")),
    ({"metadata": {"k": {"gt": True}}}, ("metadata", "k", "gt")),
    ({"metadata": {"k": {"gte": None}}}, ("metadata", "k", "gte")),
    ({"metadata": {"k": {"lt": [1]}}}, ("metadata", "k", "lt")),
    ({"metadata": {"k": {"lte": {}}}}, ("metadata", "k", "lte")),
    ({"metadata": {"k": {"exists": 1}}}, ("metadata", "k", "exists")),
    ({"metadata": {"k": {"exists": "true"}}}, ("metadata", "k", "exists")),
    ({"metadata": {"k": float("inf")}}, ("metadata", "k")),
    ({"metadata": {"k": {"lt": float("nan")}}}, ("metadata", "k", "lt")),
    ({"metadata": {"k": {"in": [0, 10**4300]}}}, ("metadata", "k", "in", 1)),
    ({"metadata": {"k": "a\x00"}}, ("metadata", "k")),
    ({"metadata": {"k": {"in": ["\ud800"]}}}, ("metadata", "k", "in", 0)),
    ({"metadata": {"k": {"gt": "x" * 8_193}}}, ("metadata", "k", "gt")),
    ({"metadata": {"k\x00": 1}}, ("metadata", "k\x00")),
    ({"metadata": {"k" * 1_025: 1}}, ("metadata",)),
    ({"metadata": {1: 1}}, ("metadata",)),
    ({"metadata": {f"k{n}": n for n in range(MOST_CONDITIONS + 1)}}, ("metadata",)),
    ({"created": None}, ("created",)),
    ({"created": "2026-05-08T12:00:00Z"}, ("created",)),
    ({"created": {"after": "2026-05-08T12:00:00Z"}}, ("created", "after")),
    ({"created": {"from": None}}, ("created", "from")),
    ({"created": {"from": 1_778_241_600}}, ("created", "from")),
    ({"occurred": {"to": "2026-05-08"}}, ("occurred", "to")),
    ({"occurred": {"to": "2026-02-30T00:00:00Z"}}, ("occurred", "to")),
    ({"occurred": {"to": "0001-01-01T00:00:00+02:00"}}, ("occurred", "to")),
    ({"occurred": {"from": "9999-12-31T23:59:59-02:00"}}, ("occurred", "from")),
]
"""What the grammar does not know, and the place that the refusal names."""


@pytest.mark.parametrize(("given", "place"), REFUSED, ids=range(len(REFUSED)))
def test_what_the_grammar_does_not_know_is_refused_at_its_place(
    given: Any, place: tuple[str | int, ...]
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read(given)
    assert refusal.value.loc == ("filter", *place)


def test_so_many_conditions_and_values_may_be_given() -> None:
    key, text = "k" * 1_024, "x" * 8_192
    conditions: dict[str, Any] = {f"k{n}": n for n in range(MOST_CONDITIONS - 2)}
    conditions[key] = {"in": [text] * MOST_VALUES, "lt": 10**4300 - 1}
    assert len(read({"metadata": conditions}).metadata) == MOST_CONDITIONS
