"""Records leave a driver owner by owner, with the vectors that its model made of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from app.core.memory.derived import Derived, outline_of
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory, Record, key_of, place_of_owner
from app.embedding import Embedder
from app.errors import InvalidInput
from app.ranking.outlines import signs_of

USERS = ["a", "A", "a\U0010ffff", "a ", "ab", "Ω", "\U0010ffff", "ä", "a\x01", "b"]
LONG = " ".join(f"The kettle number {n} stands on shelf {n % 7}." for n in range(400))


async def exported(driver: RecordDriver, *user: str) -> list[Record]:
    return [record async for record in driver.export_records(*user)]


async def test_users_come_in_code_point_order_and_knowledge_last(driver: RecordDriver) -> None:
    for user_id in USERS:
        await driver.store(user_id, f"A kettle of {user_id}.")
        await driver.store(user_id, "Another kettle.")
    await driver.store_global_knowledge("Kettles boil.", "physics")
    found = await exported(driver)
    assert len(found) == 2 * len(USERS) + 1
    assert found == sorted(found, key=place_of_owner)
    owners = [record.user_id for record in found if isinstance(record, Memory)]
    assert owners[::2] == sorted(USERS)


@pytest.mark.parametrize("user_id", USERS)
async def test_an_export_of_one_user_has_nothing_else(driver: RecordDriver, user_id: str) -> None:
    for each in USERS:
        await driver.store(each, f"A kettle of {each}.")
    await driver.store_global_knowledge("Kettles boil.", "physics")
    found = await exported(driver, user_id)
    assert [record.content for record in found] == [f"A kettle of {user_id}."]


async def test_an_export_of_nobody_is_empty(driver: RecordDriver) -> None:
    await driver.store("ada", "A kettle.")
    assert await exported(driver, "adam") == []
    with pytest.raises(InvalidInput):
        await exported(driver, "")


async def test_an_export_since_a_moment_has_what_was_stored_or_changed_then(
    driver: RecordDriver,
) -> None:
    start = datetime(2026, 5, 8, tzinfo=UTC)
    stored = await driver.store("ada", "A kettle.")
    made = [
        replace(
            stored,
            memory_id=f"00000000-0000-4000-8000-{n:012}",
            created_at=start - timedelta(days=1),
            occurred_at=start - timedelta(days=1),
            updated_at=start + timedelta(microseconds=n - 1),
        )
        for n in range(3)
    ]
    await driver.import_records(made)
    found = [one async for one in driver.export_records("ada", since=start)]
    assert {one.updated_at for one in found} == {one.updated_at for one in (*made[1:], stored)}


async def test_what_is_gone_is_told_from_what_was_changed(driver: RecordDriver) -> None:
    kept, changed, deleted = [await driver.store("ada", f"kettle {n}") for n in range(3)]
    known = await driver.store_global_knowledge("Kettles boil.", "physics")
    lost = await driver.store_global_knowledge("Kettles freeze.", "physics")
    await driver.update(changed.memory_id, "ada", {"content": "a pot"})
    await driver.delete(deleted.memory_id, "ada")
    await driver.delete_knowledge(lost.knowledge_id)
    others = replace(kept, user_id="bob")
    expired = replace(
        kept,
        memory_id="00000000-0000-4000-8000-000000000001",
        expires_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    await driver.import_records([expired])
    asked: list[Record] = [kept, changed, deleted, known, lost, others, expired]
    gone = await driver.gone([key_of(record) for record in asked])
    assert gone == {key_of(record) for record in (deleted, lost, others, expired)}
    assert await driver.gone([]) == set()


async def test_an_export_may_start_at_a_user_or_with_the_knowledge(driver: RecordDriver) -> None:
    for each in USERS:
        await driver.store(each, f"A kettle of {each}.")
    known = await driver.store_global_knowledge("Kettles boil.", "physics")
    for user_id in USERS:
        found = [one async for one in driver.export_records(start=user_id)]
        owners = [one.user_id for one in found if isinstance(one, Memory)]
        assert owners == sorted(each for each in USERS if each >= user_id)
        assert found[-1] == known
    assert [one async for one in driver.export_records(start=None)] == [known]


async def test_vectors_travel_with_their_records(
    driver: RecordDriver, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = await driver.model()
    if model is None:
        pytest.skip("the driver gives no vectors")
    stored: list[Record] = [
        await driver.store("ada", "The kettle is made of copper."),
        await driver.store("ada", LONG, metadata={"speaker": "Ada"}),
        await driver.store_global_knowledge("Kettles boil at 100 degrees.", "physics"),
        await driver.store_global_knowledge(LONG, "physics"),
    ]
    derived = await driver.derived_of(stored)
    vectors = [one.vectors for one in derived if one is not None]
    windows = [len(one) for one in vectors]
    assert len(windows) == len(stored)
    assert [n > 1 for n in windows] == [False, True, False, True]
    assert all(map(model.may_have_made, vectors))
    before = await driver.recall("ada", query="copper"), await driver.recall_global_knowledge("hot")
    await driver.delete_user("ada")
    for record in stored:
        if isinstance(record, Knowledge):
            await driver.delete_knowledge(record.knowledge_id)
    made = 0
    embed = embedder.embed

    async def counted(texts: list[str]) -> object:
        nonlocal made
        made += len(texts)
        return await embed(texts)

    monkeypatch.setattr(type(embedder), "embed", lambda _, texts: counted(texts))
    await driver.import_records(stored, derived)
    assert made == 0
    monkeypatch.undo()
    after = await driver.derived_of(stored)
    for old, new in zip(derived, after, strict=True):
        assert old is not None
        assert new is not None
        np.testing.assert_array_equal(old.vectors, new.vectors)
        assert old.outline == new.outline
    assert (
        await driver.recall("ada", query="copper"),
        await driver.recall_global_knowledge("hot"),
    ) == before


async def test_the_outline_that_is_given_is_the_one_that_would_be_made(
    driver: RecordDriver,
) -> None:
    if await driver.model() is None:
        pytest.skip("the driver gives no vectors")
    stored = [
        await driver.store(
            "ada",
            "The kettle is made of copper.",
            "talk",
            occurred_at=datetime(2023, 5, 8, tzinfo=UTC),
        ),
        await driver.store("ada", LONG, metadata={"speaker": "Ada"}, ttl=1_000),
        await driver.store("ada", "x" * 30_000, metadata={"date": "8 May 2023"}),
        await driver.store("ada", " ".join(f"word{n}" for n in range(1_500))),
    ]
    updated = await driver.update(stored[0].memory_id, "ada", {"content": "Bob: Is it tin?"})
    assert updated is not None
    stored[0] = updated
    for memory, derived in zip(stored, await driver.derived_of(stored), strict=True):
        assert derived is not None
        assert derived.language == "english"
        assert derived.outline == outline_of(memory, signs_of(derived.vectors), "english")


async def test_an_outline_of_the_same_words_is_taken_and_another_is_made_anew(
    driver: RecordDriver,
) -> None:
    """One that is right in form and wrong in fact shows who made the one that is kept."""
    if await driver.model() is None:
        pytest.skip("the driver gives no vectors")
    stored = await driver.store("ada", "The kettles were boiling.")
    [own] = await driver.derived_of([stored])
    assert own is not None
    wrong = outline_of(replace(stored, content="Teapots"), signs_of(own.vectors), "english")
    for language, kept in (("english", wrong), ("german", own.outline), (None, own.outline)):
        await driver.delete(stored.memory_id, "ada")
        await driver.import_records([stored], [Derived(own.vectors, wrong, language)])
        [now] = await driver.derived_of([stored])
        assert now is not None
        assert now.outline == kept


async def test_the_vectors_of_a_record_that_has_changed_are_not_given(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "The kettle is made of copper.")
    known = await driver.store_global_knowledge("Kettles boil.", "physics")
    await driver.update(stored.memory_id, "ada", {"content": "The kettle is made of tin."})
    await driver.update_knowledge(known.knowledge_id, {"content": "Kettles whistle."})
    assert list(await driver.derived_of([stored, known])) == [None, None]


async def test_vectors_of_an_older_version_do_not_replace_those_of_a_later_one(
    driver: RecordDriver,
) -> None:
    if await driver.model() is None:
        pytest.skip("the driver gives no vectors")
    first = await driver.store("ada", "The kettle is made of copper.")
    derived = await driver.derived_of([first])
    changed = await driver.update(first.memory_id, "ada", {"content": "The pot is made of tin."})
    assert changed is not None
    later = await driver.derived_of([changed])
    await driver.import_records([first], derived)
    assert await driver.get(first.memory_id, "ada") == changed
    now = await driver.derived_of([changed])
    assert now[0] is not None
    assert later[0] is not None
    np.testing.assert_array_equal(now[0].vectors, later[0].vectors)
