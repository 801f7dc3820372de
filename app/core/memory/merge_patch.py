"""Changes of a record as a JSON merge patch, RFC 7396.

A field in the patch replaces the record's, null clears the field, and a field that is not in the
patch stays. `metadata` is merged in the same way, at every depth.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias

from app.core.memory.checks import (
    as_moment,
    check_expiry,
    check_metadata,
    check_tags,
    check_text,
    dump_json,
)
from app.core.memory.records import Kept, Knowledge, Memory, Record
from app.errors import InvalidInput
from app.settings import Limits

Patch: TypeAlias = Mapping[str, Any]
_Check: TypeAlias = Callable[[Any, tuple[str]], Any]
_EXPIRY = ("expires_at", "ttl")


def checked_memory_patch(patch: Patch, limits: Limits, now: datetime) -> Patch:
    """A copy of the patch; raises `InvalidInput` that names the field and its limit.

    A `ttl`, which counts from `now`, becomes an `expires_at`.
    """
    return _checked(
        patch,
        now,
        {
            "content": _text(limits.content_chars),
            "conversation_id": _optional(_text(limits.conversation_id_chars)),
            "tags": lambda tags, loc: check_tags(tags, limits, loc),
            "occurred_at": _optional(as_moment),
            "metadata": _optional(lambda changes, loc: check_metadata(changes, limits, loc)),
        },
    )


def checked_knowledge_patch(patch: Patch, limits: Limits, now: datetime) -> Patch:
    """The same for knowledge."""
    return _checked(
        patch,
        now,
        {
            "content": _text(limits.content_chars),
            "category": _text(limits.category_chars),
            "title": _optional(_text(limits.title_chars)),
            "doc_id": _optional(_text(limits.doc_id_chars)),
            "metadata": _optional(lambda changes, loc: check_metadata(changes, limits, loc)),
        },
    )


def patched(record: Kept, patch: Patch, limits: Limits) -> Kept:
    """The record after a checked patch; `record` itself where that changes nothing.

    Raises `InvalidInput` where the merged metadata exceeds a limit.
    """
    fields = dict(patch)
    if isinstance(record, Memory) and fields.get("occurred_at", record) is None:
        fields["occurred_at"] = record.created_at
    if "metadata" in fields:
        metadata = merged(record.metadata, fields["metadata"])
        fields["metadata"] = check_metadata(metadata, limits, ("metadata",))
    if isinstance(record, Knowledge) and fields.get("doc_id", record.doc_id) != record.doc_id:
        fields["position"] = None  # in the other document it has none
    changed = replace(record, **fields)
    return record if changed == record and _told(changed) == _told(record) else changed


def _told(record: Record) -> tuple[str, ...]:
    """What may differ where Python sees none: 1, 1.0 and true, and the offset of a moment."""
    when = record.occurred_at.isoformat() if isinstance(record, Memory) else ""
    return dump_json(record.metadata), when


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


def _checked(patch: Patch, now: datetime, checks: Mapping[str, _Check]) -> Patch:
    if not isinstance(patch, Mapping):
        raise InvalidInput("the patch must be an object", ("patch",))
    for name in patch:
        if name not in checks and name not in _EXPIRY:
            known = ", ".join([*checks, *_EXPIRY])
            raise InvalidInput(f"{name} can't be changed; there are {known}", (name,))
    checked = {
        name: checks[name](value, (name,)) for name, value in patch.items() if name in checks
    }
    if not patch.keys().isdisjoint(_EXPIRY):
        checked["expires_at"] = check_expiry(patch.get("expires_at"), patch.get("ttl"), now)
    return checked


def _text(maximum: int) -> _Check:
    return lambda value, loc: check_text(value, maximum, loc)


def _optional(check: _Check) -> _Check:
    """A check that also lets null pass, which clears the field."""
    return lambda value, loc: None if value is None else check(value, loc)
