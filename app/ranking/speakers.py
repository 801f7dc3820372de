"""Speakers: who said a memory, and whom a query names."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from app.ranking.normal import folded, normal

_PREFIX = re.compile(r"\s*([^\W\d_][^\W_]*(?:[ '\u2019.-]{1,2}[^\W_]+){0,3}\.?):\s")
_MOST = 80
_WORD = re.compile(r"\w+")


def speaker_of(content: str, metadata: Mapping[str, Any]) -> str | None:
    """Who said it: `metadata.speaker`, else the name before a leading `Name:`; None if neither."""
    named = metadata.get("speaker")
    if isinstance(named, str) and 0 < len(named.strip()) <= _MOST:
        return named.strip()
    match = _PREFIX.match(unicodedata.normalize("NFC", content[: _MOST + 10]))
    return match[1] if match is not None and len(match[1]) <= _MOST else None


def said(content: str, metadata: Mapping[str, Any]) -> str:
    """What to embed: the content, after its speaker's name where only the metadata has it.

    On public conversations `Name: text` finds half as much again as the text alone.
    """
    speaker = speaker_of(content, metadata)
    if speaker is None or _begins(_spelled(content.lstrip()[: 4 * _MOST]), _spelled(speaker)):
        return content
    return f"{speaker}: {content}"


def name_before(text: str, metadata: Mapping[str, Any]) -> str:
    """What a text that `said` gave begins with where it tells the speaker: `Name: `; or nothing."""
    speaker = speaker_of(text, metadata)
    name = "" if speaker is None else f"{speaker}: "
    return name if text.startswith(name) else ""


def _begins(text: str, name: str) -> bool:
    """Whether the text begins with the name, and not with a longer word: Al, Always."""
    return text.startswith(name) and not text[len(name) :][:1].isalnum()


def speakers_named(query: str, speakers: Iterable[str]) -> list[str]:
    """Those of `speakers` whose first name is in `query`, in every spelling."""
    asked = set(_words(query))
    return [name for name in speakers if _first_name(name) in asked]


def one_person(names: Iterable[str]) -> bool:
    """Whether the names are spellings of one: two people do not tell whose words are wanted."""
    return len(set(map(_spelled, names))) == 1


@lru_cache(maxsize=4_096)
def _first_name(name: str) -> str | None:
    return next(iter(_words(name)), None)


def _words(text: str) -> list[str]:
    return _WORD.findall(_spelled(text))


def _spelled(text: str) -> str:
    """The same for all spellings that differ in their case or in how they are encoded."""
    return folded(normal(text))
