"""What makes a driver join the conformance suite: one case."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.conformance.makers import Maker, automem, inmemory, pgvector, pinecone, redis, weaviate
from tests.conformance.wrapped import cached, failover, replicated, scoped
from tests.storm import STORM, times


@dataclass(frozen=True)
class Case:
    """A driver's name, and how to make an open one with an empty backend."""

    name: str
    driver: Maker
    compares_and_sets: bool = True
    """Whether the driver keeps all of several updates at once; else the later one wins."""

    keeps_documents: bool = True
    """Whether the driver replaces documents as a whole."""

    embeds_whole_texts: bool = True
    """Whether all of a long text counts by its vectors; else by words, and its beginning by both.

    The same holds for a long question.
    """


DRIVERS = [
    Case(
        "automem",
        automem,
        compares_and_sets=False,
        embeds_whole_texts=False,
        keeps_documents=False,
    ),
    Case("inmemory", inmemory),
    Case("pgvector", pgvector),
    Case("pinecone", pinecone),
    Case("redis", redis),
    Case("weaviate", weaviate),
]
WRAPPERS = [
    Case("failover", failover(inmemory, inmemory)),
    Case("replicated", replicated(inmemory, inmemory, shared=True)),
    Case("failover-primary", failover(inmemory, inmemory, writes="primary")),
    Case("replicated-all", replicated(inmemory, inmemory, acknowledge="all", reads="replicas")),
    Case("cached", cached(inmemory)),
    Case("cached-redis", cached(inmemory, redis=True)),
    Case("scoped", scoped(inmemory)),
    Case("nest", scoped(cached(failover(replicated(pgvector, inmemory), inmemory)))),
]
if STORM:  # the nest has pgvector below every wrapping driver; these have it below each alone
    WRAPPERS += [
        Case(
            "failover-pgvector",
            failover(pgvector, automem, writes="primary"),
            keeps_documents=False,
        ),
        Case(
            "replicated-pgvector",
            replicated(pgvector, pgvector, acknowledge="all", reads="replicas"),
        ),
        Case("cached-pgvector", cached(pgvector, redis=True)),
        Case("scoped-pgvector", scoped(pgvector)),
        Case(
            "scoped-automem",
            scoped(automem),
            compares_and_sets=False,
            embeds_whole_texts=False,
            keeps_documents=False,
        ),
        Case("failover-redis", failover(redis, pgvector)),
        Case("replicated-redis", replicated(pgvector, redis, acknowledge="all", reads="replicas")),
        Case("scoped-cached-redis", scoped(cached(redis, redis=True))),
        Case("failover-pinecone", failover(pinecone, pgvector, writes="journal")),
        Case(
            "replicated-pinecone",
            replicated(pgvector, pinecone, acknowledge="all", reads="replicas"),
        ),
        Case("scoped-cached-pinecone", scoped(cached(pinecone))),
        Case("failover-weaviate", failover(weaviate, pgvector, writes="journal")),
        Case(
            "replicated-weaviate",
            replicated(pgvector, weaviate, acknowledge="all", reads="replicas"),
        ),
        Case("scoped-cached-weaviate", scoped(cached(weaviate))),
    ]
CASES = [*DRIVERS, *WRAPPERS]

# A property is tried with many examples on a driver, and with fewer on what stands before one.
on_drivers = pytest.mark.parametrize("case", DRIVERS, ids=lambda case: case.name, indirect=True)
on_wrappers = pytest.mark.parametrize("case", WRAPPERS, ids=lambda case: case.name, indirect=True)
documents = pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.keeps_documents],
    ids=lambda case: case.name,
    indirect=True,
)


def examples(count: int) -> settings:
    """So many for a property of a driver, which stays the same for all of them."""
    return settings(
        max_examples=times(count, 10 * count),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


WAYS: list[dict[str, Any]] = [{}, {"query": "kettle"}, {"query": "kettle", "use_vector": False}]
"""Arguments for the three ways to recall: newest first, by vector, by words."""
