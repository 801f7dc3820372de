"""Changes of a record as a JSON merge patch, RFC 7396.

A member of the patch replaces the record's, null takes it away, and what is not named stays. Of
`metadata`, an object, the members are merged in the same way, however deep they are.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from app.core.memory.checks import check_metadata, check_tags, check_text
from app.core.memory.records import Knowledge, Memory
from app.errors import InvalidInput
from app.settings import Limits

Patch: TypeAlias = Mapping[str, Any]

MEMORY_FIELDS = ("content", "conversation_id", "tags", "metadata")
KNOWLEDGE_FIELDS = ("content", "category", "title", "doc_id", "metadata")


def patched_memory(memory: Memory, patch: Patch, limits: Limits) -> Memory:
    """The memory with the changes; raises `InvalidInput` that names the field and its limit."""
    _refuse_unknown(patch, MEMORY_FIELDS)
    return replace(
        memory,
        content=_text(patch, "content", memory.content, limits.content_chars),
        conversation_id=_optional(
            patch, "conversation_id", memory.conversation_id, limits.conversation_id_chars
        ),
        tags=check_tags(patch["tags"], limits, ("tags",)) if "tags" in patch else memory.tags,
        metadata=_metadata(patch, memory.metadata, limits),
    )


def patched_knowledge(knowledge: Knowledge, patch: Patch, limits: Limits) -> Knowledge:
    """The knowledge with the changes; raises `InvalidInput` that names the field and its limit."""
    _refuse_unknown(patch, KNOWLEDGE_FIELDS)
    return replace(
        knowledge,
        content=_text(patch, "content", knowledge.content, limits.content_chars),
        category=_text(patch, "category", knowledge.category, limits.category_chars),
        title=_optional(patch, "title", knowledge.title, limits.title_chars),
        doc_id=_optional(patch, "doc_id", knowledge.doc_id, limits.doc_id_chars),
        metadata=_metadata(patch, knowledge.metadata, limits),
    )


def merged(target: Any, patch: Any) -> Any:
    """What RFC 7396, section 2, calls MergePatch(target, patch); neither is changed."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def _refuse_unknown(patch: Patch, known: tuple[str, ...]) -> None:
    for name in patch:
        if name not in known:
            raise InvalidInput(f"{name} can't be changed; there are {', '.join(known)}", (name,))


def _text(patch: Patch, name: str, now: str, maximum: int) -> str:
    """The text after the patch, which can't take it away."""
    return check_text(patch[name], maximum, (name,)) if name in patch else now


def _optional(patch: Patch, name: str, now: str | None, maximum: int) -> str | None:
    if name not in patch:
        return now
    return None if patch[name] is None else check_text(patch[name], maximum, (name,))


def _metadata(patch: Patch, now: dict[str, Any], limits: Limits) -> dict[str, Any]:
    if "metadata" not in patch:
        return now
    changes = patch["metadata"]
    if changes is None:
        return {}
    checked = check_metadata(changes, limits, ("metadata",))
    return check_metadata(merged(now, checked), limits, ("metadata",))
