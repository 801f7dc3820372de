"""Columns let the same records through as the evaluator does, and take little room."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.memory.columns import Columns, Reader
from app.core.memory.filter import Filter, read_filter
from app.core.memory.moments import to_microseconds
from app.core.memory.records import Memory
from app.settings import Limits
from tests.filters import NESTED, PLAIN, Case, cases
from tests.storm import times

START = datetime(2026, 5, 8, tzinfo=UTC)


def read(given: dict[str, Any]) -> Filter:
    return read_filter(given, Limits())


def memories(
    metadata: Sequence[dict[str, Any]], tags: Sequence[list[str]] | None = None
) -> list[Memory]:
    return [
        Memory(
            memory_id=str(n),
            user_id="ada",
            content="kettle",
            tags=[] if tags is None else tags[n],
            metadata=own,
            created_at=START + timedelta(hours=n),
            occurred_at=START - timedelta(hours=n),
        )
        for n, own in enumerate(metadata)
    ]


READER: Reader[Memory] = Reader(
    occurred=lambda one: to_microseconds(one.occurred_at),
    created=lambda one: to_microseconds(one.created_at),
    tags=lambda one: one.tags,
    metadata=lambda one: one.metadata,
)


def columns_of(records: Sequence[Memory]) -> Columns[Memory]:
    return Columns(records, READER)


def check_same(columns: Columns[Memory], records: Sequence[Memory], wanted: dict[str, Any]) -> None:
    right = [read(wanted).lets(one) for one in records]
    for _ in range(2):  # made, and kept
        assert columns.mask(read(wanted)).tolist() == right, wanted


@given(case=cases())
@settings(max_examples=300, deadline=None)
def test_columns_let_through_what_the_evaluator_does(case: Case) -> None:
    metadata, tags, filters = case
    records = memories(metadata, tags)
    columns = columns_of(records)
    for wanted in filters:
        check_same(columns, records, wanted)


@given(first=cases(), then=cases(), data=st.data())
@settings(max_examples=times(300, 3_000), deadline=None)
def test_renewed_columns_are_as_made_anew(first: Case, then: Case, data: st.DataObject) -> None:
    before = memories(first[0], first[1])
    after = [one for one in before if data.draw(st.booleans())]
    new = memories(then[0], then[1])
    columns = columns_of(before)
    for wanted in (*first[2], *then[2]):
        columns.mask(read(wanted))
    extended = columns.extended(new[:1]).extended(new[1:])
    for wanted in data.draw(st.permutations((*first[2], *then[2])))[1:]:
        check_same(extended, [*before, *new], wanted)
    after = data.draw(st.permutations([*after, *new[: max(len(after), 1)]]))
    for wanted in (*first[2], *then[2]):
        check_same(extended.renewed(after), after, wanted)
    renewed = columns.renewed(after)
    for wanted in (*first[2], *then[2]):
        check_same(renewed, after, wanted)
    again = renewed.renewed(before)
    for wanted in (*first[2], *then[2]):
        check_same(again, before, wanted)


def test_renewing_reads_only_what_is_new_and_keeps_nothing_of_what_went() -> None:
    asked: list[str] = []

    def metadata(one: Memory) -> dict[str, Any]:
        asked.append(one.memory_id)
        return one.metadata

    before = memories([{"k": f"text {n}" * 50} for n in range(100)])
    columns = Columns(before, replace(READER, metadata=metadata))
    columns.mask(read({"metadata": {"k": "text"}}))
    size = columns.size
    asked.clear()
    new = replace(before[0], memory_id="new", metadata={"k": "another"})
    more = columns.extended([new])
    assert not asked
    more.mask(read({"metadata": {"k": "text"}}))
    assert asked == ["new"]
    assert columns.size < more.size < columns.size + 1_000
    fewer = more.renewed(before[:50])
    assert asked == ["new"]
    assert fewer.size < 0.6 * size
    check_same(fewer, before[:50], {"metadata": {"k": {"gte": "text 3"}}})


@pytest.mark.parametrize("operator", ["eq", "ne", "gt", "gte", "lt", "lte"])
def test_every_value_is_compared_with_every_other(operator: str) -> None:
    records = memories([*({"k": value} for value in [*PLAIN, *NESTED]), {"other": 1}, {}])
    columns = columns_of(records)
    for value in PLAIN:
        ordered = value is not None and not isinstance(value, bool)
        if ordered or operator in ("eq", "ne"):
            check_same(columns, records, {"metadata": {"k": {operator: value}}})


def test_spans_go_by_the_microsecond() -> None:
    records = memories([{}] * 4)
    columns = columns_of(records)
    moment = START + timedelta(hours=2)
    for when in (moment, moment + timedelta(microseconds=1), moment - timedelta(microseconds=1)):
        for end in ("from", "to"):
            check_same(columns, records, {"created": {end: when.isoformat()}})
            check_same(columns, records, {"occurred": {end: (START - (when - START)).isoformat()}})


def test_no_records_are_let_through_where_there_are_none() -> None:
    columns = columns_of([])
    for wanted in ({"metadata": {"k": {"ne": 1}}}, {"tags": {"none": ["t"]}}):
        assert columns.mask(read(wanted)).tolist() == []


def test_only_some_keys_are_kept_however_many_are_asked_for() -> None:
    keys = [f"k{n}" for n in range(100)]
    records = memories([{key: f"{n} of {key}" for key in keys} for n in range(50)])
    columns = columns_of(records)
    sizes = []
    for key in keys:
        check_same(columns, records, {"metadata": {key: f"7 of {key}"}})
        sizes.append(columns.size)
    assert sizes[0] < sizes[1] < sizes[2]
    assert max(sizes) < 9 * sizes[0]


def test_long_lists_are_right_and_not_kept() -> None:
    records = memories([{"k": [*range(n, n + 200)]} for n in range(50)])
    columns = columns_of(records)
    for wanted in ({"metadata": {"k": 100}}, {"metadata": {"k": {"gt": 230}}}):
        check_same(columns, records, wanted)
    assert columns.size == 0
