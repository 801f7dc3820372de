"""Documents: replaced as a whole, deleted as a whole, in their order."""

import asyncio
from datetime import timedelta

import pytest

from app.core.memory.documents import NewPiece
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, NewKnowledge
from app.errors import InvalidInput
from tests.conformance.cases import documents

pytestmark = documents


async def listed(driver: RecordDriver, doc_id: str, limit: int = 100) -> list[Knowledge]:
    """All records of the document, in its order."""
    found, cursor = [], None
    while True:
        page = await driver.list_knowledge(doc_id=doc_id, cursor=cursor, limit=limit)
        found += page.knowledge
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_a_document_is_its_pieces_in_order(driver: RecordDriver) -> None:
    kept = await driver.put_document(
        "kettles",
        category="kitchen",
        title="Kettles",
        metadata={"source": "book"},
        pieces=["Fill it.", NewPiece(content="Boil it.", title="Boiling", metadata={}), "Pour."],
    )
    assert [each.content for each in kept] == ["Fill it.", "Boil it.", "Pour."]
    assert [each.position for each in kept] == [0, 1, 2]
    assert [each.title for each in kept] == ["Kettles", "Boiling", "Kettles"]
    assert [each.metadata for each in kept] == [{"source": "book"}, {}, {"source": "book"}]
    assert {(each.doc_id, each.category) for each in kept} == {("kettles", "kitchen")}
    assert len({each.knowledge_id for each in kept}) == 3
    assert await listed(driver, "kettles") == kept
    for each in kept:
        assert await driver.get_knowledge(each.knowledge_id) == each
    found = await driver.recall_global_knowledge("Boil it.", doc_id="kettles")
    assert found[0].knowledge_id == kept[1].knowledge_id
    assert found[0].position == 1


async def test_a_put_replaces_every_record_of_the_document_and_nothing_else(
    driver: RecordDriver,
) -> None:
    other = await driver.put_document("Kettles", category="kitchen", pieces=["Another document."])
    alone = await driver.store_global_knowledge("By itself.", "kitchen")
    single = await driver.store_global_knowledge("One more.", "travel", doc_id="kettles")
    first = await driver.put_document("kettles", category="kitchen", pieces=["One.", "Two."])
    assert await driver.get_knowledge(single.knowledge_id) is None
    await driver.update_knowledge(first[0].knowledge_id, {"content": "One, changed."})
    second = await driver.put_document("kettles", category="travel", pieces=["Three."])
    assert await listed(driver, "kettles") == second
    for each in first:
        assert await driver.get_knowledge(each.knowledge_id) is None
    assert await listed(driver, "Kettles") == other
    assert await driver.get_knowledge(alone.knowledge_id) == alone
    exported = {r.knowledge_id async for r in driver.export_records() if isinstance(r, Knowledge)}
    assert exported == {each.knowledge_id for each in (*other, alone, *second)}


async def test_a_deleted_document_is_gone_and_counted(driver: RecordDriver) -> None:
    await driver.put_document("kettles", category="kitchen", pieces=["One.", "Two."])
    await driver.store_global_knowledge("Three.", "kitchen", doc_id="kettles")
    other = await driver.put_document("pans", category="kitchen", pieces=["A pan."])
    assert await driver.delete_document("kettles") == 3
    assert await driver.delete_document("kettles") == 0
    assert await listed(driver, "kettles") == []
    assert await listed(driver, "pans") == other
    again = await driver.put_document("kettles", category="kitchen", pieces=["Again."])
    assert await listed(driver, "kettles") == again


async def test_what_is_stored_after_a_put_stays(driver: RecordDriver) -> None:
    pieces = await driver.put_document("kettles", category="kitchen", pieces=["One.", "Two."])
    alone = [
        await driver.store_global_knowledge(f"More {n}.", "kitchen", doc_id="kettles")
        for n in range(2)
    ]
    assert [each.position for each in alone] == [None, None]
    assert await listed(driver, "kettles") == [*pieces, *alone]
    assert await listed(driver, "kettles", limit=1) == [*pieces, *alone]


async def test_a_record_that_is_moved_into_a_document_stays(driver: RecordDriver) -> None:
    moved = await driver.store_global_knowledge("Older.", "kitchen")
    out = (await driver.put_document("pans", category="kitchen", pieces=["A pan."]))[0]
    pieces = await driver.put_document("kettles", category="kitchen", pieces=["One."])
    await driver.update_knowledge(moved.knowledge_id, {"doc_id": "kettles"})
    await driver.update_knowledge(out.knowledge_id, {"doc_id": "kettles"})
    there = await listed(driver, "kettles")
    assert [each.knowledge_id for each in there] == [
        pieces[0].knowledge_id,
        moved.knowledge_id,
        out.knowledge_id,
    ]
    assert [each.position for each in there] == [0, None, None]
    assert await listed(driver, "pans") == []
    assert await driver.delete_document("kettles") == 3


async def test_ids_of_documents_are_any_text(driver: RecordDriver) -> None:
    ids = ["a", "A", "a/../b", ".", "..", "a%2Fb", "o'neil \\ \"", "Ä", "\n", "x" * 256]
    for n, doc_id in enumerate(ids):
        await driver.put_document(doc_id, category="c", pieces=[f"piece {n}"])
    for n, doc_id in enumerate(ids):
        assert [each.content for each in await listed(driver, doc_id)] == [f"piece {n}"]
    for doc_id in ids:
        assert await driver.delete_document(doc_id) == 1


