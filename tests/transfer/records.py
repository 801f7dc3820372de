"""Records that are hard to keep, and what reads and writes them."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory, Record
from app.settings import Limits
from app.transfer.exporting import export_lines
from app.transfer.importing import Imported, import_lines

MOMENT = datetime(2026, 5, 8, 13, 56, 0, 123456, tzinfo=UTC)
HOSTILE = [
    "plain",
    '"quotes" \\ backslash \\u0041 \\n',
    "a\nb\r\nc\u2028d\u2029e\x85f\x0bg\x0ch",
    "\x01\x1f\x7f\u0080",
    "\ufeffbyte order mark",
    "e\u0301 \u00e9 \u1e9b\u0323 İ ß ﬁ",
    "👩‍👩‍👧‍👦 \U0010ffff \ufffe \uffff",
    "عربى \u202eright to left\u202c",
    " leading and trailing ",
    '{"end":{"memories":0,"knowledge":0,"sha256":""}}',
    '{"memory_id":"x"}\n{"end":{}}\n',
    "'; drop table memories; --",
    "-",
    "null",
    "x" * 32_768,
    "\u2603" * 32_768,
]
METADATA: list[dict[str, object]] = [
    {"n": 1, "f": 1.0, "e": 1e300, "tiny": 5e-324, "big": 10**400, "neg": -0.0},
    {"": "empty key", "a.b": 1, "$x": None, "\u2028": [True, False, None, [], {}]},
    {"deep": {"deep": {"deep": ["\n", {"\r": "\t"}]}}, "user_id": "eve", "end": {}},
]


def hostile_records() -> list[Record]:
    """Of each hostile text a memory that has it everywhere, and a record of knowledge."""
    records: list[Record] = []
    for n, text in enumerate(HOSTILE):
        short = text[:100]
        occurred = MOMENT.astimezone(timezone(timedelta(minutes=330 - 15 * n)))
        records.append(
            Memory(
                memory_id=str(UUID(int=n + 1)),
                user_id=short,
                content=text,
                conversation_id=short if n % 2 else None,
                tags=[short, short, "x"] if n % 3 else [],
                metadata=METADATA[n % 3] | {"text": short},
                created_at=MOMENT + timedelta(microseconds=n),
                updated_at=MOMENT + timedelta(days=n),
                occurred_at=occurred,
                expires_at=datetime(9999, 12, 29, tzinfo=UTC) if n % 2 else None,
                request=UUID(int=2**127 + n) if n % 4 else None,
            )
        )
        records.append(
            Knowledge(
                knowledge_id=str(UUID(int=n + 1)),
                content=text,
                category=short,
                title=short if n % 2 else None,
                doc_id=short if n % 3 else None,
                metadata=METADATA[n % 3],
                created_at=MOMENT,
                updated_at=MOMENT + timedelta(microseconds=n),
                position=n if n % 3 else None,
                request=UUID(int=n) if n % 4 else None,
            )
        )
    return records


async def exported(driver: RecordDriver, *, vectors: bool = False) -> bytes:
    """The file that an export makes."""
    return b"".join([piece async for piece in export_lines(driver, vectors=vectors)])


async def imported(
    driver: RecordDriver, file: bytes, limits: Limits | None = None, piece: int = 1_000
) -> Imported:
    """Import a file that comes in pieces of that many bytes."""
    return await import_lines(driver, in_pieces(file, piece), limits or Limits())


async def in_pieces(file: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(file), size):
        yield file[start : start + size]


async def every_record(driver: RecordDriver) -> list[Record]:
    return [record async for record in driver.export_records()]


def by_place(records: Sequence[Record]) -> list[str]:
    """The records in an order of their own, to compare two drivers that have another each."""
    return sorted(map(repr, records))
