"""The filter of a recall, a list or a delete: its grammar, and the one evaluator of what it means.

    {"tags": {"any": ["a"], "all": ["b"], "none": ["c"]},
     "metadata": {"project": "x", "priority": {"gte": 3}, "state": {"in": ["open", "late"]}},
     "occurred": {"from": "2026-05-01T00:00:00+02:00", "to": "2026-06-01T00:00:00+02:00"},
     "created": {"from": "2026-05-01T00:00:00Z"}}

All of it must hold. A condition on metadata is about one top-level key:

- a bare value, `eq`, `in`: the value is that one, or one of those; of a list, one of its values is;
- `ne`, `nin`: not so, also where there is no such key;
- `gt`, `gte`, `lt`, `lte`: the number, or the text by its code points, is above or below; of a
  list, one of its values is;
- `exists`: whether the key is there, also with null.

Texts, numbers, booleans and null are four types: a value of another type, a list in a list or an
object is never the same, above or below. Numbers are the decimals that their JSON writes, so that
1 is 1.0, and 2^53 is not 2^53 + 1. `from` is inside of a span, and `to` outside.

A driver may hand as much of it to its backend as that evaluates alike.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from operator import ge, gt, le, lt
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

from app.core.memory.checks import as_moment, check_encodable, check_tags
from app.core.memory.records import Memory, Record
from app.errors import InvalidInput
from app.settings import Limits

MOST_CONDITIONS: Final = 20
"""On metadata, in one filter."""
MOST_VALUES: Final = 100
"""Of `in` and `nin`."""
_KEY_CHARS: Final = 1_024
_VALUE_CHARS: Final = 8_192
_DIGITS: Final = 4_300
"""Before the point of a number; Python reads no more of JSON."""

Operator: TypeAlias = Literal["eq", "ne", "in", "nin", "gt", "gte", "lt", "lte", "exists"]
Kind: TypeAlias = Literal["text", "number", "boolean", "null"]
Loc: TypeAlias = tuple[str | int, ...]


class Scalar(NamedTuple):
    """A value of metadata that can be compared: `Decimal` for a number."""

    kind: Kind
    value: str | Decimal | bool | None


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of the metadata, one operator, and what it compares with: one value, but of `in`
    and `nin` any number."""

    key: str
    operator: Operator
    values: tuple[Scalar, ...]

    def holds(self, metadata: Mapping[str, Any]) -> bool:
        """Whether it holds for the metadata."""
        if self.operator == "exists":
            return (self.key in metadata) == self.values[0].value
        own = scalars(metadata[self.key]) if self.key in metadata else ()
        if self.operator in ("eq", "in"):
            return any(one in self.values for one in own)
        if self.operator in ("ne", "nin"):
            return not any(one in self.values for one in own)
        beyond, (limit,) = _ORDERS[self.operator], self.values
        return any(one.kind == limit.kind and beyond(one.value, limit.value) for one in own)


@dataclass(frozen=True, slots=True)
class Span:
    """From `start`, which is inside, to `end`, which is not; None: without an end."""

    start: datetime | None = None
    end: datetime | None = None

    def has(self, moment: datetime) -> bool:
        """Whether the moment is inside."""
        return (self.start is None or self.start <= moment) and (
            self.end is None or moment < self.end
        )

    def __bool__(self) -> bool:
        return self.start is not None or self.end is not None


