"""Nothing is lost or changed by what AutoMem does, and a promise costs the calls that it says."""

import json
from typing import Any

import pytest

from app.core.memory.records import NewMemory
from app.drivers.automem import AutomemDriver
from app.drivers.automem.mapping import KEY
from app.errors import InvalidInput
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.conftest import OpenAutomem


async def fill(automem: AutomemDriver, count: int, **more: Any) -> list[str]:
    """So many memories of Ada about kettles, each with an ASCII text of its own."""
    batch = [NewMemory(user_id="ada", content=f"kettle number {n}", **more) for n in range(count)]
    return [memory.memory_id for memory in await automem.store_many(batch)]


def ids(found: list[Any]) -> list[str]:
    return [memory.memory_id for memory in found]


async def test_texts_that_automem_takes_for_one_are_all_found(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    texts = ["Привет, код 2024", "完全不同 2024", "код... 2024!"]
    for text in texts:
        await automem.store("ada", text)
    fake.calls.clear()
    found = await automem.recall("ada", query="код 2024", top_k=3)
    assert {memory.content for memory in found} == set(texts)


async def test_merged_texts_among_many_are_found_without_reading_all(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await fill(automem, 30)
    for text in ("Привет, код 2024", "完全不同 2024"):
        await automem.store("ada", text)
    fake.calls.clear()
    fake.queries.clear()
    found = await automem.recall("ada", query="Привет, код 2024", top_k=2)
    assert {memory.content for memory in found} == {"Привет, код 2024", "完全不同 2024"}
    paths = [path for _, path in fake.calls]
    assert paths[:2] == ["/recall", "/memory/by-tag"]
    assert [path.rpartition("/")[0] for path in paths[2:]] == ["/memory", "/memory"]
    assert paths[3] == "/memory/by-tag"  # whether what was merged has a later version
    for looked in (fake.queries[1], fake.queries[3]):
        assert all(tag.startswith("mdsi_") for tag in looked["tags"])


async def test_a_memory_without_a_vector_is_found_among_many_with_one(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await fill(automem, 40)
    fake.embeds_batches = False
    new = await automem.store("ada", "Медный чайник")
    assert fake.unembedded
    fake.calls.clear()
    assert ids(await automem.recall("ada", query="Медный чайник", top_k=1)) == [new.memory_id]
    assert [path for _, path in fake.calls] == ["/recall", "/memory/by-tag", "/memory/by-tag"]
    await fake.catch_up()
    await automem.recall("ada", query="Медный чайник", top_k=1)
    fake.calls.clear()
    assert ids(await automem.recall("ada", query="Медный чайник", top_k=1)) == [new.memory_id]
    assert [path for _, path in fake.calls] == ["/recall", "/memory/by-tag"]


async def test_without_any_vectors_the_best_still_comes_first(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    fake.has_vectors = False
    for text in ("Ada waters the basil.", "The kettle is copper.", "The train leaves at nine."):
        await automem.store("ada", text)
    found = await automem.recall("ada", query="What is the kettle made of?")
    assert found[0].content == "The kettle is copper."
    assert len(found) == 3
    assert (await automem.health_check()).status == "degraded"


async def test_exclusion_comes_before_the_limit_even_beyond_automems_hundred(
    automem: AutomemDriver,
) -> None:
    await fill(automem, 130, tags=["noise"])
    kept = await fill(automem, 12)
    for query in ("kettle number", None):
        found = await automem.recall("ada", query=query, top_k=12, exclude_tags=["noise"])
        assert set(ids(found)) == set(kept)


async def test_a_short_query_is_ranked_by_its_words_and_not_by_importance(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    old = await automem.store("ada", "ok")
    await fill(automem, 30)
    fake.has_vectors = False
    for query in ("ok", " ok "):
        found = await automem.recall("ada", query=query, top_k=3)
        assert found[0].memory_id == old.memory_id
        assert found[0].score == 1
        assert len(found) == 3
    for query in ("*", " ", "**"):
        assert len(await automem.recall("ada", query=query, top_k=31)) == 31


@pytest.mark.parametrize("query", ["🦊" * 8_192, "kettle " * 1_170, "%" * 8_192, "чайник " * 999])
async def test_a_long_query_fits_into_a_url(automem: AutomemDriver, query: str) -> None:
    await automem.store("ada", "a copper kettle")
    assert len(await automem.recall("ada", query=query)) == 1


async def test_no_floor_drops_what_fits_less(automem: AutomemDriver) -> None:
    for text in ("the copper kettle", "a train", "the basil", "nine o'clock", "Sunday"):
        await automem.store("ada", text)
    assert len(await automem.recall("ada", query="the copper kettle", top_k=5)) == 5


async def test_what_automem_holds_to_be_out_of_date_is_found(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    ordered = await fill(automem, 12)
    for _, payload in fake.vectors.values():
        payload["t_invalid"] = "2020-01-01T00:00:00+00:00"
    assert len(await automem.recall("ada", query="kettle number", top_k=12)) == len(ordered)


async def test_the_keys_that_automem_overwrites_come_back_as_they_were(
    automem: AutomemDriver,
) -> None:
    metadata = {"entities": {"a": -0.0}, "enrichment": 1e22, "original_content": 10**40, "mds": 1}
    stored = await automem.store("ada", "kettle", metadata=metadata)
    [found] = await automem.recall("ada", query="kettle")
    assert str(found.metadata) == str(metadata)
    assert await automem.get(stored.memory_id, "ada") == stored


async def test_a_summarised_content_is_given_back_as_it_was_stored(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    fake.summarises = True
    content = "  The copper kettle. " + "It whistles. " * 60
    stored = await automem.store("ada", content)
    assert [node["content"][:8] for node in fake.graph.values()] == ["Summary:"]
    assert await automem.recall("ada") == [stored]
    [found] = await automem.recall("ada", query="copper kettle")
    assert found.content == content


async def test_automem_searches_as_much_of_a_content_as_the_setting_says(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(search_chars=500)
    fake.summarises = True
    stored = await automem.store("ada", "kettle " * 300 + "last")
    [node] = fake.graph.values()
    assert node["content"] == ("kettle " * 300)[:500].strip()
    assert await automem.recall("ada", query="last", use_vector=False, top_k=1)
    assert await automem.get(stored.memory_id, "ada") == stored


@pytest.mark.parametrize("content", ["\n", " \t ", "\u2003", "*", "x"])
async def test_a_content_that_automem_would_refuse_is_kept(
    automem: AutomemDriver, content: str
) -> None:
    stored = await automem.store("ada", content)
    assert await automem.recall("ada") == [stored]
    assert (await automem.recall("ada", query=content))[0].score == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"content": "a\x00b"},
        {"content": "\ud800"},
        {"metadata": {"a": float("nan")}},
        {"tags": ["\x00"]},
    ],
    ids=str,
)
async def test_what_automem_fails_on_is_refused_before_it_gets_there(
    automem: AutomemDriver, fake: FakeAutomem, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        await automem.store(**{"user_id": "ada", "content": "kettle", **arguments})
    assert fake.calls == []


async def test_memories_of_one_moment_keep_their_order(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await fill(automem, 450)
    assert ids(await automem.recall("ada", top_k=10)) == stored[:-11:-1]
    # As if several replicas had stored them: nothing orders those of one millisecond.
    for node in fake.graph.values():
        node["timestamp"] = json.loads(node["metadata"][KEY]["record"])["created_at"]
    for count in (1, 10, 100):
        assert ids(await automem.recall("ada", top_k=count)) == stored[: -count - 1 : -1]


async def test_pages_go_on_where_they_ended_whatever_happened_meanwhile(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem()
    stored = await fill(automem, 420)
    seen: list[str] = []
    page = await automem.list_memories("ada", limit=60)
    while True:
        seen += ids(page.memories)
        if page.next_cursor is None:
            break
        await automem.delete(seen[-1], "ada")
        await automem.store("ada", "newer than every page")
        one = await automem.list_memories("ada", cursor=page.next_cursor, limit=60)
        # Another replica has not seen the pages before.
        assert one == await (await open_automem()).list_memories("ada", None, page.next_cursor, 60)
        page = one
    assert seen == stored[::-1]


async def test_a_recall_of_ten_is_two_calls(automem: AutomemDriver, fake: FakeAutomem) -> None:
    for n in range(24):
        await automem.store("ada", f"kettle number {n}", tags=["noise"] if n < 12 else None)
    for excluded in ([], ["other"], ["noise"]):
        fake.calls.clear()
        found = await automem.recall("ada", query="which kettle is it?", exclude_tags=excluded)
        assert len(found) == 10
        assert fake.calls == [("GET", "/recall"), ("GET", "/memory/by-tag")]
    fake.calls.clear()
    assert len(await automem.recall("ada")) == 10
    assert fake.calls == [("GET", "/memory/by-tag")]


async def test_every_verb_costs_the_calls_that_the_readme_says(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    costs: dict[str, int] = {}

    def cost(name: str) -> None:
        costs[name] = len(fake.calls)
        fake.calls.clear()

    stored = await automem.store("ada", "a copper kettle", conversation_id="c")
    cost("store")
    await automem.store_many([NewMemory(user_id="ada", content=f"k {n}") for n in range(500)])
    cost("store_many, up to 500")
    await automem.recall("ada", query="kettle", exclude_tags=["x"])
    cost("recall, tags excluded")
    await automem.recall("ada", query="kettle", conversation_id="c")
    cost("recall, fewer than top_k")
    await automem.recall("ada", query="kettle", use_vector=False)
    cost("recall, by words, of 501")
    await automem.get(stored.memory_id, "ada")
    cost("get")
    await automem.update(stored.memory_id, "ada", {"tags": ["x"]})
    cost("update")
    await automem.import_records([stored])
    cost("import_records, of 1 that is there")
    await automem.delete(stored.memory_id, "ada")
    cost("delete")
    for n in range(60):
        await automem.store("bob", f"kettle number {n}")
    fake.calls.clear()
    page = await automem.list_memories("bob", limit=50)
    cost("list_memories")
    await automem.list_memories("bob", cursor=page.next_cursor, limit=50)
    cost("list_memories, next page")
    await automem.delete_user("ada")
    cost("delete_user, of 500")
    await automem.health_check()
    cost("health_check")
    assert costs == {
        "store": 1,
        "store_many, up to 500": 1,
        "recall, tags excluded": 2,
        "recall, fewer than top_k": 2,
        "recall, by words, of 501": 3,
        "get": 1,
        "update": 5,
        "import_records, of 1 that is there": 1,
        "delete": 2,
        "list_memories": 1,
        "list_memories, next page": 1,
        "delete_user, of 500": 503,
        "health_check": 2,
    }
