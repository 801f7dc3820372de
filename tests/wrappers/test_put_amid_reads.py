"""A put that reaches a driver between a reader's look at the journal and the driver's answer."""

from collections.abc import Awaitable, Callable

import pytest

from app.core.memory.record_driver import RecordDriver
from app.errors import DriverUnavailable
from app.settings import Limits
from app.wrappers.failover import FailoverDriver
from app.wrappers.scoped import ScopedDriver
from tests.wrappers.conftest import OpenFailover
from tests.wrappers.held import Held
from tests.wrappers.settled import settle

READS = ("page", "page_knowledge", "export", "recall", "recall_knowledge")


async def put(driver: RecordDriver, *pieces: str) -> None:
    await driver.put_document("manual", category="kitchen", pieces=pieces)


async def exported(driver: RecordDriver) -> list[str]:
    return [record.content async for record in driver.export_records()]


async def listed(driver: RecordDriver) -> list[str]:
    return [record.content for record in (await driver.list_knowledge()).knowledge]


async def recalled(driver: RecordDriver) -> list[str]:
    return [record.content for record in await driver.recall_global_knowledge("put", top_k=10)]


def before_the_read(driver: Held, number: int, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """`meanwhile` happens when the driver is asked that many times, before it looks."""
    reach, reads = driver._reach, 0

    async def asked(verb: str) -> None:
        nonlocal reads
        reads += verb in READS
        if verb in READS and reads == number:
            await meanwhile()
        await reach(verb)

    driver._reach = asked  # type: ignore[method-assign]


async def pending(failover: FailoverDriver, first: Held, documents: RecordDriver) -> None:
    """`first` has an old put, and a second one waits for it."""
    await put(documents, *[f"old {n}" for n in range(5)])
    await settle(failover)
    first.keep_error = DriverUnavailable()
    await put(documents, "put 0")


async def put_late(failover: FailoverDriver, first: Held, documents: RecordDriver) -> None:
    """A third put, which `first` has at once, as it has all else."""
    first.keep_error = None
    await put(documents, *[f"late {n}" for n in range(4)])
    await settle(failover)


@pytest.mark.parametrize("read", [exported, listed, recalled])
@pytest.mark.parametrize("tenant", [False, True])
async def test_a_reader_gets_a_document_as_one_put_left_it(
    failover: OpenFailover,
    first: Held,
    read: Callable[[RecordDriver], Awaitable[list[str]]],
    *,
    tenant: bool,
) -> None:
    driver = await failover(writes="journal")
    documents = ScopedDriver(driver, "acme", Limits()) if tenant else driver
    reader = driver if read is exported else documents  # an export has what follows the tenant's
    await pending(driver, first, documents)
    assert await read(reader) == ["put 0"]
    before_the_read(first, 1, lambda: put_late(driver, first, documents))
    assert sorted(await read(reader)) == [f"late {n}" for n in range(4)]


async def test_an_export_has_the_late_put_before_what_comes_after_it(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal")
    tenant = ScopedDriver(driver, "acme", Limits())
    await pending(driver, first, tenant)
    first.keep_error = None
    await driver.store("zoe", "kettle")
    first.keep_error = DriverUnavailable()
    before_the_read(first, 1, lambda: put_late(driver, first, tenant))
    assert await exported(driver) == [*(f"late {n}" for n in range(4)), "kettle"]


async def test_a_list_is_read_anew_where_a_put_comes_between_its_parts(
    failover: OpenFailover, first: Held
) -> None:
    """The first part has nothing but old pieces, in whose place the pending one is."""
    driver = await failover(writes="journal")
    await pending(driver, first, driver)
    before_the_read(first, 2, lambda: put_late(driver, first, driver))
    page = await driver.list_knowledge(doc_id="manual", limit=2)
    assert [record.content for record in page.knowledge] == ["late 0", "late 1"]
    page = await driver.list_knowledge(doc_id="manual", limit=2, cursor=page.next_cursor)
    assert [record.content for record in page.knowledge] == ["late 2", "late 3"]


async def test_a_list_is_read_once_whatever_else_its_records_are_of(
    failover: OpenFailover, first: Held
) -> None:
    """A caller's own metadata looks like a document that was put sixty times."""
    driver = await failover(writes="journal")
    for n in range(60):
        metadata = {"doc_id": "report", "position": n}
        stored = await driver.store("ada", f"kettle {n}", metadata=metadata)
    first.delete_error = DriverUnavailable()
    await driver.delete(stored.memory_id, "ada")
    first.calls.clear()
    page = await driver.list_memories("ada", limit=50)
    assert [memory.content for memory in page.memories] == [f"kettle {58 - n}" for n in range(50)]
    assert first.calls.count("page") == 2
