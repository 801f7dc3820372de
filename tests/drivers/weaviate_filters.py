"""How Weaviate compares: its tokenizations, and the filters of its gRPC API."""

import re
from collections.abc import Callable
from typing import Any

from tests.drivers.weaviate_messages import operator

STOPWORDS = frozenset({"a", "an", "and", "of", "the", "is", "not", "or", "to"})
"""Some of Weaviate's preset `en`."""

Admits = Callable[["Stored"], bool]


class Refused(Exception):
    """A request that Weaviate answers with an error."""


class Stored:
    """An object of a collection."""

    def __init__(self, uuid: str, values: dict[str, Any], vector: Any) -> None:
        self.uuid = uuid
        self.values = values
        self.vector = vector


def tokens(text: str, tokenization: str) -> list[str]:
    """What an index has of a text."""
    if tokenization == "field":
        return [text.strip()]
    if tokenization == "whitespace":
        return text.split()
    return [word.lower() for word in re.findall(r"[^\W_]+", text)]


def compiled(given: Any, properties: dict[str, dict[str, Any]], stopwords: str) -> Admits:
    """What tells whether a filter lets an object through."""

    def inner(each: Any) -> Admits:
        return compiled(each, properties, stopwords)

    kind = given.operator
    if kind in (operator("AND"), operator("OR")):
        if not given.filters:
            raise Refused("filter: no operands")
        parts = [inner(each) for each in given.filters]
        meet = all if kind == operator("AND") else any
        return lambda one: meet(part(one) for part in parts)
    if kind == operator("NOT"):
        if len(given.filters) != 1:
            raise Refused("filter: NOT takes exactly one operand")
        part = inner(given.filters[0])
        return lambda one: not part(one)
    if not given.HasField("target") or not given.target.property:
        raise Refused("filter: no target")
    return _condition(given, given.target.property, properties, stopwords)


def _condition(
    given: Any, name: str, properties: dict[str, dict[str, Any]], stopwords: str
) -> Admits:
    if name == "_id":
        return _on_texts(given, lambda one: [one.uuid], lambda text: [text])
    found = properties.get(name)
    if found is None:
        raise Refused(f"no such prop with name '{name}' found in class")
    if not found.get("indexFilterable") and not found.get("indexRangeFilters"):
        raise Refused(f"property '{name}' is not indexed: filterable or rangeable index missing")
    if found["dataType"][0] == "number":
        return _on_numbers(given, name)
    tokenization = found.get("tokenization") or "word"

    def wanted(text: str) -> list[str]:
        words = tokens(text, tokenization)
        if tokenization == "word" and stopwords == "en":
            words = [word for word in words if word not in STOPWORDS]
            if not words:
                raise Refused("invalid search term, only stopwords provided")
        return words

    def own(one: Stored) -> list[str]:
        value = one.values.get(name)
        return [] if value is None else tokens(value, tokenization)

    return _on_texts(given, own, wanted)


def _on_texts(
    given: Any, own: Callable[[Stored], list[str]], wanted: Callable[[str], list[str]]
) -> Admits:
    kind = given.operator
    if kind in (operator("CONTAINS_ANY"), operator("CONTAINS_ALL"), operator("CONTAINS_NONE")):
        if not given.value_text_array.values:
            raise Refused("filter: no valueText field set")
        every = [wanted(text) for text in given.value_text_array.values]
        if all(len(words) == 1 for words in every) and kind == operator("CONTAINS_ANY"):
            some = {words[0] for words in every}
            return lambda one: not some.isdisjoint(own(one))
        meet = all if kind == operator("CONTAINS_ALL") else any

        def holds(one: Stored) -> bool:
            there = own(one)
            found = meet(set(words) <= set(there) for words in every)
            return not found if kind == operator("CONTAINS_NONE") else found

        return holds
    if given.WhichOneof("test_value") != "value_text":
        raise Refused("filter: data type filter cannot be used for this property")
    words = wanted(given.value_text)
    if kind == operator("EQUAL"):
        return lambda one: set(words) <= set(own(one))
    if kind == operator("NOT_EQUAL"):
        return lambda one: not set(words) <= set(own(one))
    [limit] = words
    beyond = _BEYOND.get(kind)
    if beyond is None:
        raise Refused("filter: operator is not supported")
    return lambda one: any(beyond(text.encode(), limit.encode()) for text in own(one))


def _on_numbers(given: Any, name: str) -> Admits:
    if given.WhichOneof("test_value") != "value_number":
        raise Refused("filter: data type filter cannot be used for this property")
    limit = given.value_number
    kind = given.operator
    if kind == operator("EQUAL"):
        return lambda one: one.values.get(name) == limit
    beyond = _BEYOND.get(kind)
    if beyond is None:
        raise Refused("filter: operator is not supported")
    return lambda one: name in one.values and beyond(one.values[name], limit)


_BEYOND: dict[int, Callable[[Any, Any], bool]] = {
    operator("GREATER_THAN"): lambda a, b: a > b,
    operator("GREATER_THAN_EQUAL"): lambda a, b: a >= b,
    operator("LESS_THAN"): lambda a, b: a < b,
    operator("LESS_THAN_EQUAL"): lambda a, b: a <= b,
}
