"""The suite runs once for every case."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.memory.base import BaseMemoryDriver
from app.embedding import Embedder
from app.settings import Limits
from tests.conformance.cases import CASES, Case
from tests.conformance.makers import Surroundings
from tests.conftest import NewDatabase


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    case: Case = request.param
    return case


@pytest.fixture
async def driver(
    case: Case, embedder: Embedder, new_database: NewDatabase, tmp_path: Path
) -> AsyncIterator[BaseMemoryDriver]:
    """An open driver whose backend is empty."""
    async with case.driver(Surroundings(embedder, new_database, Limits(), tmp_path)) as driver:
        yield driver
