"""A driver's records as the lines of a file, a piece at a time: as much as memory has to hold."""

from collections.abc import AsyncGenerator
from datetime import datetime

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Record
from app.embedding import Model
from app.transfer.batches import batches
from app.transfer.lines import Ending, line_of, line_of_model


async def export_lines(
    driver: RecordDriver,
    user_id: str | None = None,
    *,
    since: datetime | None = None,
    vectors: bool = False,
    ending: Ending | None = None,
) -> AsyncGenerator[bytes, None]:
    """Pieces of whole lines: the records of `RecordDriver.export_records`, and the last line.

    With `vectors` those that the driver gives come along. `ending` tells meanwhile how many records
    there were.
    """
    ending = ending or Ending()
    model = await driver.model() if vectors else None
    if model is not None:
        first = line_of_model(model)
        ending.add(first)
        yield first
    async for batch in batches(driver.export_records(user_id, since=since)):
        yield b"".join(await _lines(driver, batch, ending, model))
    yield ending.line()


async def _lines(
    driver: RecordDriver, batch: list[Record], ending: Ending, model: Model | None
) -> list[bytes]:
    """The lines of the records, with their vectors as far as the model made them."""
    own = await driver.derived_of(batch) if model is not None else [None] * len(batch)
    lines = [
        line_of(record, one if one is not None and model is not None and one.is_by(model) else None)
        for record, one in zip(batch, own, strict=True)
    ]
    for record, line in zip(batch, lines, strict=True):
        ending.add(line, record)
    return lines
