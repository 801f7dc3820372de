"""Speakers: who said a memory, and whom a query names."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

_PREFIX = re.compile(r"\s*([^\W\d_][^\W_]*(?:[ '\u2019.-]{1,2}[^\W_]+){0,3}\.?):\s")
_MOST = 80
_WORD = re.compile(r"\w+")
_PIECE = re.compile(r"\s*\S{1,100}|\s+")
"""At most 100 characters after white space, which no mark is composed with."""


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
    if speaker is None or _begins(content.lstrip().casefold(), speaker.casefold()):
        return content
    return f"{speaker}: {content}"


def _begins(text: str, name: str) -> bool:
    """Whether the text begins with the name, and not with a longer word: Al, Always."""
    return text.startswith(name) and not text[len(name) :][:1].isalnum()


def speakers_named(query: str, speakers: Iterable[str]) -> list[str]:
    """The one of `speakers` whose first name is in `query`, in every spelling; else nobody.

    Two people who are named both do not tell whose words are wanted.
    """
    asked = set(_words(query))
    named = [name for name in speakers if asked.intersection(_words(name)[:1])]
    return named if len({name.casefold() for name in named}) == 1 else []


def _words(text: str) -> list[str]:
    return _WORD.findall(_composed(text).casefold())


def _composed(text: str) -> str:
    """`text` in NFC, piece by piece: to order n combining marks in a row takes n² steps."""
    if text.isascii():
        return text
    return "".join(unicodedata.normalize("NFC", piece) for piece in _PIECE.findall(text))
