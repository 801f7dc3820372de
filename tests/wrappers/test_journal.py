"""The journal by itself: what it keeps, what a tombstone kills, and what time it is."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time
from uuid import uuid4

import pytest

from app.core.memory.records import Memory
from app.errors import DriverUnavailable
from app.journal.entries import Write, stores_of
from app.journal.journal import Journal
from app.settings import JournalSettings


def memory(user_id: str) -> Memory:
    return Memory(
        memory_id=str(uuid4()), user_id=user_id, content="A jar.", created_at=datetime.now(UTC)
    )


def set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine's clock be an hour late."""
    monkeypatch.setattr("app.core.memory.clock.time", lambda: time() - 3_600)
    monkeypatch.setattr("app.journal.journal.time", lambda: time() - 3_600)


async def test_a_batch_of_many_users_is_kept_in_its_order(file_or_shared: JournalSettings) -> None:
    journal = Journal(file_or_shared, "wrapper")
    await journal.open(["first", "second"])
    memories = [memory(f"user {n}") for n in range(1_200)]
    made = await journal.append(stores_of(memories), ["first", "second"])
    assert [entry.seq for entry in made] == sorted({entry.seq for entry in made})
    kept = await journal.everything()
    assert [(e.seq, e.user_id, e.records) for e in kept] == [
        (entry.seq, one.user_id, [one]) for entry, one in zip(made, memories, strict=True)
    ]
    assert {entry.pending_for for entry in kept} == {frozenset({"first", "second"})}
    await journal.settle(made, ["first", "second"])
    assert await journal.count() == 0
    await journal.close()


async def test_an_import_waits_for_the_delete_of_what_it_stores_again_and_ends_it(
    file_or_shared: JournalSettings,
) -> None:
    journal = Journal(file_or_shared, "wrapper")
    await journal.open(["first", "second"])
    jar, lid = memory("ada"), memory("ada")
    (stored,) = await journal.append(stores_of([jar]), ["second"])
    (deleted,) = await journal.append(
        [Write(verb="delete", user_id="ada", record_id=jar.memory_id)], ["first", "second"]
    )
    again = stores_of([jar, lid])
    for pending in (deleted, stored):
        with pytest.raises(DriverUnavailable):
            await journal.append_import(again, ["first", "second"])
        with pytest.raises(DriverUnavailable):
            await journal.lift(again)
        assert [e.record_id for e in await journal.dead([stored], "first")] == [jar.memory_id]
        await journal.settle([pending], ["first", "second"])
    (made,) = await journal.append_import(again, ["first"])
    assert await journal.dead([made], "first") == []
    (kept,) = await journal.of_user("ada")
    assert kept.records == [jar, lid]
    await journal.close()


async def test_an_import_of_a_forgotten_user_does_not_bring_back_an_older_store(
    file_or_shared: JournalSettings,
) -> None:
    journal = Journal(file_or_shared, "wrapper")
    await journal.open(["first"])
    jar, lid = memory("ada"), memory("ada")
    (stored,) = await journal.append(stores_of([jar]), ["first"])
    async with journal.moment() as moment:
        forget = Write(verb="delete_user", user_id="ada", before=moment)
        made = await journal.append([forget], ["first"])
    await journal.settle(made, ["first"])
    with pytest.raises(DriverUnavailable):  # the jar would live again
        await journal.append_import(stores_of([lid]), ["first"])
    await journal.append_import(stores_of([memory("ada"), memory("bob")]), ["first"])
    await journal.settle([stored], ["first"])
    (made_again,) = await journal.append_import(stores_of([lid]), ["first"])
    assert await journal.dead([made_again], "first") == []
    await journal.close()


