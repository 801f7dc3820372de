"""Reads what was made of records: the vectors of their texts, and the outlines of memories."""

from collections.abc import Sequence

import asyncpg

from app.core.memory.derived import Derived
from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.reading import vectors_in


def derived_in(
    rows: Sequence[asyncpg.Record], count: int, generation: Generation, language: str | None = None
) -> list[Derived | None]:
    """What was made of each of `count` records, from the rows of those that are there.

    A row has its record's `place`, from 1 on, and the `outline`, whose words are of `language`.
    """
    found: list[Derived | None] = [None] * count
    sent = [vector for row in rows for vector in (row["first"], *row["others"])]
    numbers, last = vectors_in(sent, generation.dimension), 0
    model = generation.model
    for row in rows:
        first, last = last, last + 1 + len(row["others"])
        found[row["place"] - 1] = Derived(numbers[first:last], row["outline"], language, model)
    return found
