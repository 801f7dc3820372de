"""What makes a driver join the conformance suite: one case."""

from dataclasses import dataclass
from typing import Any

from tests.conformance.makers import Maker, automem, inmemory, pgvector
from tests.conformance.wrapped import cached, failover, replicated, scoped


@dataclass(frozen=True)
class Case:
    """A driver's name, and how to make an open one with an empty backend."""

    name: str
    driver: Maker


CASES = [
    Case("automem", automem),
    Case("inmemory", inmemory),
    Case("pgvector", pgvector),
    Case("failover", failover(inmemory, inmemory)),
    Case("failover-pgvector", failover(pgvector, automem, writes="primary")),
    Case("replicated", replicated(inmemory, inmemory, shared=True)),
    Case(
        "replicated-pgvector",
        replicated(pgvector, pgvector, acknowledge="all", reads="replicas"),
    ),
    Case("cached", cached(inmemory)),
    Case("cached-pgvector", cached(pgvector, redis=True)),
    Case("scoped", scoped(inmemory)),
    Case("scoped-pgvector", scoped(pgvector)),
    Case("nest", scoped(cached(failover(replicated(pgvector, inmemory), inmemory)))),
]

WAYS: list[dict[str, Any]] = [{}, {"query": "kettle"}, {"query": "kettle", "use_vector": False}]
"""Arguments for the three ways to recall: newest first, by vector, by words."""
