"""Pinecone's filters: what the real one refuses, and what it lets through."""

from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from typing import Any

from starlette.exceptions import HTTPException

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}
_LISTS = {"$in", "$nin"}
_VALUES = {"$eq", "$ne"}


def check(given: Any) -> None:
    """Refuse what Pinecone refuses, in its words."""
    if not isinstance(given, Mapping):
        raise HTTPException(400, "filter must be an object")
    for field, wanted in given.items():
        if field in ("$and", "$or"):
            if not isinstance(wanted, list) or not wanted:
                raise HTTPException(400, f"the {field} operator must be followed by a list")
            for each in wanted:
                check(each)
        elif field.startswith("$"):
            raise HTTPException(400, f"{field} is not a valid operator")
        elif isinstance(wanted, Mapping):
            for operator, value in wanted.items():
                _check(operator, value)
        else:
            _check("$eq", wanted)


def _check(operator: str, value: Any) -> None:
    if operator in _LISTS:
        kinds = {float if isinstance(one, (int, float)) else type(one) for one in value or []}
        if not isinstance(value, list) or len(kinds) > 1 or not kinds <= {str, float}:
            told = "must be followed by a list of strings or a list of numbers"
            raise HTTPException(400, f"the {operator} operator {told}")
        if len(value) > 10_000:
            raise HTTPException(400, f"the {operator} operator takes 10000 values")
    elif operator in _VALUES:
        if not isinstance(value, (str, bool, int, float)):
            told = "must be followed by a string, boolean or a number, got"
            named = "null" if value is None else type(value).__name__
            raise HTTPException(400, f"the {operator} operator {told} {named} instead")
    elif operator in _ORDERS:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise HTTPException(400, f"the {operator} operator must be followed by a number")
    elif operator == "$exists":
        if not isinstance(value, bool):
            raise HTTPException(400, "the $exists operator must be followed by a boolean")
    else:
        raise HTTPException(400, f"{operator} is not a valid operator")


def lets(
    given: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    schema: frozenset[str] | None = None,
    missing_differs: bool = False,
) -> bool:
    """Whether the filter lets a vector through.

    `missing_differs`: whether `$ne` and `$nin` match a vector that lacks the field. Of a `schema`
    no other field is known than those that it names.
    """
    for field, wanted in given.items():
        if field in ("$and", "$or"):
            every = all if field == "$and" else any
            parts = (
                lets(each, metadata, schema=schema, missing_differs=missing_differs)
                for each in wanted
            )
            if not every(parts):
                return False
            continue
        own = metadata.get(field)
        if schema is not None and field not in schema:
            own = None
        conditions = wanted if isinstance(wanted, Mapping) else {"$eq": wanted}
        # {f: {}} has no condition, and lets everything through.
        for operator, value in conditions.items():
            if not _holds(operator, value, own, missing_differs=missing_differs):
                return False
    return True


def _holds(operator: str, value: Any, own: Any, *, missing_differs: bool) -> bool:
    if operator == "$exists":
        return (own is not None) is value
    if own is None:
        return missing_differs and operator in ("$ne", "$nin")
    values = own if isinstance(own, list) else [own]
    if operator == "$eq":
        return any(_same(one, value) for one in values)
    if operator == "$ne":
        return not any(_same(one, value) for one in values)
    if operator == "$in":
        return any(_same(one, each) for one in values for each in value)
    if operator == "$nin":
        return not any(_same(one, each) for one in values for each in value)
    beyond = _ORDERS[operator]
    numbers = (one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool))
    return any(beyond(one, value) for one in numbers)


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
