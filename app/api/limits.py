"""Field types whose limits are settings, both when they check and in the OpenAPI schema."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from app.core.memory.records import (
    check_batch,
    check_id,
    check_metadata,
    check_tags,
    check_text,
    check_top_k,
)
from app.errors import InvalidInput
from app.settings import Limits

current_limits: ContextVar[Limits] = ContextVar("current_limits")
"""The limits of the application that handles this request, or whose schema is being made."""


class _Limited:
    """Checks a value as the drivers do, and describes the check as a JSON schema."""

    def __init__(
        self,
        check: Callable[[Any, Limits], Any],
        schema: Callable[[Limits], dict[str, Any]],
    ) -> None:
        self._check = check
        self._schema = schema

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._validate, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), **self._schema(current_limits.get())}

    def _validate(self, value: Any) -> Any:
        try:
            return self._check(value, current_limits.get())
        except InvalidInput as error:
            message = str(error).replace("{", "{{").replace("}", "}}")
            raise PydanticCustomError("invalid_input", "{message}", {"message": message}) from None


def _text(limit: str) -> _Limited:
    return _Limited(
        lambda value, limits: check_text(
            value, getattr(limits, limit), (limit.removesuffix("_chars"),)
        ),
        lambda limits: {"minLength": 1, "maxLength": getattr(limits, limit)},
    )


def _top_k(name: str) -> _Limited:
    return _Limited(
        lambda value, limits: check_top_k(value, limits, name),
        lambda limits: {"minimum": 1, "maximum": limits.top_k},
    )


def batch(name: str) -> Any:
    """The annotation of a list that has at least one entry and at most the batch limit."""

    def check(value: list[Any], limits: Limits) -> list[Any]:
        check_batch(value, limits, name)
        return value

    return _Limited(check, lambda limits: {"minItems": 1, "maxItems": limits.batch})


def _tags(value: list[str], limits: Limits) -> list[str]:
    return check_tags(value, limits, ("tags",))


def _metadata(value: dict[str, Any], limits: Limits) -> dict[str, Any]:
    return check_metadata(value, limits, ("metadata",))


UserId: TypeAlias = Annotated[str, _text("user_id_chars")]
ConversationId: TypeAlias = Annotated[str, _text("conversation_id_chars")]
Content: TypeAlias = Annotated[str, _text("content_chars")]
Query: TypeAlias = Annotated[str, _text("query_chars")]
Category: TypeAlias = Annotated[str, _text("category_chars")]
Title: TypeAlias = Annotated[str, _text("title_chars")]
DocId: TypeAlias = Annotated[str, _text("doc_id_chars")]
TopK: TypeAlias = Annotated[int, _top_k("top_k")]
PageSize: TypeAlias = Annotated[int, _top_k("limit")]
Tags: TypeAlias = Annotated[
    list[str],
    _Limited(
        _tags,
        lambda limits: {
            "maxItems": limits.tags,
            "items": {"type": "string", "minLength": 1, "maxLength": limits.tag_chars},
        },
    ),
]
Metadata: TypeAlias = Annotated[dict[str, Any], _Limited(_metadata, lambda _: {})]
RecordId: TypeAlias = Annotated[
    str,
    _Limited(lambda value, _: str(check_id(value, "id")), lambda _: {"format": "uuid"}),
]
