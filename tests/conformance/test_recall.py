"""What a recall finds, in which order, and how filters and the limit meet."""

import pytest

from app.core.memory.record_driver import RecordDriver
from tests.conformance.cases import WAYS

FRUIT = ["apple", "banana", "cherry", "date", "fig", "grape", "hazelnut", "juniper"]


async def test_excluded_tags_do_not_use_up_the_limit(driver: RecordDriver) -> None:
    for n in range(20):
        await driver.store("ada", f"kettle {n}", tags=["noise"] if n < 10 else None)
    for arguments in WAYS:
        found = await driver.recall("ada", top_k=10, exclude_tags=["noise"], **arguments)
        assert len(found) == 10
        assert all(memory.tags == [] for memory in found)


async def test_other_conversations_do_not_use_up_the_limit(driver: RecordDriver) -> None:
    for n in range(20):
        await driver.store("ada", f"kettle {n}", conversation_id="a" if n % 2 else "b")
    for arguments in WAYS:
        found = await driver.recall("ada", conversation_id="a", **arguments)
        assert [memory.conversation_id for memory in found] == ["a"] * 10


EXCLUDED: list[tuple[str, list[str], bool]] = [
    ("x", ["x"], False),
    ("x", ["y", "x"], False),
    ("x", ["X"], True),
    ("x", ["x "], True),
    ("conversation:50", ["conversation:5"], True),
    ("conversation:5", ["conversation:50"], True),
    ("a,b", ["a", "b"], True),
    ("a", ["a,b"], True),
    ("%", ["x"], True),
    ("x", ["%"], True),
    ("é", ["e\u0301"], True),
    ("{x}", ["x"], True),
    ("NULL", ["null"], True),
    ('"', ['"'], False),
]
"""A memory's tag, the tags that a recall leaves out, and whether it finds the memory."""


async def test_a_tag_is_excluded_by_exact_equality(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    for n, (tag, excluded, found) in enumerate(EXCLUDED):
        with subtests.test(tag=tag, excluded=excluded):
            await driver.store(f"user {n}", "kettle", tags=["first", tag])
            left = await driver.recall(f"user {n}", query="kettle", exclude_tags=excluded)
            assert len(left) == found


async def test_a_memory_without_tags_is_never_excluded(driver: RecordDriver) -> None:
    await driver.store("ada", "kettle")
    assert len(await driver.recall("ada", exclude_tags=["x", "y"])) == 1
    assert len(await driver.recall("ada", exclude_tags=[])) == 1


async def test_the_best_answer_comes_first(driver: RecordDriver) -> None:
    await driver.store("ada", "Ada waters the basil on Sundays.")
    await driver.store("ada", "Ada's kettle is made of copper.")
    await driver.store("ada", "The train to Lyon leaves at nine.")
    found = await driver.recall("ada", query="What is the kettle made of?")
    assert found[0].content == "Ada's kettle is made of copper."
    scores = [memory.score for memory in found]
    assert scores == sorted(scores, key=lambda score: score or 0, reverse=True)
    assert len(found) == 3


async def test_scores_are_between_0_and_1_and_the_same_text_scores_1(
    driver: RecordDriver,
) -> None:
    for content in ("The kettle is copper.", "Never!", "Ω", "x" * 3000):
        await driver.store("ada", content)
    found = await driver.recall("ada", query="The kettle is copper.")
    assert found[0].score == pytest.approx(1, abs=1e-4)
    assert all(memory.score is not None and 0 <= memory.score <= 1 for memory in found)


async def test_ties_are_newest_first(driver: RecordDriver) -> None:
    ids = [(await driver.store("ada", "the same kettle")).memory_id for _ in range(5)]
    for use_vector in (True, False):
        found = await driver.recall("ada", query="kettle", use_vector=use_vector)
        assert [memory.memory_id for memory in found] == ids[::-1]


async def test_without_a_query_the_newest_come_first_and_have_no_score(
    driver: RecordDriver,
) -> None:
    for fruit in FRUIT:
        await driver.store("ada", fruit)
    found = await driver.recall("ada", top_k=3)
    assert [memory.content for memory in found] == FRUIT[:-4:-1]
    assert [memory.score for memory in found] == [None] * 3


async def test_without_vectors_only_memories_that_share_a_word_are_found(
    driver: RecordDriver,
) -> None:
    await driver.store("ada", "Ada bought a copper kettle.")
    await driver.store("ada", "A device that boils water.")
    await driver.store("ada", "The kettle whistles.")
    found = await driver.recall("ada", query="copper kettle", use_vector=False)
    assert [memory.content for memory in found] == [
        "Ada bought a copper kettle.",
        "The kettle whistles.",
    ]
    assert all(memory.score is not None and 0 < memory.score <= 1 for memory in found)


QUERIES = ["'", '"', "\\", "a & b | !c", ":*", "<->", "( (", "%", "…", "the", "\n", "-- x", "🦊"]


async def test_a_lexical_query_is_text_and_never_an_expression(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    for n, query in enumerate(QUERIES):
        with subtests.test(query=query):
            user = f"user {n}"
            await driver.store(user, "unrelated kettle")
            await driver.store(user, f"quince {query} quince")
            found = await driver.recall(user, query=f"quince {query}", use_vector=False)
            assert found[0].content == f"quince {query} quince"
            assert await driver.recall(user, query=query, use_vector=False) is not None


async def test_words_of_other_scripts_are_found(driver: RecordDriver) -> None:
    await driver.store("ada", "Медный чайник стоит на окне")
    await driver.store("ada", "Χάλκινος βραστήρας")
    found = await driver.recall("ada", query="чайник", use_vector=False)
    assert [memory.content for memory in found] == ["Медный чайник стоит на окне"]


async def test_what_was_stored_is_found_at_once(driver: RecordDriver) -> None:
    for n, fruit in enumerate(FRUIT):
        stored = await driver.store("ada", f"Ada ate {fruit}", conversation_id="lunch")
        newest = await driver.recall("ada", top_k=1)
        assert newest == [stored]
        by_vector = await driver.recall("ada", query=f"Ada ate {fruit}", top_k=1)
        assert by_vector[0].memory_id == stored.memory_id
        by_word = await driver.recall("ada", query=fruit, use_vector=False)
        assert by_word[0].memory_id == stored.memory_id
        assert len(await driver.recall("ada", conversation_id="lunch", top_k=100)) == n + 1


async def test_fewer_than_top_k_is_all_there_is(driver: RecordDriver) -> None:
    await driver.store("ada", "kettle")
    assert len(await driver.recall("ada", query="kettle", top_k=100)) == 1
    assert await driver.recall("bob", query="kettle", top_k=100) == []
