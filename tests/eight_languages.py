"""40 memories in each of eight languages, and queries by words alone that have one right answer.

Every query uses words of its memory as a person would write them: another case, another form of
Unicode, no accents, a question around them. So whatever finds words finds the memory among the
first five, with any language configured.
"""

import json
from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).with_suffix(".json")


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    right: str
    """The content of the memory that has to be found."""


@dataclass(frozen=True, slots=True)
class Tongue:
    """A language's memories and queries."""

    name: str
    code: str
    """As ISO 639 has it."""

    language: str
    """What the service calls it: a stemmer's name, or simple."""

    memories: tuple[str, ...]
    queries: tuple[Query, ...]


def eight_languages() -> list[Tongue]:
    return [
        Tongue(
            name=one["name"],
            code=one["code"],
            language=one["language"],
            memories=tuple(one["memories"]),
            queries=tuple(
                Query(query["text"], one["memories"][query["right"]]) for query in one["queries"]
            ),
        )
        for one in json.loads(_FILE.read_text("utf-8"))
    ]
