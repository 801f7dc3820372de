"""What is stored and asked: texts of a file, or sentences made here, the same in every run."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, cycle, islice
from pathlib import Path

USERS = 200
PER_USER = 100
LARGE = 5_000
LARGE_USER = "large"

_QUERY_WORDS = 12
_SHORTEST = 20
"""Characters of a text of a file that is worth storing."""


@dataclass(frozen=True, slots=True)
class Data:
    """Memories as (user, text), in the order in which they are stored, and texts of nobody yet."""

    memories: list[tuple[str, str]]
    unused: list[str]

    def queries(self) -> Iterator[str]:
        """The first words of unused texts: no two alike, without end."""
        return _numbered([" ".join(text.split()[:_QUERY_WORDS]) + "?" for text in self.unused])

    def texts(self) -> Iterator[str]:
        """Texts to store: no two alike, without end."""
        return _numbered(self.unused)


def user(number: int) -> str:
    """The id of a usual user."""
    return f"user-{number}"


def load(
    path: Path | None, users: int = USERS, per_user: int = PER_USER, large: int = LARGE
) -> Data:
    """`users` with `per_user` memories each and one with `large`, in a mixed order.

    `path`: a text a line, or JSON lines that are strings or objects with a `text` or `content`.
    """
    needed = users * per_user + large
    texts = list(islice(made() if path is None else _unique(_read(path)), needed + 10_000))
    if len(texts) < needed + 100:
        raise SystemExit(f"{path} has {len(texts)} different texts; {needed + 100} are needed")
    owners = [user(n) for n in range(users)] * per_user + [LARGE_USER] * large
    random.Random(1).shuffle(owners)  # noqa: S311
    return Data(list(zip(owners, texts, strict=False)), texts[needed:])


def load_texts(path: Path | None) -> Iterator[str]:
    """The texts of a file over and over, or made ones, without end."""
    return made() if path is None else cycle(_unique(_read(path)))


def made() -> Iterator[str]:
    """Sentences that vary in subject, words and length; without end, and no two alike."""
    chance = random.Random(7)  # noqa: S311
    seen: set[str] = set()
    while True:
        clauses = [_clause(chance) for _ in range(chance.choice((1, 1, 1, 1, 1, 2, 2, 3)))]
        text = ", and ".join(clauses)
        text = f"{text[0].upper()}{text[1:]}."
        if text not in seen:
            seen.add(text)
            yield text


_WHO = (
    "Ada", "Bert", "Chen", "Dora", "my sister", "our neighbour", "the plumber", "a colleague",
    "the new manager", "grandmother", "the dentist", "Ivan's cousin", "the landlord", "Mira",
    "the choir", "our landlady", "a friend from Lyon", "the older boy", "Professor Okoye",
)  # fmt: skip
_DOES = (
    "repaired", "sold", "lost", "borrowed", "painted", "wants to buy", "is allergic to",
    "forgot to bring", "asked about", "recommends", "cannot stand", "has kept", "gave away",
    "is writing a song about", "photographed", "will return", "dreams of", "keeps talking about",
)  # fmt: skip
_WHAT = (
    "kettle", "bicycle", "violin", "greenhouse", "tax form", "night train", "tomato plant",
    "passport", "sourdough starter", "telescope", "old Volvo", "chess set", "raincoat", "router",
    "quarterly report", "wedding dress", "map of Iceland", "sewing machine", "canoe", "peanut soup",
    "library card", "house key", "printer", "goldfish", "climbing rope", "coffee grinder",
)  # fmt: skip
_LIKE = (
    "copper", "second-hand", "broken", "very expensive", "green", "tiny", "inherited", "rented",
    "noisy", "half-finished", "waterproof", "Japanese", "wooden", "overdue", "spare", "striped",
)  # fmt: skip
_WHEN = (
    "last Sunday", "before the holidays", "in the spring of 1998", "every Friday", "at the airport",
    "after the concert", "while it rained", "in the kitchen", "on the way to Porto", "by mistake",
    "because the old one leaked", "for her birthday", "without telling anyone", "at half past six",
    "for about 40 euros", "in room 312", "when the power failed", "together with two friends",
)  # fmt: skip


def _clause(chance: random.Random) -> str:
    what = f"{chance.choice(_LIKE)} {chance.choice(_WHAT)} no. {chance.randrange(1, 400)}"
    return f"{chance.choice(_WHO)} {chance.choice(_DOES)} the {what} {chance.choice(_WHEN)}"


def _read(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if path.suffix != ".jsonl":
                yield line.strip()
                continue
            value = json.loads(line)
            if isinstance(value, dict):
                value = value.get("text") or value.get("content") or ""
            yield str(value)


def _unique(texts: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts:
        if _SHORTEST <= len(text) <= 2_000 and "\x00" not in text and text not in seen:
            seen.add(text)
            yield text


def _numbered(texts: list[str]) -> Iterator[str]:
    for turn in count():
        for text in dict.fromkeys(texts):
            yield f"{turn}: {text}" if turn else text
