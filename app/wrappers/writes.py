"""What a call writes, checked and with ids: the same records for every driver."""

from collections.abc import Sequence
from typing import Any

from app.core.memory.codec import Record
from app.core.memory.records import (
    NewKnowledge,
    NewMemory,
    check_id,
    check_scope,
    new_knowledge,
    new_knowledge_records,
    new_memories,
    new_memory,
)
from app.journal.entries import Write
from app.settings import Limits
from app.wrappers.base import Call


async def records_of(call: Call, limits: Limits) -> Sequence[Record]:
    """The records that a storing call makes; raises `InvalidInput`."""
    arguments: dict[str, Any] = dict(call.arguments)
    match call.verb:
        case "store":
            return [new_memory(NewMemory(**arguments), limits)]
        case "store_many":
            return await new_memories(arguments["memories"], limits)
        case "store_global_knowledge":
            return [new_knowledge(NewKnowledge(**arguments), limits)]
        case "store_knowledge_many":
            return await new_knowledge_records(arguments["knowledge"], limits)
        case "import_records":
            return list(arguments["records"])
    raise AssertionError(f"{call.verb} stores nothing")


def answer(call: Call, records: Sequence[Record]) -> Any:
    """What the storing call answers."""
    if call.verb == "import_records":
        return None
    return records[0] if call.verb in ("store", "store_global_knowledge") else list(records)


def delete_of(call: Call, limits: Limits) -> Write | None:
    """The delete that a call asks for, or None when it stores; raises `InvalidInput`."""
    arguments = call.arguments
    match call.verb:
        case "delete":
            memory_id = str(check_id(arguments["memory_id"]))
            if arguments["user_id"] is not None:
                check_scope(limits, arguments["user_id"])
            return Write(verb="delete", user_id=arguments["user_id"], record_id=memory_id)
        case "delete_user":
            check_scope(limits, arguments["user_id"])
            return Write(verb="delete_user", user_id=arguments["user_id"])
        case "delete_knowledge":
            knowledge_id = str(check_id(arguments["knowledge_id"], "knowledge_id"))
            return Write(verb="delete_knowledge", record_id=knowledge_id)
    return None
