"""Field types whose limits are settings, both when they check and in the OpenAPI schema."""

from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Annotated, Any, LiteralString, TypeAlias, TypeVar

from pydantic import (
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from app.core.memory.batches import MOST_NAMED
from app.core.memory.checks import (
    MOST_RECENCY,
    MOST_TTL,
    check_batch,
    check_half_life,
    check_id,
    check_metadata,
    check_recency_weight,
    check_tags,
    check_text,
    check_top_k,
    check_ttl,
    check_whole,
    read_moment,
)
from app.core.memory.cutting import LEAST_PIECE_CHARS
from app.errors import InvalidInput
from app.settings import Limits

current_limits: ContextVar[Limits] = ContextVar("current_limits")
"""The limits of the application that handles this request, or whose schema is being made."""


class Limited:
    """Checks a value as the drivers do, and describes the check as a JSON schema.

    The check is given the value, the limits and the name of the field; the error's place within
    the field is kept in its context, as `within`. A check that comes `first` sees any value.
    """

    def __init__(
        self,
        check: Callable[[Any, Limits, str], Any],
        schema: Callable[[Limits], dict[str, Any]],
        *,
        first: bool = False,
    ) -> None:
        self._check = check
        self._schema = schema
        self._first = first

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema: Any = handler(source)
        if schema["type"] == "list":
            schema["fail_fast"] = True  # millions of wrong entries can be in one body
        if self._first:
            return core_schema.with_info_before_validator_function(self._validate, schema)
        return core_schema.with_info_after_validator_function(self._validate, schema)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), **self._schema(current_limits.get())}

    def _validate(self, value: Any, info: ValidationInfo) -> Any:
        try:
            return self._check(value, current_limits.get(), info.field_name or "value")
        except InvalidInput as error:
            raise refusal("invalid_input", str(error), error.loc[1:]) from None


_bad_entries: ContextVar[list[None]] = ContextVar("bad_entries")
"""As long as there are bad entries in the batch that is being checked."""


class Entries(Limited):
    """The same of a batch, the errors of whose first `MOST_NAMED` bad entries are found.

    What comes behind these is not looked at: the batch is refused anyway.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema: Any = handler(source)
        entry = schema["items_schema"]
        schema["items_schema"] = core_schema.no_info_wrap_validator_function(_entry, entry)
        entries = core_schema.no_info_wrap_validator_function(_entries, schema)
        return core_schema.with_info_before_validator_function(self._validate, entries)


def _entries(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    token = _bad_entries.set([])
    try:
        return check(value)
    finally:
        _bad_entries.reset(token)


def _entry(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    bad = _bad_entries.get()
    if len(bad) >= MOST_NAMED:
        return value
    try:
        return check(value)
    except ValidationError:
        bad.append(None)
        raise


def refusal(
    kind: LiteralString, message: str, within: tuple[str | int, ...]
) -> PydanticCustomError:
    """A validation error of the part `within` of a value.

    The message is taken as it is, but for lone surrogates, which pydantic can't tell.
    """
    told = message.encode(errors="replace").decode()
    return PydanticCustomError(kind, "{message}", {"message": told, "within": within})


def _text(limit: str) -> Limited:
    return Limited(
        lambda value, limits, name: check_text(value, getattr(limits, limit), (name,)),
        lambda limits: {"minLength": 1, "maxLength": getattr(limits, limit)},
    )


def _batch(value: Any, limits: Limits, name: str) -> Any:
    if isinstance(value, list):
        check_batch(value, limits, name)
    return value


def _tags(value: list[str], limits: Limits, name: str) -> list[str]:
    return check_tags(value, limits, (name,))


def _metadata(value: dict[str, Any], limits: Limits, name: str) -> dict[str, Any]:
    return check_metadata(value, limits, (name,))


def _record_id(value: str, _: Limits, __: str) -> str:
    return str(check_id(value, "the id"))


def _moment(value: Any, _: Limits, name: str) -> Any:
    return value if value is None else read_moment(value, name)


UserId: TypeAlias = Annotated[str, _text("user_id_chars")]
ConversationId: TypeAlias = Annotated[str, _text("conversation_id_chars")]
Content: TypeAlias = Annotated[str, _text("content_chars")]
Query: TypeAlias = Annotated[str, _text("query_chars")]
Category: TypeAlias = Annotated[str, _text("category_chars")]
Title: TypeAlias = Annotated[str, _text("title_chars")]
DocId: TypeAlias = Annotated[str, _text("doc_id_chars")]
HalfLife: TypeAlias = Annotated[
    float,
    Limited(
        lambda value, _, name: check_half_life(value, (name,)),
        lambda _: {"exclusiveMinimum": 0},
    ),
]
RecencyWeight: TypeAlias = Annotated[
    float,
    Limited(
        lambda value, _, name: check_recency_weight(value, (name,)),
        lambda _: {"minimum": 0, "maximum": MOST_RECENCY},
    ),
]
TopK: TypeAlias = Annotated[
    int,
    Limited(check_top_k, lambda limits: {"minimum": 1, "maximum": limits.top_k}),
]
PieceChars: TypeAlias = Annotated[
    int,
    Limited(
        lambda value, limits, name: check_whole(
            value, LEAST_PIECE_CHARS, limits.content_chars, name
        ),
        lambda limits: {"minimum": LEAST_PIECE_CHARS, "maximum": limits.content_chars},
    ),
]
Tags: TypeAlias = Annotated[
    list[str],
    Limited(
        _tags,
        lambda limits: {
            "maxItems": limits.tags,
            "items": {"type": "string", "minLength": 1, "maxLength": limits.tag_chars},
        },
    ),
]
Metadata: TypeAlias = Annotated[dict[str, Any], Limited(_metadata, lambda _: {})]
Moment: TypeAlias = Annotated[datetime, Limited(_moment, lambda _: {}, first=True)]
Ttl: TypeAlias = Annotated[
    float,
    Limited(
        lambda value, _, name: check_ttl(value, (name,)),
        lambda _: {"exclusiveMinimum": 0, "maximum": MOST_TTL},
    ),
]
RecordId: TypeAlias = Annotated[str, Limited(_record_id, lambda _: {"format": "uuid"})]

Entry = TypeVar("Entry")
Batch: TypeAlias = Annotated[
    list[Entry],
    Entries(_batch, lambda limits: {"minItems": 1, "maxItems": limits.batch}),
]
