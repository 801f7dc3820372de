"""Records as AutoMem's memories, and back.

AutoMem sees the text to search and tags that only this service can make. Everything that must come
back as it was is one JSON text in its metadata, which AutoMem keeps unread: its enrichment, its
summaries and its folding of tags do not reach it.
"""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.core.memory.checks import dump_json
from app.core.memory.codec import as_object, from_object
from app.core.memory.records import Memory, Record, deletable_from, newest, record_id
from app.drivers.automem.hours import ended_hours, hours_of
from app.logs import get_logger

KEY: Final = "mds"
PREFIX: Final = "mds"
SEARCH_CHARS: Final = 2_000
"""Characters of a content that AutoMem takes, embeds and searches; the record has all."""
_UNREAD: Final = 257
"""AutoMem's ranking counts the words of metadata texts of up to 256 characters."""
_BLANK: Final = "(blank)"
"""What AutoMem, which refuses blank text, gets to search for a content of spaces."""

_log = get_logger(__name__)


class Tags:
    """The tags that scope records: fixed-length lower-case hex, which no caller's text can equal.

    A tag is a kind and the first 40 hex digits of the HMAC-SHA256 of what it stands for, keyed with
    `AUTOMEM_TAG_SECRET`. Nothing that AutoMem does to tags (folding case, trimming, prefixes)
    changes one or makes two meet.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.everything = self._tag("a")
        """On every record of this service."""
        self.knowledge = self._tag("k")

    def user(self, user_id: str) -> str:
        return self._tag("u", user_id)

    def conversation(self, user_id: str, conversation_id: str) -> str:
        return self._tag("c", user_id, conversation_id)

    def category(self, category: str) -> str:
        return self._tag("g", category)

    def document(self, doc_id: str) -> str:
        return self._tag("d", doc_id)

    def record(self, record_id: str) -> str:
        return self._tag("i", record_id)

    def end(self, moment: datetime) -> list[str]:
        """The tags of a record that is to be deleted from this moment on."""
        return [self._tag("x", hours) for hours in hours_of(moment)]

    def ended(self, now: datetime) -> list[str]:
        """The tags of all records whose moment is in an hour before this one; each has one."""
        return [self._tag("x", hours) for hours in ended_hours(now)]

    def of(self, record: Record) -> list[str]:
        """The tags of a record: everything, its scopes from wide to narrow, and itself."""
        if isinstance(record, Memory):
            scopes = [self.user(record.user_id)]
            if record.conversation_id is not None:
                scopes.append(self.conversation(record.user_id, record.conversation_id))
            return [self.everything, *scopes, self.record(record.memory_id)]
        scopes = [self.knowledge, self.category(record.category)]
        if record.doc_id is not None:
            scopes.append(self.document(record.doc_id))
        return [self.everything, *scopes, self.record(record.knowledge_id)]

    def _tag(self, kind: str, *parts: str) -> str:
        said = "\x00".join((kind, *parts)).encode()  # no part has a NUL
        return f"{PREFIX}{kind}_{hmac.new(self._secret, said, hashlib.sha256).hexdigest()[:40]}"


@dataclass(frozen=True, slots=True)
class Row:
    """A record, and the memory of AutoMem that has it: its id, its time, and its number in a scope.

    `at` is the record's own time, up to `SPREAD` later, unless an update moved the record: then it
    may be where an older version is.
    """

    record: Record
    automem_id: str
    at: datetime
    place: int = 0

    @property
    def record_id(self) -> str:
        return record_id(self.record)


SPREAD: Final = timedelta(milliseconds=1)
"""AutoMem's timestamp of a record is less than this after the record's own time."""


class Clock:
    """AutoMem's timestamps: a record's own, with microseconds that keep one batch in its order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = datetime.min.replace(tzinfo=UTC)
        self._count = 0

    def stamp(self, moment: datetime) -> datetime:
        """In UTC: AutoMem compares timestamps as texts."""
        with self._lock:
            self._count = min(self._count + 1, 999) if moment == self._last else 0
            self._last = moment
            return moment.astimezone(UTC) + timedelta(microseconds=self._count)


def to_automem(
    record: Record, tags: Tags, clock: Clock, replaced: Sequence[Row] = ()
) -> list[dict[str, Any]]:
    """The bodies of a record for AutoMem's POST routes: its own, and one for each place it leaves.

    They have the tags of the versions that they replace, too: whoever asks for a scope that the
    record was in finds them together, and sees which is the latest. So does whoever reads the scope
    in the order of time: where a version of another time is, there is the new one beside it, until
    both are deleted.
    """
    when = when_of(record)
    left = {row.at for row in replaced if when_of(row.record) != when}
    body = _body(record, tags, (row.record for row in replaced))
    return [{**body, "timestamp": at.isoformat()} for at in (clock.stamp(when), *sorted(left))]


def when_of(record: Record) -> datetime:
    """The record's own time, which AutoMem has it ordered by."""
    return newest(record)[0]


def _body(record: Record, tags: Tags, replaced: Iterable[Record]) -> dict[str, Any]:
    tagged = [tag for one in (record, *replaced) for tag in tags.of(one)]
    over = deletable_from(record)
    if over is not None:
        tagged += tags.end(over)
    fields = as_object(record)
    del fields["score"]
    text = dump_json(fields)
    if len(text) < _UNREAD:
        text = dump_json({**fields, "": " " * (_UNREAD - len(text))})
    return {
        "content": record.content.strip()[:SEARCH_CHARS] or _BLANK,
        "tags": list(dict.fromkeys(tagged)),
        # Without a type AutoMem guesses one, which may take a language model.
        "type": "Context",
        "importance": 0.5,  # the same for all: AutoMem's pages are ordered by it first
        "confidence": 0.5,
        "metadata": {KEY: {"v": 1, "record": text}},
    }


def from_automem(memory: Mapping[str, Any], automem_id: object) -> Row | None:
    """The record that AutoMem's `memory` carries; None where it is not one of this service's."""
    try:
        known_as = str(UUID(str(automem_id)))
        box = _metadata(memory).get(KEY)
        if box is None:
            return None
        fields = json.loads(box["record"])
        fields.pop("", None)
        record = from_object(fields)
        UUID(record_id(record))
        at = datetime.fromisoformat(memory["timestamp"]).astimezone(UTC)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        _log.warning("automem_record_unreadable", automem_id=str(automem_id)[:36])
        return None
    return Row(record, known_as, at)


def legacy_from_automem(
    memory: Mapping[str, Any], automem_id: object, user_id: str, tag: str
) -> Row | None:
    """What another client stored for the user; None where it is not certain that it is theirs.

    Its metadata stays behind: AutoMem mixes what it found in other users' memories into it.
    """
    tags = memory.get("tags")
    if not isinstance(tags, list) or tag not in tags or KEY in _metadata(memory):
        return None
    if any(isinstance(one, str) and one.startswith(PREFIX) for one in tags):
        return None
    try:
        known_as = str(UUID(str(automem_id)))
        content = memory["content"]
        created_at = datetime.fromisoformat(memory["timestamp"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if not isinstance(content, str) or not content:
        return None
    theirs = [one for one in tags if isinstance(one, str) and not one.startswith("entity:")]
    record = Memory(
        memory_id=known_as, user_id=user_id, content=content, tags=theirs, created_at=created_at
    )
    return Row(record, known_as, created_at)


def _metadata(memory: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = memory.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except ValueError:
            return {}
    return metadata if isinstance(metadata, Mapping) else {}
