"""Vectors that travel while the driver that has them, or gets them, is brought to another model."""

from collections.abc import AsyncIterator

import pytest

from app.settings import Limits
from app.transfer.exporting import export_lines
from app.transfer.importing import import_lines
from tests.conftest import NewDatabase
from tests.drivers.pgvector_reembedding import (
    OLD,
    SAME_SIZE,
    assert_all_by,
    driver_on,
    many,
    reembedded,
)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.drivers.pgvector.coming.ComingModel.every", 0.1)
    monkeypatch.setattr("app.drivers.pgvector.reembedding.LOOKS_SECONDS", 0.5)


@pytest.mark.parametrize("changed", ["source", "target"])
async def test_no_vector_of_one_model_is_kept_as_the_other_s(
    new_database: NewDatabase, changed: str
) -> None:
    """Of one dimension nothing else would tell."""
    source_url, target_url = [await new_database() for _ in range(2)]
    records = many(700)
    async with driver_on(source_url) as source, driver_on(target_url) as target:
        await source.import_records(records)

        async def lines() -> AsyncIterator[bytes]:
            switched = False
            async for piece in export_lines(source, vectors=True):
                yield piece
                if b"memory_id" in piece and not switched:
                    switched = True
                    await reembedded(source_url if changed == "source" else target_url, SAME_SIZE)

        told = await import_lines(target, lines(), Limits())
        assert told.own_vectors
        assert told.kept.memories + told.kept.knowledge == len(records)
        await assert_all_by(SAME_SIZE if changed == "target" else OLD, target_url, records)
