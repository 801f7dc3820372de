"""The forms that an import reads: what each has, and which of our fields that is.

- mem0: what `get_all` answers and a saved export has: a list, or an object with `results`, of
  memories with id, memory, user_id, agent_id, run_id, metadata, categories, created_at, updated_at
  (docs.mem0.ai/api-reference/memory/get-memory); and OpenMemory's `memories.jsonl.gz`, lines with
  id, content, metadata, created_at, updated_at, state, app, categories
  (github.com/mem0ai/mem0, openmemory/api/app/routers/backup.py).
- AutoMem: `falkordb_*.json.gz` of its backup: an object with `nodes`, of which those with the label
  Memory have id, content, tags, timestamp, updated_at, metadata, importance, type and more as
  `properties` (github.com/verygoodplugins/automem, scripts/backup_automem.py).
- LangGraph: rows of the table `store`, as CSV with a head or as JSON lines: prefix, key, value,
  created_at, updated_at, expires_at; or its Items as JSON lines, with `namespace` as a list
  (github.com/langchain-ai/langgraph, libs/checkpoint-postgres/langgraph/store/postgres/base.py).
- csv and jsonl: columns, or fields, with our own names, or as --map says. What is none of ours goes
  into the metadata.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Final

from app.core.memory.checks import dump_json
from app.errors import InvalidInput
from app.settings import Limits
from app.transfer.files import name_without_compression
from app.transfer.foreign.documents import Item, lines_of, listed_in, rows_of
from app.transfer.foreign.mapping import FIELDS, Said, object_of, record_of, tags_of
from app.transfer.lines import Line

_TEXTS: Final = ("content", "memory", "text", "data")
"""Where the text of a memory is in a value of LangGraph's, which anybody may make as they like."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a program's file is read."""

    items: Callable[[IO[bytes], str], Iterator[Item]]
    """The objects of a file that has this name, without the compression."""
    fields: Callable[[Mapping[str, Any], Said], dict[str, Any] | None]
    """Our fields of an object; None of one that is no memory."""


def records_in(
    form: str, file: IO[bytes], name: str, said: Said, now: datetime, limits: Limits
) -> Iterator[Line]:
    """The records of a file. Raises `InvalidInput` that tells where in the file it is wrong."""
    known = FORMS[form]
    for place, item in known.items(file, name_without_compression(name).lower()):
        try:
            fields = known.fields(item, said)
            if fields is not None:
                yield record_of(said.applied(fields, item), form, now, limits)
        except InvalidInput as error:
            raise InvalidInput(f"{place}: {error}", error.loc) from None


def _mem0_items(file: IO[bytes], name: str) -> Iterator[Item]:
    return lines_of(file) if name.endswith((".jsonl", ".ndjson")) else listed_in(file, "results")


def _mem0(item: Mapping[str, Any], _: Said) -> dict[str, Any] | None:
    if item.get("state") == "deleted":
        return None
    ours = {"id", "memory", "content", "user_id", "run_id", "metadata", "categories"}
    ours |= {"created_at", "updated_at", "expiration_date"}
    metadata = object_of(item.get("metadata"), "metadata")
    more = {key: one for key, one in item.items() if key not in ours and one not in (None, [], {})}
    return {
        "memory_id": item.get("id"),
        "user_id": item.get("user_id"),
        "content": item.get("memory", item.get("content")),
        "conversation_id": item.get("run_id"),
        "tags": tags_of(item.get("categories")),
        "metadata": {**more, **metadata},
        "created_at": item.get("created_at"),
        "updated_at": item.get("updated_at"),
        "expires_at": item.get("expiration_date"),
    }


def _automem_items(file: IO[bytes], _: str) -> Iterator[Item]:
    for place, node in listed_in(file, "nodes"):
        if "Memory" in node.get("labels", ()):
            item = object_of(node.get("properties"), "properties")
            yield place, {**item, "metadata": object_of(item.get("metadata"), "metadata")}


def _automem(item: Mapping[str, Any], _: Said) -> dict[str, Any] | None:
    metadata = item["metadata"]
    if "mds" in metadata:
        raise InvalidInput(
            "this service stored it: use memory-driver copy, with the driver automem as the source"
        )
    ours = {"id", "content", "tags", "metadata", "timestamp", "updated_at"}
    made = {"tag_prefixes", "embedding", "last_accessed", "relevance_score", "processed"}
    more = {
        key: one
        for key, one in item.items()
        if key not in ours | made and one not in (None, "", [], {})
    }
    return {
        "memory_id": item.get("id"),
        "content": item.get("content"),
        "tags": tags_of(item.get("tags")),
        "metadata": {**more, **metadata},
        "created_at": item.get("timestamp"),
        "updated_at": item.get("updated_at"),
        "occurred_at": item.get("timestamp"),
    }


def _langgraph_items(file: IO[bytes], name: str) -> Iterator[Item]:
    for place, row in rows_of(file) if name.endswith(".csv") else lines_of(file):
        value = row.get("value")
        namespace = row.get("namespace", row.get("prefix"))
        yield (
            place,
            {
                **row,
                "value": object_of(value, "value") if isinstance(value, str) else value,
                "namespace": namespace.split(".") if isinstance(namespace, str) else namespace,
            },
        )


def _langgraph(item: Mapping[str, Any], _: Said) -> dict[str, Any] | None:
    value, namespace, key = item["value"], item["namespace"], item.get("key")
    if not isinstance(value, Mapping) or not isinstance(namespace, list) or key is None:
        raise InvalidInput("a row of the store has a prefix, a key and a value")
    name = next((each for each in _TEXTS if value.get(each)), None)
    text = None if name is None else value[name]
    if isinstance(text, Mapping) and isinstance(text.get("content"), str):
        text = text["content"]
    rest = {each: one for each, one in value.items() if each != name}
    if not isinstance(text, str):
        text, rest = dump_json(value), {}
    return {
        "memory_id": f"{dump_json(namespace)}/{key}",
        "content": text,
        "metadata": {**rest, "langgraph": {"namespace": namespace, "key": key}},
        "created_at": item.get("created_at"),
        "updated_at": item.get("updated_at"),
        "expires_at": item.get("expires_at"),
    }


def _plain(item: Mapping[str, Any], said: Said) -> dict[str, Any] | None:
    """What is named as ours is ours, and the rest but what is mapped goes into the metadata."""
    taken = {*said.paths.values(), *FIELDS}
    rest = {name: one for name, one in item.items() if name not in taken and one is not None}
    fields = {name: item[name] for name in FIELDS if name in item}
    return {**fields, "metadata": {**rest, **object_of(item.get("metadata"), "metadata")}}


FORMS: Final[Mapping[str, Form]] = {
    "mem0": Form(_mem0_items, _mem0),
    "automem": Form(_automem_items, _automem),
    "langgraph": Form(_langgraph_items, _langgraph),
    "csv": Form(lambda file, _: rows_of(file), _plain),
    "jsonl": Form(lambda file, _: lines_of(file), _plain),
}
"""By the name that --form has."""