async def test_a_tombstone_wins_whichever_was_journalled_first(
    file_or_shared: JournalSettings,
) -> None:
    journal = Journal(file_or_shared, "wrapper")
    await journal.open(["first"])
    jar, cup = memory("ada"), memory("bob")
    newer = replace(jar, content="Two jars.", updated_at=datetime.now(UTC))
    (early,) = await journal.append(stores_of([jar]), ["first"])
    await journal.append([Write(verb="delete", record_id=jar.memory_id)], ["first"])
    (late,) = await journal.append(stores_of([newer]), ["first"])
    await journal.append(
        [Write(verb="delete", user_id="ada", record_id=cup.memory_id)], ["first"]
    )  # not ada's
    (other,) = await journal.append(stores_of([cup]), ["first"])
    for stored in (early, late):
        assert [e.record_id for e in await journal.dead([stored], "first")] == [jar.memory_id]
    assert await journal.dead([other], "first") == []
    assert [e.records for e in await journal.everything() if e.stores] == [[], [], [cup]]
    await journal.close()


async def test_one_id_of_two_users_is_two_memories_to_tombstones(
    file_or_shared: JournalSettings,
) -> None:
    journal = Journal(file_or_shared, "wrapper")
    await journal.open(["first"])
    jar = memory("ada")
    both = [jar, replace(jar, user_id="bob")]
    stored = await journal.append(stores_of(both), ["first"])
    deletes = [Write(verb="delete", user_id=one.user_id, record_id=one.memory_id) for one in both]
    deleted = await journal.append(deletes, ["first"])
    assert [each.user_id for each in await journal.dead(stored, "first")] == ["ada", "bob"]
    await journal.settle([*stored, *deleted], ["first"])
    await journal.lift(stores_of(both))
    assert await journal.dead(stored, "first") == []
    await journal.close()


async def test_of_two_updates_of_one_version_one_is_journalled(
    file_or_shared: JournalSettings,
) -> None:
    async with AsyncExitStack() as stack:
        journals = [Journal(file_or_shared, "wrapper")]
        if journals[0].shared:
            journals.append(Journal(file_or_shared, "wrapper"))
        for journal in journals:
            await journal.open(["first"])
            stack.push_async_callback(journal.close)
        jar = memory("ada")
        updated = [
            replace(jar, content=f"Jar {n}.", updated_at=jar.updated_at + timedelta(seconds=n + 1))
            for n in range(8)
        ]
        made = await asyncio.gather(
            *(
                journals[n % len(journals)].append_update(
                    stores_of([each])[0], jar.updated_at, ["first"]
                )
                for n, each in enumerate(updated)
            )
        )
        assert sorted(map(len, made)) == [0] * 7 + [1]


async def test_a_moment_is_after_what_was_stored_and_before_what_is_stored_later(
    file_or_shared: JournalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Journal(file_or_shared, "wrapper")
    await one.open(["first"])
    async with AsyncExitStack() as stack:
        stack.push_async_callback(one.close)
        others = one.clock.new_id
        if one.shared:  # a process on a machine whose clock is an hour off
            other = Journal(file_or_shared, "wrapper")
            with monkeypatch.context() as there:
                set_back(there)
                await other.open(["first"])
            stack.push_async_callback(other.close)

            def others() -> tuple[str, datetime]:
                with monkeypatch.context() as there:
                    set_back(there)
                    return other.clock.new_id()

        for _ in range(20):
            before = [one.clock.new_id()[1], others()[1]]
            async with one.moment() as moment:
                pass
            after = [one.clock.new_id()[1], others()[1]]
            assert max(before) <= moment < min(after)


async def test_the_clock_of_a_file_goes_on_where_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(JournalSettings(path=tmp_path), "wrapper")
    await journal.open(["first"])
    async with journal.moment() as moment:
        forget = Write(verb="delete_user", user_id="ada", before=moment)
        await journal.append([forget], ["first"])
    await journal.close()
    set_back(monkeypatch)
    again = Journal(JournalSettings(path=tmp_path), "wrapper")
    await again.open(["first"])
    assert again.clock.new_id()[1] > moment
    await again.close()


async def test_a_lease_begins_when_the_write_is_in_the_file(tmp_path: Path) -> None:
    journal = Journal(JournalSettings(path=tmp_path), "main")
    await journal.open(["first"])
    delete = Write(verb="delete_user", user_id="ada")
    async with journal.database.begin():  # the only connection
        appending = asyncio.create_task(journal.append([delete], ["first"], lease=0.5))
        await asyncio.sleep(0.6)
    await appending
    assert await journal.to_deliver("first", None, 10) == []
    await journal.close()
