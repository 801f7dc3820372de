"""The lines of a file as a driver's records, a batch at a time."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.core.memory.record_driver import RecordDriver
from app.errors import InvalidInput
from app.settings import Limits
from app.transfer.batches import MOST, MOST_CHARS
from app.transfer.lines import (
    Counts,
    Ending,
    Line,
    most_bytes,
    read_model,
    read_object,
    read_record,
)


@dataclass(slots=True)
class Imported:
    """What an import has read and kept so far."""

    kept: Counts = field(default_factory=Counts)
    """Records that the driver has by now, in the file's version or in a later one."""
    own_vectors: bool | None = None
    """Whether the file's vectors are of the driver's model; None: it has none."""


async def split(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The lines in the chunks, each with its U+000A; raises `InvalidInput` for a longer one."""
    rest, number = bytearray(), 1
    async for chunk in chunks:
        searched, start = len(rest), 0
        rest += chunk
        while (end := rest.find(b"\n", max(searched, start)) + 1) > 0:
            yield bytes(rest[start:end])
            start, number = end, number + 1
        del rest[:start]
        if len(rest) > most:
            raise InvalidInput(f"line {number} has more than {most} bytes", (number,))
    if rest:
        yield bytes(rest)


async def import_lines(
    driver: RecordDriver,
    chunks: AsyncIterator[bytes],
    limits: Limits,
    *,
    told: Imported | None = None,
    dry_run: bool = False,
) -> Imported:
    """Keep the records of a file that `export_lines` made, as `RecordDriver.import_records` does.

    With `dry_run` they are only read. `told` tells meanwhile how far it is. Raises `InvalidInput`
    for a file that is cut or was changed, and for a line that is not within the limits: what is
    before that line may have been kept, and the same import again is harmless.
    """
    told, batch = told or Imported(), _Batch(driver, dry_run=dry_run)
    most, number = most_bytes(limits), 0
    model, ending, ended = None, Ending(), False
    async for raw in split(chunks, most):
        number += 1
        with _at_line(number, cut=not raw.endswith(b"\n")):
            if ended:
                raise InvalidInput("nothing follows the last line of an export")
            fields = read_object(raw, most)
            if "end" in fields:
                ending.check(fields["end"] if isinstance(fields["end"], dict) else {})
                ended = True
                continue
            if "model" in fields and number == 1:
                model = read_model(fields["model"])
                own = await driver.model()
                told.own_vectors = own is not None and own.is_same(model)
                ending.add(raw)
                continue
            line = read_record(fields, limits, model if told.own_vectors else None)
            ending.add(raw, line.record)
        if batch.is_full(line):
            await batch.keep(told.kept)
        batch.add(line)
    await batch.keep(told.kept)
    if not ended:
        raise _cut(number)
    return told


async def import_records(
    driver: RecordDriver,
    records: Iterable[Line],
    *,
    told: Imported | None = None,
    dry_run: bool = False,
) -> Imported:
    """Keep records that another program's file has, in the same way."""
    told, batch = told or Imported(), _Batch(driver, dry_run=dry_run)
    for line in records:
        if batch.is_full(line):
            await batch.keep(told.kept)
        batch.add(line)
    await batch.keep(told.kept)
    return told


class _Batch:
    """The records that are read and not yet kept."""

    def __init__(self, driver: RecordDriver, *, dry_run: bool) -> None:
        self._driver = driver
        self._dry_run = dry_run
        self._lines: list[Line] = []
        self._size = 0

    def is_full(self, line: Line) -> bool:
        """Whether the batch is to be kept before it gets this one."""
        return len(self._lines) == MOST or (
            bool(self._lines) and self._size + len(line.record.content) > MOST_CHARS
        )

    def add(self, line: Line) -> None:
        self._lines.append(line)
        self._size += len(line.record.content)

    async def keep(self, counts: Counts) -> None:
        """Let the driver keep them, and count them."""
        lines, self._lines, self._size = self._lines, [], 0
        if lines and not self._dry_run:
            derived = [line.derived for line in lines]
            await self._driver.import_records([line.record for line in lines], derived)
        for line in lines:
            counts.add(line.record)


def _cut(number: int) -> InvalidInput:
    return InvalidInput(
        f"the file is cut: it ends with line {number}, without its last line, which tells what "
        "has to be there"
    )


@contextmanager
def _at_line(number: int, *, cut: bool) -> Iterator[None]:
    """In the block, bad input is told with the number of its line, or as what is left of one."""
    try:
        yield
    except InvalidInput as error:
        if cut:
            raise _cut(number) from None
        raise InvalidInput(f"line {number}: {error}", (number, *error.loc)) from None