async def test_a_document_expires_as_a_whole(driver: RecordDriver) -> None:
    kept = await driver.put_document("kettles", category="c", pieces=["a", "b"], ttl=3_600)
    for each in kept:
        assert each.expires_at is not None
        left = each.expires_at - each.created_at
        assert timedelta(seconds=3_590) < left <= timedelta(seconds=3_600)
    assert len({each.expires_at for each in kept}) == 1


async def test_a_long_text_is_cut_into_pieces_that_have_all_of_it(driver: RecordDriver) -> None:
    sentences = [f"Sentence {n} is about kettle number {n * 7}." for n in range(60)]
    text = "\n\n".join(" ".join(sentences[n : n + 6]) for n in range(0, 60, 6))
    kept = await driver.put_document(
        "long", category="c", text=text, piece_chars=300, overlap=60, title="Long"
    )
    assert all(len(each.content) <= 300 for each in kept)
    assert [each.position for each in kept] == list(range(len(kept)))
    assert all(any(one in each.content for each in kept) for one in sentences)
    assert await listed(driver, "long") == kept
    found = await driver.recall_global_knowledge(sentences[40], doc_id="long", top_k=1)
    assert sentences[40] in found[0].content


async def test_what_is_no_document_is_refused_with_its_place(driver: RecordDriver) -> None:
    kept = await driver.put_document("kettles", category="c", pieces=["a"])
    for arguments, loc in (
        ({"pieces": []}, ("pieces",)),
        ({"pieces": ["x"] * 1_001}, ("pieces",)),
        ({"pieces": ["a", ""]}, ("pieces", 1, "content")),
        ({"pieces": "text"}, ("pieces",)),
        ({"pieces": ["a", NewPiece(content="b", title="")]}, ("pieces", 1, "title")),
        ({"pieces": ["a", NewPiece(content="b", metadata={"": "\x00"})]}, None),
        ({}, ("pieces",)),
        ({"pieces": ["a"], "text": "b"}, ("pieces",)),
        ({"text": ""}, ("text",)),
        ({"text": " \n "}, ("text",)),
        ({"text": "a\x00"}, ("text",)),
        ({"text": "x" * 100_001, "piece_chars": 100}, ("text",)),
        ({"text": "a", "piece_chars": 99}, ("piece_chars",)),
        ({"text": "a", "piece_chars": 100_000}, ("piece_chars",)),
        ({"text": "a", "piece_chars": 100, "overlap": 51}, ("overlap",)),
        ({"text": "a", "overlap": True}, ("overlap",)),
        ({"pieces": ["a"], "category": ""}, ("category",)),
        ({"pieces": ["a"], "title": "x" * 600}, ("title",)),
        ({"pieces": ["a"], "ttl": 0}, ("ttl",)),
        ({"pieces": ["a"], "doc_id": ""}, ("doc_id",)),
        ({"pieces": ["a"], "doc_id": "x" * 257}, ("doc_id",)),
    ):
        given = {"doc_id": "kettles", "category": "c", **arguments}
        with pytest.raises(InvalidInput) as refusal:
            await driver.put_document(**given)  # type: ignore[arg-type]
        if loc is not None:
            assert refusal.value.loc == loc, arguments
    with pytest.raises(InvalidInput):
        await driver.delete_document("")
    assert await listed(driver, "kettles") == kept


async def test_readers_see_a_document_as_one_put_left_it(driver: RecordDriver) -> None:
    """Ten pieces that name their put, again and again; nobody may see two puts, or a part."""

    async def write() -> None:
        for n in range(8):
            pieces = [f"kettle {n} piece {m}" for m in range(10)]
            await driver.put_document("kettles", category="kitchen", pieces=pieces)

    async def read(seen: list[list[Knowledge]]) -> None:
        while not writing.done():
            page = await driver.list_knowledge(doc_id="kettles", limit=100)
            seen.append(page.knowledge)
            found = await driver.recall_global_knowledge(
                "kettle", top_k=100, category="kitchen", doc_id="kettles"
            )
            seen.append(found)
            await asyncio.sleep(0)

    await driver.put_document("kettles", category="kitchen", pieces=["kettle - piece"] * 10)
    writing = asyncio.ensure_future(write())
    seen: list[list[Knowledge]] = []
    await asyncio.gather(writing, *(read(seen) for _ in range(3)))
    assert seen
    for records in seen:
        assert len(records) == 10
        assert len({record.content.split()[1] for record in records}) == 1
    assert len({records[0].content.split()[1] for records in seen}) > 1


async def test_of_puts_at_once_one_is_there(driver: RecordDriver) -> None:
    made = await asyncio.gather(
        *(
            driver.put_document("kettles", category="c", pieces=[f"{n}"] * (n % 3 + 1))
            for n in range(6)
        )
    )
    there = await listed(driver, "kettles")
    assert there in made


async def test_a_batch_may_have_records_of_a_document(driver: RecordDriver) -> None:
    new = [NewKnowledge(content=f"{n}", category="c", doc_id="kettles") for n in range(3)]
    stored = await driver.store_knowledge_many(new)
    assert await listed(driver, "kettles") == stored
    put = await driver.put_document("kettles", category="c", pieces=["x"])
    assert await listed(driver, "kettles") == put
