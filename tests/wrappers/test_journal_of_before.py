"""A journal that a service without updates wrote, with writes still pending, is delivered."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any
from uuid import uuid4

import asyncpg

from app.core.memory.records import Memory
from app.core.memory.requests import Keep
from app.settings import JournalSettings, Limits, ReplicatedSettings
from app.wrappers.replicated import ReplicatedDriver
from tests.wrappers.flaky import OneVector
from tests.wrappers.held import Held
from tests.wrappers.settled import settle

TABLES = """
create table journal_entries (
    seq {seq}, wrapper text not null, verb text not null, user_id text, record_id text,
    records text not null, created_at float not null, held_until float not null
);
create index journal_entries_by_user on journal_entries (wrapper, user_id, verb, seq);
create table journal_deliveries (
    seq bigint not null, target text not null, parked boolean not null, primary key (seq, target),
    foreign key (seq) references journal_entries (seq) on delete cascade
);
create index journal_deliveries_by_target on journal_deliveries (target, seq);
create table journal_tombstones (
    seq bigint primary key, wrapper text not null, verb text not null, user_id text, record_id text,
    created_at float not null
);
create index journal_tombstones_of_record on journal_tombstones (wrapper, record_id);
create index journal_tombstones_of_user on journal_tombstones (wrapper, user_id);
create table journal_targets (
    wrapper text not null, target text not null, primary key (wrapper, target)
);
"""


def of_before(user_id: str, age: float) -> tuple[Memory, str]:
    """A memory, and how that service journalled it."""
    created_at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=age)
    memory = Memory(
        memory_id=str(uuid4()), user_id=user_id, content="A jar.", created_at=created_at
    )
    fields: dict[str, Any] = {
        "memory_id": memory.memory_id,
        "user_id": user_id,
        "content": "A jar.",
        "conversation_id": None,
        "tags": [],
        "metadata": {},
        "created_at": created_at.isoformat(),
        "score": None,
    }
    return memory, json.dumps([fields])


async def write(journal: JournalSettings, tables: dict[str, list[tuple[Any, ...]]]) -> None:
    """Make the journal of before, with these rows."""
    if journal.url is None:
        journal.path.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(journal.path / "replicated.sqlite")) as file:
            file.executescript(TABLES.format(seq="integer primary key autoincrement"))
            for table, rows in tables.items():
                marks = ", ".join("?" * len(rows[0]))
                file.executemany(f"insert into {table} values ({marks})", rows)  # noqa: S608
            file.commit()
        return
    connection = await asyncpg.connect(journal.url.get_secret_value())
    await connection.execute(TABLES.format(seq="bigserial primary key"))
    for table, rows in tables.items():
        marks = ", ".join(f"${n + 1}" for n in range(len(rows[0])))
        await connection.executemany(f"insert into {table} values ({marks})", rows)  # noqa: S608
    await connection.execute("select setval('journal_entries_seq_seq', 100)")
    await connection.close()


async def test_what_was_pending_is_delivered(
    file_or_shared: JournalSettings, first: Held, second: Held
) -> None:
    now = time()
    forgotten, _ = of_before("ada", 60)
    deleted, _ = of_before("bob", 60)
    kept, kept_row = of_before("eve", 50)
    later, later_row = of_before("ada", 10)
    dead, dead_row = of_before("ada", 60)
    first_has, second_has = [kept, later], [forgotten, deleted]
    await first._keep(Keep(first_has))
    await second._keep(Keep(second_has))
    wrapper = "replicated"
    rows: list[tuple[Any, ...]] = [
        (1, wrapper, "store", "ada", None, dead_row, now - 45, 0.0),
        (2, wrapper, "store", "eve", None, kept_row, now - 40, 0.0),
        (3, wrapper, "delete_user", "ada", None, "[]", now - 30, 0.0),
        (4, wrapper, "delete", "bob", deleted.memory_id, "[]", now - 20, 0.0),
        (5, wrapper, "store", "ada", None, later_row, now - 9, 0.0),
    ]
    await write(
        file_or_shared,
        {
            "journal_entries": rows,
            "journal_deliveries": [(row[0], "second", row[0] == 4) for row in rows],
            "journal_tombstones": [
                (3, wrapper, "delete_user", "ada", None, now - 30),
                (4, wrapper, "delete", "bob", deleted.memory_id, now - 20),
            ],
            "journal_targets": [(wrapper, "first"), (wrapper, "second")],
        },
    )
    settings = ReplicatedSettings(timeout=1)
    made = ReplicatedDriver([first, second], settings, file_or_shared, OneVector(), Limits())
    async with made as driver:
        await settle(driver)
        assert await first.ids() == await second.ids() == {kept.memory_id, later.memory_id}
        assert await second.get(kept.memory_id, "eve") == kept
        assert kept.updated_at == kept.created_at
        updated = await driver.update(kept.memory_id, "eve", {"content": "A lid."})
        assert await driver.delete_user("ada") == 1
        await settle(driver)
        assert await second.get(kept.memory_id, "eve") == updated
    assert dead.memory_id not in await second.ids()


async def test_a_journal_that_is_as_it_must_be_is_opened_twice(
    file_or_shared: JournalSettings, first: Held, second: Held
) -> None:
    for _ in range(2):
        driver = ReplicatedDriver(
            [first, second], ReplicatedSettings(), file_or_shared, OneVector(), Limits()
        )
        async with driver:
            await driver.store("ada", "A jar.")
            await settle(driver)
