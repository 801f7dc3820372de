"""Changes of a record as a JSON merge patch, RFC 7396.

A field in the patch replaces the record's, null clears the field, and a field that is not in the
patch stays. `metadata` is merged in the same way, at every depth.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from app.core.memory.checks import check_metadata, check_tags, check_text, dump_json
from app.core.memory.records import Kept
from app.errors import InvalidInput
from app.settings import Limits

Patch: TypeAlias = Mapping[str, Any]
_Check: TypeAlias = Callable[[Any, tuple[str]], Any]


def checked_memory_patch(patch: Patch, limits: Limits) -> Patch:
    """A copy of the patch; raises `InvalidInput` that names the field and its limit."""
    return _checked(
        patch,
        {
            "content": _text(limits.content_chars),
            "conversation_id": _optional(_text(limits.conversation_id_chars)),
            "tags": lambda tags, loc: check_tags(tags, limits, loc),
            "metadata": _optional(lambda changes, loc: check_metadata(changes, limits, loc)),
        },
    )


def checked_knowledge_patch(patch: Patch, limits: Limits) -> Patch:
    """A copy of the patch; raises `InvalidInput` that names the field and its limit."""
    return _checked(
        patch,
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
    if "metadata" in fields:
        metadata = merged(record.metadata, fields["metadata"])
        fields["metadata"] = check_metadata(metadata, limits, ("metadata",))
    changed = replace(record, **fields)
    # To Python 1, 1.0 and true are equal; as JSON they are not.
    same = changed == record and dump_json(changed.metadata) == dump_json(record.metadata)
    return record if same else changed


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


def _checked(patch: Patch, checks: Mapping[str, _Check]) -> Patch:
    if not isinstance(patch, Mapping):
        raise InvalidInput("the patch must be an object", ("patch",))
    for name in patch:
        if name not in checks:
            raise InvalidInput(f"{name} can't be changed; there are {', '.join(checks)}", (name,))
    return {name: checks[name](value, (name,)) for name, value in patch.items()}


def _text(maximum: int) -> _Check:
    return lambda value, loc: check_text(value, maximum, loc)


def _optional(check: _Check) -> _Check:
    """A check that also lets null pass, which clears the field."""
    return lambda value, loc: None if value is None else check(value, loc)
