"""The journal by itself: the writes of a batch keep their places, as if each came alone."""

from datetime import UTC, datetime
from uuid import uuid4

from app.core.memory.records import Memory
from app.journal.entries import Write, stores_of
from app.journal.journal import Journal
from app.settings import JournalSettings


def memory(user_id: str) -> Memory:
    return Memory(
        memory_id=str(uuid4()), user_id=user_id, content="A jar.", created_at=datetime.now(UTC)
    )


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


async def test_each_store_of_a_batch_is_behind_the_deletes_that_concern_it(
    file_or_shared: JournalSettings,
) -> None:
    journal = Journal(file_or_shared, "wrapper")
    await journal.open(["first", "second", "third"])
    users = {name: memory(name) for name in ("ada", "bob", "eve", "dan", "zoe")}
    eve, dan = users["eve"].memory_id, users["dan"].memory_id
    await journal.append([Write(verb="delete_user", user_id="bob")], ["first", "second"])
    await journal.append([Write(verb="delete", user_id="eve", record_id=eve)], ["second"])
    await journal.append([Write(verb="delete", record_id=dan)], ["third"])
    await journal.append([Write(verb="delete", user_id="bob", record_id=dan)], ["first"])
    made = await journal.append(stores_of(users.values()), ["first", "second", "third"])
    await journal.append([Write(verb="delete_user", user_id="zoe")], ["first"])
    assert {entry.user_id: entry.behind for entry in made} == {
        "ada": frozenset(),
        "bob": frozenset({"first", "second"}),
        "eve": frozenset({"second"}),
        "dan": frozenset({"third"}),
        "zoe": frozenset(),
    }
    await journal.settle(made, ["first", "second", "third"])
    left = {e.user_id: e.pending_for for e in await journal.everything() if e.stores}
    assert left == {entry.user_id: entry.behind for entry in made if entry.behind}
    await journal.close()
