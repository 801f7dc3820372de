"""What `{memory}:meta` tells of a database: its generations, and the models of their vectors.

    id            what it is known by until another generation begins, or comes into use
    name          what it is known by for ever: its first `id`
    generation    the one in use; where there is none, the first
    generations   the last that began
    next          the one that gets another model's vectors
    about         of the generation in use: the model, the language of the words, the layout
    about_next    the same of the next generation
    about_before  the same of the generation that was in use before
    began         when the next generation began
    paused        until when writes wait
    holder        who alone brings another model now, and
    held_till     until when nobody else does
    unused:n      why the keys of a generation are still to be deleted: `replaced`, `called off`

Moments are milliseconds since 1970, by Redis's clock.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from app.drivers.redis.layout import Names
from app.drivers.redis.server import Server
from app.embedding import Model

LAYOUT: Final = 1
KEEPS_NEXT: Final = 2
"""The layout once there was a next generation.

An earlier version of the service, whose scripts know of none, refuses it."""


@dataclass(frozen=True, slots=True)
class About:
    """What the vectors and the words of a generation are of."""

    model: Model
    language: str
    words: int
    layout: int = LAYOUT

    @classmethod
    def read(cls, text: str) -> "About":
        """What `written` wrote."""
        told: dict[str, Any] = json.loads(text)
        sample = np.frombuffer(bytes.fromhex(told["sample"]), "<f4").astype(np.float32)
        return cls(Model(told["model"], sample), told["language"], told["words"], told["layout"])

    def written(self) -> str:
        """As it is kept."""
        return json.dumps(
            {
                "model": self.model.name,
                "dimension": self.model.dimension,
                "sample": self.model.sample.astype("<f4").tobytes().hex(),
                "layout": self.layout,
                "language": self.language,
                "words": self.words,
            }
        )

    def of(self, model: Model) -> "About":
        """The same of another model, in a database that keeps a next generation."""
        return replace(self, model=model, layout=KEEPS_NEXT)


@dataclass(frozen=True, slots=True)
class Meta:
    """What was read at one moment."""

    token: str
    """The `id`; empty in a database that is being made."""
    name: str
    generation: int
    next: int | None
    about: About
    about_next: About | None
    about_before: About | None
    unused: Mapping[int, str]
    """The generations whose keys are still to be deleted, and why."""


async def read_meta(server: Server, names: Names) -> Meta | None:
    """What is there; None where no database is."""
    [answer] = await server.ask(("HGETALL", names.meta))
    told = {name.decode(): value.decode() for name, value in answer.items()}
    if "about" not in told:
        return None
    token = told.get("id", "")
    of = {name: About.read(text) for name, text in told.items() if name.startswith("about")}
    return Meta(
        token,
        told.get("name", token),
        int(told.get("generation", 1)),
        int(told["next"]) if "next" in told else None,
        of["about"],
        of.get("about_next"),
        of.get("about_before"),
        {int(name[7:]): why for name, why in told.items() if name.startswith("unused:")},
    )
