"""Conditions on memories and knowledge: whose, alive, and as a filter has them.

What a caller gives is always an argument. A value of another type than the one it is compared with
makes a condition false, and never the statement fail.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.core.memory.filter import Condition, Filter, Scalar, Span

OCCURRED = "coalesce(occurred_at, created_at)"
"""When a memory happened; an index has it in this form."""

_OF_VALUES = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Where:
    """Conditions that all must hold, and their arguments in the order of `$1`, `$2` and so on."""

    def __init__(self) -> None:
        self.arguments: list[Any] = []
        self._conditions: list[str] = []

    def __str__(self) -> str:
        return " and ".join(self._conditions) or "true"

    def argument(self, value: Any) -> str:
        """How a statement names the value, which becomes the next argument."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def equal(self, column: str, value: Any) -> None:
        """The column has the value."""
        self._conditions.append(f"{column} = {self.argument(value)}")

    def alive(self, now: datetime) -> None:
        """It has not expired."""
        self._conditions.append(f"(expires_at is null or expires_at > {self.argument(now)})")

    def before(self, columns: str, values: Sequence[Any]) -> None:
        """The columns stand before these values."""
        self._conditions.append(f"({columns}) < ({', '.join(map(self.argument, values))})")

    def admitted(self, wanted: Filter) -> None:
        """The filter lets it through."""
        for operator, tags in (("&&", wanted.any_tags), ("@>", wanted.all_tags)):
            if tags:
                self._conditions.append(f"tags {operator} {self.argument(list(tags))}::text[]")
        if wanted.no_tags:
            self._conditions.append(f"not tags && {self.argument(list(wanted.no_tags))}::text[]")
        self._span(OCCURRED, wanted.occurred)
        self._span("created_at", wanted.created)
        for condition in wanted.metadata:
            self._conditions.append(self._holds(condition))

    def _span(self, column: str, span: Span) -> None:
        if span.start is not None:
            self._conditions.append(f"{column} >= {self.argument(span.start)}")
        if span.end is not None:
            self._conditions.append(f"{column} < {self.argument(span.end)}")

    def _holds(self, condition: Condition) -> str:
        value = f"(metadata -> {self.argument(condition.key)}::text)"
        if condition.operator == "exists":
            return f"{value} is {'not ' if condition.values[0].value else ''}null"
        if condition.operator in _OF_VALUES:
            test = self._beyond(_OF_VALUES[condition.operator], condition.values[0])
        else:
            test = self._is_one_of(condition.values)
        # Of a list its values, else the value itself: of a key that is not there, none.
        found = f"""({value} is not null and exists (
            select from json_array_elements(
                case when json_typeof{value} = 'array' then {value}
                else json_build_array{value} end
            ) as element (value), lateral (
                select json_typeof(value) as kind, value #>> '{{}}' as text offset 0
            ) as own where {test}
        ))"""
        return f"not {found}" if condition.operator in ("ne", "nin") else found

    def _is_one_of(self, values: Sequence[Scalar]) -> str:
        texts = [one.value for one in values if one.kind == "text"]
        numbers = [one.value for one in values if one.kind == "number"]
        tests = []
        if texts:
            tests.append(f"kind = 'string' and text = any({self.argument(texts)}::text[])")
        if numbers:
            given = f"any({self.argument(numbers)}::numeric[])"
            tests.append(f"case when kind = 'number' then text::numeric = {given} else false end")
        for one in values:
            if one.kind == "boolean":
                tests.append(f"kind = 'boolean' and text = '{'true' if one.value else 'false'}'")
            elif one.kind == "null":
                tests.append("kind = 'null'")
        return f"({' or '.join(tests) or 'false'})"

    def _beyond(self, operator: str, limit: Scalar) -> str:
        given = self.argument(limit.value)
        if limit.kind == "number":
            compared = f"text::numeric {operator} {given}::numeric"
            return f"case when kind = 'number' then {compared} else false end"
        return f"kind = 'string' and text {operator} {given}::text collate \"C\""


def of_user(user_id: str, conversation_id: str | None, wanted: Filter) -> Where:
    """A user's memories, of a conversation if one is given, that the filter lets through."""
    where = Where()
    where.equal("user_id", user_id)
    if conversation_id is not None:
        where.equal("conversation_id", conversation_id)
    where.admitted(wanted)
    return where