ALWAYS: Final = Span()


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a record must be; without a field, whatever it is. `read_filter` makes it."""

    any_tags: tuple[str, ...] = ()
    all_tags: tuple[str, ...] = ()
    no_tags: tuple[str, ...] = ()
    metadata: tuple[Condition, ...] = ()
    occurred: Span = ALWAYS
    created: Span = ALWAYS

    def __bool__(self) -> bool:
        """Whether it may leave a record out."""
        return self != EVERYTHING

    @property
    def has_tags(self) -> bool:
        """Whether tags count."""
        return bool(self.any_tags or self.all_tags or self.no_tags)

    @property
    def on_tags(self) -> list[Condition]:
        """What it wants of tags, as conditions on a list of texts."""
        found = [Condition("tags", "eq", _as_texts([tag])) for tag in self.all_tags]
        if self.any_tags:
            found.append(Condition("tags", "in", _as_texts(self.any_tags)))
        if self.no_tags:
            found.append(Condition("tags", "nin", _as_texts(self.no_tags)))
        return found

    def admits_tags(self, tags: Collection[str]) -> bool:
        """Whether a record may have these tags."""
        return (
            (not self.any_tags or not set(self.any_tags).isdisjoint(tags))
            and set(self.all_tags).issubset(tags)
            and set(self.no_tags).isdisjoint(tags)
        )

    def admits(
        self,
        *,
        tags: Collection[str] = (),
        metadata: Mapping[str, Any],
        occurred_at: datetime,
        created_at: datetime,
    ) -> bool:
        """Whether it lets a record through."""
        return (
            self.occurred.has(occurred_at)
            and self.created.has(created_at)
            and self.admits_tags(tags)
            and all(condition.holds(metadata) for condition in self.metadata)
        )

    def lets(self, record: Record) -> bool:
        """Whether it lets the record through."""
        if isinstance(record, Memory):
            tags, occurred_at = record.tags, record.occurred_at
        else:
            tags, occurred_at = [], record.created_at
        return self.admits(
            tags=tags,
            metadata=record.metadata,
            occurred_at=occurred_at,
            created_at=record.created_at,
        )


EVERYTHING: Final = Filter()


def scalar(value: object) -> Scalar | None:
    """The value as it is compared; None for a list or an object.

    A float counts as the shortest decimal that is read as it, which is what JSON has of it.
    """
    if isinstance(value, bool):
        return Scalar("boolean", value)
    if isinstance(value, int):
        return Scalar("number", Decimal(value))
    if isinstance(value, float):
        return Scalar("number", Decimal(repr(value)))
    if isinstance(value, str):
        return Scalar("text", value)
    return Scalar("null", None) if value is None else None


def read_filter(
    given: Mapping[str, Any] | None,
    limits: Limits,
    loc: Loc = ("filter",),
    *,
    knowledge: bool = False,
) -> Filter:
    """The filter; raises `InvalidInput` at the place of what the grammar does not know.

    One of `knowledge` has neither `tags` nor `occurred`.
    """
    if given is None:
        return EVERYTHING
    readers: dict[str, Callable[[Any, Loc], dict[str, Any]]] = {
        "metadata": lambda value, at: {"metadata": _conditions(value, at)},
        "created": lambda value, at: {"created": _span(value, at)},
    }
    if not knowledge:
        readers["tags"] = partial(_tags, limits=limits)
        readers["occurred"] = lambda value, at: {"occurred": _span(value, at)}
    fields: dict[str, Any] = {}
    for name, value in _members(given, readers, loc):
        fields |= readers[name](value, (*loc, name))
    return Filter(**fields)


def _members(given: Any, known: Collection[str], loc: Loc) -> Sequence[tuple[str, Any]]:
    """The members of an object, each of a name that is known."""
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{loc[-1]} must be an object", loc)
    for name in given:
        if name not in known:
            raise InvalidInput(f"unknown; there are {', '.join(known)}", (*loc, name))
    return [*given.items()]


def _tags(given: Any, loc: Loc, limits: Limits) -> dict[str, Any]:
    names = {"any": "any_tags", "all": "all_tags", "none": "no_tags"}
    found: dict[str, Any] = {}
    for name, tags in _members(given, names, loc):
        if tags is None:
            raise InvalidInput(f"{name} must be a list of strings", (*loc, name))
        if name == "any" and not tags:
            raise InvalidInput("any must name a tag", (*loc, name))
        found[names[name]] = tuple(check_tags(tags, limits, (*loc, name)))
    return found


def _span(given: Any, loc: Loc) -> Span:
    ends: dict[str, datetime] = {}
    for name, moment in _members(given, ("from", "to"), loc):
        ends[name] = as_moment(moment, (*loc, name))
    return Span(ends.get("from"), ends.get("to"))


def _conditions(given: Any, loc: Loc) -> tuple[Condition, ...]:
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{loc[-1]} must be an object", loc)
    found: list[Condition] = []
    for key, wanted in given.items():
        at = (*loc, key)
        if not isinstance(key, str):
            raise InvalidInput("the keys of a JSON object are strings", loc)
        if len(key) > _KEY_CHARS:
            raise InvalidInput(f"the key has more than {_KEY_CHARS} characters", loc)
        check_encodable(key, at)
        if isinstance(wanted, Mapping):
            if not wanted:
                raise InvalidInput(f"no operator; there are {', '.join(_OPERATORS)}", at)
            for operator, value in _members(wanted, _OPERATORS, at):
                known = cast(Operator, operator)
                values = _OPERATORS[known](value, (*at, operator))
                if known != "nin" or values:  # what is none of none is everything
                    found.append(Condition(key, known, values))
        else:
            found.append(Condition(key, "eq", _one(wanted, at)))
    if len(found) > MOST_CONDITIONS:
        raise InvalidInput(
            f"there are {len(found)} conditions; the limit is {MOST_CONDITIONS}", loc
        )
    return tuple(found)


def _one(value: Any, loc: Loc) -> tuple[Scalar, ...]:
    found = scalar(value)
    if found is None:
        raise InvalidInput("must be a string, a number, true, false or null", loc)
    return (_checked(found, loc),)


def _some(values: Any, loc: Loc) -> tuple[Scalar, ...]:
    if not isinstance(values, (list, tuple)):
        raise InvalidInput("must be a list", loc)
    if len(values) > MOST_VALUES:
        raise InvalidInput(f"there are {len(values)} values; the limit is {MOST_VALUES}", loc)
    return tuple(one for n, value in enumerate(values) for one in _one(value, (*loc, n)))


def _limit(value: Any, loc: Loc) -> tuple[Scalar, ...]:
    (found,) = _one(value, loc)
    if found.kind not in ("text", "number"):
        raise InvalidInput("must be a string or a number", loc)
    return (found,)


def _truth(value: Any, loc: Loc) -> tuple[Scalar, ...]:
    if not isinstance(value, bool):
        raise InvalidInput("must be true or false", loc)
    return (Scalar("boolean", value),)


def _checked(value: Scalar, loc: Loc) -> Scalar:
    if isinstance(value.value, Decimal):
        if not value.value.is_finite():
            raise InvalidInput("JSON has no NaN and no infinity", loc)
        if value.value.adjusted() >= _DIGITS:
            raise InvalidInput(f"a number of more than {_DIGITS} digits", loc)
    if isinstance(value.value, str):
        if len(value.value) > _VALUE_CHARS:
            raise InvalidInput(f"a text of more than {_VALUE_CHARS} characters", loc)
        check_encodable(value.value, loc)
    return value


_OPERATORS: Final[dict[Operator, Callable[[Any, Loc], tuple[Scalar, ...]]]] = {
    "eq": _one,
    "ne": _one,
    "in": _some,
    "nin": _some,
    "gt": _limit,
    "gte": _limit,
    "lt": _limit,
    "lte": _limit,
    "exists": _truth,
}
_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


def _as_texts(values: Sequence[str]) -> tuple[Scalar, ...]:
    return tuple(Scalar("text", value) for value in values)


def scalars(value: object) -> Sequence[Scalar]:
    """What a value of the metadata is compared by: itself, of a list its values."""
    values = value if isinstance(value, (list, tuple)) else (value,)
    return [one for one in map(scalar, values) if one is not None]
