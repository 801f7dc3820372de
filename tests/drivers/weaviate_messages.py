"""Weaviate's official message types: what is sent is read with them, and what is answered written.

They are the ones of the official client, so that nobody here has written what a body may have.
"""

from typing import Any, Final

from google.protobuf import json_format
from weaviate.proto.v1.v6300.v1 import (
    aggregate_pb2,
    base_pb2,
    batch_delete_pb2,
    batch_pb2,
    properties_pb2,
    search_get_pb2,
)

REQUESTS: Final[dict[str, Any]] = {
    "Search": search_get_pb2.SearchRequest,
    "BatchObjects": batch_pb2.BatchObjectsRequest,
    "BatchDelete": batch_delete_pb2.BatchDeleteRequest,
    "Aggregate": aggregate_pb2.AggregateRequest,
}
REPLIES: Final[dict[str, Any]] = {
    "Search": search_get_pb2.SearchReply,
    "BatchObjects": batch_pb2.BatchObjectsReply,
    "BatchDelete": batch_delete_pb2.BatchDeleteReply,
    "Aggregate": aggregate_pb2.AggregateReply,
}
_RESULT = json_format.MessageToDict(
    search_get_pb2.SearchResult(
        properties=search_get_pb2.PropertiesResult(non_ref_props=properties_pb2.Properties()),
        metadata=search_get_pb2.MetadataResult(),
    ),
    always_print_fields_with_no_presence=True,
)
"""An object that a search found, of which nothing was asked for."""
Filters = base_pb2.Filters
ALL = base_pb2.CONSISTENCY_LEVEL_ALL
FP32 = base_pb2.Vectors.VECTOR_TYPE_SINGLE_FP32


def read(method: str, body: Any) -> Any:
    """The request; a field that there is not is dropped without a word, as Weaviate does."""
    return json_format.ParseDict(body, REQUESTS[method](), ignore_unknown_fields=True)


def unknown_fields(method: str, body: Any) -> str | None:
    """What of a body no such request has; None: nothing."""
    try:
        json_format.ParseDict(body, REQUESTS[method]())
    except json_format.ParseError as error:
        return str(error)
    return None


def written(reply: Any) -> dict[str, Any]:
    """The reply as Weaviate writes it: 64 bits as text, and zeros for what is not there."""
    answer: dict[str, Any] = json_format.MessageToDict(
        reply, always_print_fields_with_no_presence=True
    )
    return answer


def result(fields: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """An object that a search found, as `written` would write it, in a hundredth of the time."""
    properties = {**_RESULT["properties"], "nonRefProps": {"fields": fields}}
    return {"properties": properties, "metadata": {**_RESULT["metadata"], **metadata}}


def operator(name: str) -> int:
    """The number of a filter's operator."""
    number: int = Filters.Operator.Value(f"OPERATOR_{name}")
    return number
