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

OF_TENANT = "left(user_id, 1) = E'\\x1f' and strpos(substr(user_id, 2), E'\\x1f') = 0"
"""Whether a memory is a tenant's knowledge; an index has it in this form, and what follows."""
DOCUMENT = "metadata ->> 'doc_id'"
POSITION = """case when json_typeof(metadata -> 'position') = 'number'
    then (metadata ->> 'position')::numeric else 2147483647 end"""

_OF_VALUES = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

# `json` keeps an escape that is no character, as another client may have written it, and fails
# when it is read: U+0000, and half of a surrogate pair. U+FFFD stands in its place. Once no escape
# is of a backslash, every backslash begins one.
_NO_CHARACTER = "|".join(
    (
        r"\\u0000",
        r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])",
        r"(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]..",
    )
)
_METADATA = rf"""(
    case when strpos(metadata::text, '\u') = 0 then metadata else regexp_replace(
        replace(metadata::text, '\\', '\u005c'), '{_NO_CHARACTER}', '\ufffd', 'g'
    )::json end
)"""

# PostgreSQL can't make a `numeric` of every number of JSON: of every integer that Python reads, and
# of every float. What is larger or smaller, as another client may have written it, is no number.
_NUMBER = """case
    when kind = 'number' and length(text) <= 4400 and text !~ '[eE][+-]?0*[1-9][0-9]{3}'
    then text::numeric
end"""


class Where:
    """Conditions that all must hold, and their arguments from the statement's `first` on."""

    def __init__(self, first: int = 1) -> None:
        self.arguments: list[Any] = []
        self._first = first
        self._conditions: list[str] = []

    def __str__(self) -> str:
        return " and ".join(self._conditions) or "true"

    def argument(self, value: Any) -> str:
        """How a statement names the value, which becomes the next argument."""
        self.arguments.append(value)
        return f"${self._first + len(self.arguments) - 1}"

    def equal(self, column: str, value: Any) -> None:
        """The column has the value."""
        self._conditions.append(f"{column} = {self.argument(value)}")

    def alive(self, now: datetime) -> None:
        """It has not expired."""
        self._conditions.append(f"(expires_at is null or expires_at > {self.argument(now)})")

    def before(self, columns: str, values: Sequence[Any]) -> None:
        """The columns stand before these values."""
        self._conditions.append(f"({columns}) < ({', '.join(map(self.argument, values))})")

    def after(self, columns: str, values: Sequence[Any]) -> None:
        """The columns stand after these values."""
        self._conditions.append(f"({columns}) > ({', '.join(map(self.argument, values))})")

    def of_document(self, doc_id: str) -> None:
        """It is a memory that is a tenant's knowledge, of that document."""
        self._conditions.append(f"{OF_TENANT} and ({DOCUMENT}) = {self.argument(doc_id)}")

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
        value = f"{_METADATA} -> {self.argument(condition.key)}::text"
        if condition.operator == "exists":
            return f"({value}) is {'not ' if condition.values[0].value else ''}null"
        if condition.operator in _OF_VALUES:
            test = self._beyond(_OF_VALUES[condition.operator], condition.values[0])
        else:
            test = self._is_one_of(condition.values)
        # Of a list its values, else the value itself: of a key that is not there, none.
        found = f"""exists (
            select from (select {value} as value offset 0) as own, lateral (
                select value as one where json_typeof(value) <> 'array'
                union all
                select json_array_elements(case when json_typeof(value) = 'array' then value end)
            ) as each, lateral (
                select json_typeof(one) as kind, one #>> '{{}}' as text offset 0
            ) as read where {test}
        )"""
        return f"not {found}" if condition.operator in ("ne", "nin") else found

    def _is_one_of(self, values: Sequence[Scalar]) -> str:
        texts = [one.value for one in values if one.kind == "text"]
        numbers = [one.value for one in values if one.kind == "number"]
        truths = {"true" if one.value else "false" for one in values if one.kind == "boolean"}
        tests = [f"kind = 'boolean' and text = '{truth}'" for truth in sorted(truths)]
        if texts:
            tests.append(f"kind = 'string' and text = any({self.argument(texts)}::text[])")
        if numbers:
            tests.append(f"{_NUMBER} = any({self.argument(numbers)}::numeric[])")
        if any(one.kind == "null" for one in values):
            tests.append("kind = 'null'")
        return f"({' or '.join(tests) or 'false'})"

    def _beyond(self, operator: str, limit: Scalar) -> str:
        given = self.argument(limit.value)
        if limit.kind == "number":
            return f"{_NUMBER} {operator} {given}::numeric"
        return f"kind = 'string' and text {operator} {given}::text collate \"C\""


def of_user(user_id: str, conversation_id: str | None, wanted: Filter) -> Where:
    """A user's memories, of a conversation if one is given, that the filter lets through."""
    where = Where()
    where.equal("user_id", user_id)
    if conversation_id is not None:
        where.equal("conversation_id", conversation_id)
    where.admitted(wanted)
    return where
