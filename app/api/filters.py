"""The filter as a field of a request, and as JSON in a query parameter."""

from functools import partial
from typing import Annotated, Any, Final, TypeAlias

from app.api.body import parse_text
from app.api.limits import Limited
from app.core.memory.filter import MOST_VALUES, read_filter
from app.errors import InvalidInput
from app.settings import Limits

_MOST_CHARS: Final = 16_384
"""Of a filter in a URL, which a request line takes percent-encoded."""


def filter_in(text: str) -> dict[str, Any]:
    """The filter that a query parameter has; raises `InvalidInput` for what is no JSON."""
    value: dict[str, Any] = parse_text(text)
    return value


def _checked(value: dict[str, Any], limits: Limits, name: str, *, knowledge: bool) -> Any:
    read_filter(value, limits, (name,), knowledge=knowledge)
    return value


def _checked_text(value: str, limits: Limits, name: str, *, knowledge: bool) -> str:
    if len(value) > _MOST_CHARS:
        said = f"{name} has {len(value)} characters; the limit is {_MOST_CHARS}"
        raise InvalidInput(said, (name,))
    read_filter(filter_in(value), limits, (name,), knowledge=knowledge)
    return value


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


_MOMENT = {"type": "string", "format": "date-time"}
_SPAN = _object({"from": _MOMENT, "to": _MOMENT})
_SCALAR: dict[str, Any] = {
    "anyOf": [{"type": kind} for kind in ("string", "number", "boolean", "null")]
}
_LIMIT = {"anyOf": [{"type": "string"}, {"type": "number"}]}
_SCALARS = {"type": "array", "items": _SCALAR, "maxItems": MOST_VALUES}
_CONDITIONS = _object(
    {
        **dict.fromkeys(("eq", "ne"), _SCALAR),
        **dict.fromkeys(("in", "nin"), _SCALARS),
        **dict.fromkeys(("gt", "gte", "lt", "lte"), _LIMIT),
        "exists": {"type": "boolean"},
    }
)


def _schema(limits: Limits, *, knowledge: bool) -> dict[str, Any]:
    """The grammar of `app.core.memory.filter` as a JSON schema."""
    tag = {"type": "string", "minLength": 1, "maxLength": limits.tag_chars}
    tags = {"type": "array", "items": tag, "maxItems": limits.tags}
    known = {
        "metadata": {
            "type": "object",
            "additionalProperties": {"anyOf": [*_SCALAR["anyOf"], _CONDITIONS]},
        },
        "created": _SPAN,
    }
    if not knowledge:
        known["tags"] = _object({"any": {**tags, "minItems": 1}, "all": tags, "none": tags})
        known["occurred"] = _SPAN
    return _object(known)


MemoryFilter: TypeAlias = Annotated[
    dict[str, Any],
    Limited(partial(_checked, knowledge=False), partial(_schema, knowledge=False)),
]
KnowledgeFilter: TypeAlias = Annotated[
    dict[str, Any],
    Limited(partial(_checked, knowledge=True), partial(_schema, knowledge=True)),
]
KnowledgeFilterText: TypeAlias = Annotated[
    str,
    Limited(
        partial(_checked_text, knowledge=True),
        lambda _: {"contentMediaType": "application/json", "maxLength": _MOST_CHARS},
    ),
]
FilterText: TypeAlias = Annotated[
    str,
    Limited(
        partial(_checked_text, knowledge=False),
        lambda _: {"contentMediaType": "application/json", "maxLength": _MOST_CHARS},
    ),
]
