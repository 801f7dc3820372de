"""A copy has everything as it was, goes on where it was killed, and brings nothing deleted back."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Kept, Memory, Record, key_of
from app.core.memory.requests import Export, Keep
from app.drivers.inmemory import InMemoryDriver
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder, Model
from app.errors import ConnectionLost, DriverError, InvalidInput
from app.settings import DatabaseSettings, Limits
from app.transfer.batches import MOST
from app.transfer.copying import Copied, copy, verify
from app.transfer.state import State
from tests.conftest import NewDatabase
from tests.transfer.records import MOMENT, by_place, every_record, hostile_records


@pytest.fixture
def source(embedder: Embedder) -> InMemoryDriver:
    return InMemoryDriver(embedder, Limits())


@pytest.fixture
def target(embedder: Embedder) -> InMemoryDriver:
    return InMemoryDriver(embedder, Limits())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "copy.state"


async def copied(source: RecordDriver, target: RecordDriver, file: Path, **options: Any) -> Copied:
    return await copy(source, target, State.read(file, {}), **options)


def many(count: int, users: int = 7) -> list[Record]:
    return [
        Memory(
            memory_id=f"00000000-0000-4000-8000-{n:012}",
            user_id=f"user {n % users}",
            content=f"kettle {n}",
            created_at=MOMENT + timedelta(seconds=n),
        )
        for n in range(count)
    ]


async def test_everything_is_copied_as_it_was_and_no_vector_is_made_again(
    source: RecordDriver,
    new_database: NewDatabase,
    embedder: Embedder,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = hostile_records()
    await source.import_records(records)
    settings = DatabaseSettings(url=SecretStr(await new_database()))
    async with PgvectorDriver(settings, embedder, Limits()) as target:
        embed = type(embedder).embed

        async def only_the_sample(self: Embedder, texts: Sequence[str]) -> Any:
            assert len(texts) == 1
            return await embed(self, texts)

        monkeypatch.setattr(type(embedder), "embed", only_the_sample)
        told = await copied(source, target, file)
        assert (told.records, told.vectors) == (len(records), True)
        assert by_place(await every_record(target)) == by_place(records)
        before, after = await source.derived_of(records), await target.derived_of(records)
        for one, other in zip(before, after, strict=True):
            assert one is not None
            assert other is not None
            np.testing.assert_array_equal(one.vectors, other.vectors)
            assert one.outline == other.outline
        assert (await verify(source, target)).none
        again = await copied(source, target, file.with_name("again"))
        assert again.records == len(records)
        assert by_place(await every_record(target)) == by_place(records)


async def test_of_another_model_texts_are_embedded_anew(
    source: RecordDriver, embedder: Embedder, file: Path
) -> None:
    class Other(InMemoryDriver):
        async def _model(self) -> Model:
            return Model("of the same name", -(await Model.of(embedder)).sample)

    target = Other(embedder, Limits())
    await source.import_records(many(20))
    told = await copied(source, target, file)
    assert (told.records, told.vectors) == (20, False)
    assert (await verify(source, target)).none


async def test_one_user_or_what_is_new_can_be_copied(
    source: RecordDriver, target: RecordDriver, file: Path
) -> None:
    await source.import_records(many(70))
    await source.store_global_knowledge("Kettles boil.", "physics")
    await copied(source, target, file, user_id="user 3")
    assert {key_of(one)[0] for one in await every_record(target)} == {"user 3"}
    assert (await verify(source, target, "user 3")).none
    assert (await verify(source, target)).missing == 61
    since = MOMENT + timedelta(seconds=50)
    await copied(source, target, file.with_name("other"), since=since)
    assert (await verify(source, target, since=since)).none
    assert (await verify(source, target)).missing == 43


async def test_a_copy_that_was_broken_off_goes_on_a_few_batches_before(
    source: RecordDriver, embedder: Embedder, file: Path
) -> None:
    class Failing(InMemoryDriver):
        calls = 0
        away = True

        async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
            self.calls += 1
            if self.away and self.calls > 6:
                raise ConnectionLost
            return await super()._keep(wanted)

    read: list[str] = []

    class Watched(InMemoryDriver):
        async def _export(self, wanted: Export) -> Any:
            async for record in super()._export(wanted):
                read.append(record.user_id if isinstance(record, Memory) else "knowledge")
                yield record

    records = many(10 * MOST, users=10)
    watched, target = Watched(embedder, Limits()), Failing(embedder, Limits())
    await watched.import_records(records)
    with pytest.raises(ConnectionLost):
        await copied(watched, target, file)
    assert len(await every_record(target)) == 6 * MOST
    target.away = False
    read.clear()
    told = await copied(watched, target, file)
    assert {f"user {n}" for n in range(6, 10)} <= set(read) <= {f"user {n}" for n in range(1, 10)}
    assert told.records == 10 * MOST
    assert (await verify(watched, target)).none


async def test_what_is_deleted_while_it_is_copied_does_not_come_back(
    source: RecordDriver, embedder: Embedder, file: Path
) -> None:
    records = many(2 * MOST)

    class Late(InMemoryDriver):
        """The source and this one lose a record before this one gets it."""

        async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
            for each in wanted.records[:2]:
                if isinstance(each, Memory):
                    await source.delete(each.memory_id, each.user_id)
                    await self.delete(each.memory_id, each.user_id)
            return await super()._keep(wanted)

    target = Late(embedder, Limits())
    await source.import_records(records)
    told = await copied(source, target, file)
    assert told.deleted == 4
    assert len(await every_record(target)) == 2 * MOST - 4
    assert (await verify(source, target)).none


async def test_nor_where_the_copy_was_killed_before_it_looked(
    source: InMemoryDriver, target: RecordDriver, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [record] = many(1)
    await source.import_records([record])
    with monkeypatch.context() as patch:

        async def killed(*_: object) -> set[Any]:
            raise ConnectionLost

        patch.setattr(source, "_gone", killed)
        with pytest.raises(ConnectionLost):
            await copied(source, target, file)
    assert await every_record(target) == [record]
    await source.delete_user("user 0")
    assert (await copied(source, target, file)).deleted == 1
    assert await every_record(target) == []


async def test_a_later_version_of_the_target_stays(
    source: RecordDriver, target: RecordDriver, file: Path
) -> None:
    stored = await source.store("ada", "A kettle.")
    await target.import_records([stored])
    changed = await target.update(stored.memory_id, "ada", {"content": "A pot."})
    await copied(source, target, file)
    assert await target.get(stored.memory_id, "ada") == changed


async def test_a_verification_names_what_differs(
    source: RecordDriver, target: RecordDriver
) -> None:
    same, missing, different, extra = many(4, users=1)
    assert isinstance(different, Memory)
    known = await source.store_global_knowledge("Kettles boil.", "physics")
    await source.import_records([same, missing, different])
    await target.import_records([same, replace(different, tags=["x"]), extra])
    found = await verify(source, target)
    assert (found.missing, found.different, found.extra) == (2, 1, 1)
    assert set(found.named) == {
        ("missing", key_of(missing)),
        ("missing", key_of(known)),
        ("different", key_of(different)),
        ("extra", key_of(extra)),
    }
    assert len((await verify(source, target, named=2)).named) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"content": "x"},
        {"conversation_id": "x"},
        {"tags": ["x"]},
        {"metadata": {"n": 1.0}},
        {"updated_at": MOMENT + timedelta(microseconds=1)},
        {"occurred_at": MOMENT + timedelta(days=1)},
        {"expires_at": MOMENT + timedelta(days=10_000)},
        {"request": UUID(int=7)},
    ],
)
async def test_a_verification_sees_every_field(
    source: RecordDriver, target: RecordDriver, changes: dict[str, Any]
) -> None:
    [record] = many(1)
    record = replace(record, metadata={"n": 1})
    await source.import_records([record])
    await target.import_records([replace(record, **changes)])
    assert (await verify(source, target)).different == 1


async def test_what_is_under_way_is_looked_up_again(
    source: RecordDriver, target: RecordDriver
) -> None:
    records = many(10)
    await source.import_records(records)
    looks = 0

    async def again() -> bool:
        nonlocal looks
        looks += 1
        if looks == 3:
            await target.import_records(records)
        return looks < 100

    assert (await verify(source, target, again=again)).none


async def test_a_large_owner_is_compared_in_parts(
    source: RecordDriver, target: RecordDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.transfer.comparing._PART", 10)
    records = many(95, users=1)
    await source.import_records(records[:90])
    await target.import_records(records[3:])
    found = await verify(source, target, named=100)
    assert (found.missing, found.different, found.extra) == (3, 0, 5)
    assert {key for what, key in found.named if what == "missing"} == set(map(key_of, records[:3]))


async def test_a_driver_that_is_not_in_order_is_not_compared(
    target: RecordDriver, embedder: Embedder
) -> None:
    class Backwards(InMemoryDriver):
        async def _export(self, wanted: Export) -> Any:
            for record in reversed([one async for one in super()._export(wanted)]):
                yield record

    source = Backwards(embedder, Limits())
    await source.import_records(many(4))
    with pytest.raises(DriverError):
        await verify(source, target)


async def test_a_state_is_of_one_copy(tmp_path: Path) -> None:
    file = tmp_path / "copy.state"
    state = State.read(file, {"source": "a"})
    await state.begin([("ada", "0"), ("bob", "1"), (None, "2"), (None, "3")])
    again = State.read(file, {"source": "a"})
    assert (again.owner, again.before, again.doubt) == ("", 0, state.doubt)
    begun = [*state.doubt]
    await state.begin([(None, "4")])
    assert State.read(file, {"source": "a"}).doubt == [*begun, (None, "4")]
    state.end(begun)
    await state.begin([])
    again = State.read(file, {"source": "a"})
    assert (again.owner, again.before, again.doubt) == (None, 2, [(None, "4")])
    assert (again.records, state.records) == (2, 4)
    with pytest.raises(InvalidInput, match="state of another copy"):
        State.read(file, {"source": "b"})
    for text in ("", "[]", "\x00", '{"form": 2}'):
        file.write_text(text)
        with pytest.raises(InvalidInput):
            State.read(file, {"source": "a"})
    state.forget()
    state.forget()
    assert not file.exists()
