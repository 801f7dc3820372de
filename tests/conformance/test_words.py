"""By words alone: every driver finds the same, in the same order, in every script."""

import unicodedata
from collections.abc import Sequence
from math import log
from typing import Literal

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewMemory
from app.embedding import Embedder
from app.ranking import SPEAKER
from tests.eight_languages import eight_languages
from tests.remembering import Remembering


@pytest.fixture(scope="session")
def embedder(embedder: Embedder) -> Embedder:
    return Remembering(embedder)


async def by_words(driver: RecordDriver, user_id: str, query: str, top_k: int = 10) -> list[str]:
    found = await driver.recall(user_id, query=query, top_k=top_k, use_vector=False)
    return [memory.content for memory in found]


async def stored(driver: RecordDriver, texts: Sequence[tuple[str, str]]) -> None:
    """Store each of the users' texts."""
    await driver.store_many([NewMemory(user_id=user, content=text) for user, text in texts])


FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


def forms(word: str) -> set[str]:
    """The same word as keyboards and systems write it: composed, decomposed, in capitals."""
    composed = unicodedata.normalize("NFC", word)
    return {composed, unicodedata.normalize("NFD", composed), composed.upper()}


WIDE = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
SPELLED = [
    *(
        (one, other)
        for word in ("café", "Zürich", "bệnh")
        for one in forms(word)
        for other in forms(word)
    ),
    ("ABC123".translate(WIDE), "ABC123"),
    ("ABC123", "ABC123".translate(WIDE)),
    ("abc123", "ABC123".translate(WIDE)),
]
"""A word as it is stored and as it is asked for."""


async def test_a_word_is_found_however_its_characters_are_encoded(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    texts = [(f"user {n}", f"Ada noted {own} here.") for n, (own, _) in enumerate(SPELLED)]
    await stored(driver, [*texts, *((user, "Something else.") for user, _ in texts)])
    for (user, text), (_, query) in zip(texts, SPELLED, strict=True):
        with subtests.test(stored=ascii(text), query=ascii(query)):
            assert await by_words(driver, user, query) == [text]


UNSPACED = [
    ("今天我们在京都玩成语接龙", "成语接龙"),
    ("昨日しりとりをした", "しりとり"),
    ("오늘 끝말잇기 게임을 했다", "게임"),
    ("วันนี้เราเล่นเกมต่อคำ", "ต่อคำ"),
    ("GitHub备份脚本上传失败", "备份"),
    ("GitHub备份脚本上传失败", "github"),
]
"""A memory, and a word that stands in it without spaces around."""


async def test_a_word_is_found_where_none_are_separated(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    others = [text for text, _ in UNSPACED]
    for n, (text, _) in enumerate(UNSPACED):
        await stored(driver, [(f"user {n}", one) for one in dict.fromkeys([text, *others])])
    for n, (text, query) in enumerate(UNSPACED):
        with subtests.test(query=query):
            assert await by_words(driver, f"user {n}", query) == [text]


PARTS = [
    ("Look into app/main.py for it.", "main.py", "The entry is main.py itself."),
    ("Look into src/app/main.py for it.", "app/main.py", "The entry is app/main.py itself."),
    ("The page is www.example.com/tea today.", "example.com", "The page is example.com today."),
    ("It broke in v1.9 again.", "1.9", "It broke in 1.9 again."),
    ("It broke in 1.9.3 again.", "1.9", "It broke in 1.9 again."),
    ("Set db.user_name once.", "user_name", "Set user_name once."),
]
"""A memory with a compound, a compound that is a part of it, and a memory with that one itself."""


async def test_the_part_finds_the_whole_and_the_exact_one_first(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    for n, (whole, _, exact) in enumerate(PARTS):
        # The whole is the newer one: no tie brings the exact one to the first place.
        await stored(driver, [(f"user {n}", text) for text in (exact, whole, "Nothing of it.")])
    for n, (whole, query, exact) in enumerate(PARTS):
        with subtests.test(query=query):
            assert await by_words(driver, f"user {n}", query) == [exact, whole]


INSIDE = [
    ("Write to ada@example.com then.", "ada"),
    ("Write to ada@example.com then.", "example.com"),
    ("See https://shop.test/kettle?x=1 there.", "kettle"),
    ("A NullPointerException again.", "null pointer"),
    ("Set user_name once.", "user name"),
    ("Happy birthday🎂to her.", "🎂"),
]
"""A memory with a compound, and plain words that stand in it."""


async def test_a_plain_word_finds_the_compound_that_it_stands_in(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    for n, (text, _) in enumerate(INSIDE):
        await stored(driver, [(f"user {n}", text), (f"user {n}", "Nothing of it.")])
    for n, (text, query) in enumerate(INSIDE):
        with subtests.test(query=query):
            assert await by_words(driver, f"user {n}", query) == [text]


WHOLES = [
    ("app/main.py", "app/other.py"),
    ("main.py", "main.rs"),
    ("v1.9", "v1.8"),
    ("1.9.3", "1.9.4"),
    ("NullPointerException", "null pointer"),
    ("ada@example.com", "bob@example.com"),
    ("user_id", "the id of a user"),
]
"""A text, and another one that only shares parts with it."""


async def test_the_whole_is_found_before_what_only_shares_its_parts(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    for n, texts in enumerate(WHOLES):
        await stored(driver, [(f"user {n}", text) for text in texts])
    for n, (whole, _) in enumerate(WHOLES):
        with subtests.test(query=whole):
            assert (await by_words(driver, f"user {n}", whole))[0] == whole


async def test_languages_of_one_letter_are_apart(driver: RecordDriver) -> None:
    texts = ["Ada writes C++ at work.", "Bob writes C# at work.", "Cleo sings in C at home."]
    await stored(driver, [("ada", text) for text in texts])
    assert await by_words(driver, "ada", "C++") == texts[:1]
    assert await by_words(driver, "ada", "c#") == texts[1:2]
    assert (await by_words(driver, "ada", "C"))[0] == texts[2]


STOPPED = ["Will", "The Who", "IT", "to be or not to be"]
"""Queries without any other word than those that are left out of a query."""


async def test_a_query_of_stop_words_asks_for_them_as_they_are_written(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    await stored(driver, [("ada", f"Ada heard {query} yesterday.") for query in STOPPED])
    await stored(driver, [("ada", "Nothing else happened.")])
    for query in STOPPED:
        with subtests.test(query=query):
            assert (await by_words(driver, "ada", query))[0] == f"Ada heard {query} yesterday."


async def test_a_rare_word_of_the_query_counts_more_than_a_common_one(
    driver: RecordDriver,
) -> None:
    common = [f"The kettle of shelf {n}." for n in range(10)]
    await stored(driver, [("ada", text) for text in ("A zither.", *common)])
    found = await driver.recall("ada", query="kettle zither", use_vector=False, top_k=20)
    assert found[0].content == "A zither."
    assert found[0].score is not None
    rare, frequent = log(1 + 10.5 / 1.5), log(1 + 1.5 / 10.5)  # one of 11 has it, ten of 11
    assert found[0].score == pytest.approx(rare / (rare + frequent), abs=1e-5)
    assert found[1].score == pytest.approx(frequent / (rare + frequent), abs=1e-5)
    assert [memory.content for memory in found[1:]] == common[::-1]


async def test_what_is_left_out_makes_no_word_common(driver: RecordDriver) -> None:
    await driver.store("ada", "A kettle.", "a")
    await driver.store("ada", "A zither.", "a")
    for n in range(10):
        await driver.store("ada", f"A kettle {n}.", "b", tags=["noise"])
    for arguments in ({"conversation_id": "a"}, {"exclude_tags": ["noise"]}):
        found = await driver.recall("ada", query="kettle zither", use_vector=False, **arguments)
        assert [memory.score for memory in found] == [0.5, 0.5], arguments


async def test_words_alone_find_what_is_asked_for_in_eight_languages(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    tongues = eight_languages()
    await stored(driver, [(tongue.code, text) for tongue in tongues for text in tongue.memories])
    for tongue in tongues:
        missed = [
            query.text
            for query in tongue.queries
            if query.right not in await by_words(driver, tongue.code, query.text, top_k=5)
        ]
        with subtests.test(language=tongue.name):
            assert missed == []


async def test_with_vectors_too_the_exact_compound_is_first(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    """Where vectors and words count together, and the words are told apart by nothing else."""
    if "explain_recall" not in driver.capabilities():
        return
    texts = [
        "Ada writes C++ at work.",
        "Ada writes C# at work.",
        "Look into v1.9 again.",
        "Look into v1.8 again.",
        "It is in app/main.py now.",
        "It is in app/menu.py now.",
    ]
    await stored(driver, [("ada", text) for text in texts])
    for query, text in zip(["C++", "C#", "1.9", "1.8", "main.py", "menu.py"], texts, strict=True):
        with subtests.test(query=query):
            assert (await driver.recall("ada", query=query))[0].content == text


async def test_a_speaker_is_known_however_the_name_is_encoded(driver: RecordDriver) -> None:
    if "explain_recall" not in driver.capabilities():
        return
    for form in FORMS:
        name = unicodedata.normalize(form, "Zoë")
        await driver.store("ada", f"{form}: the kettle leaks.", metadata={"speaker": name})
    for form in FORMS:
        query = unicodedata.normalize(form, "What did Zoë say of the kettle?")
        found = await driver.recall("ada", query=query, explain=True)
        points = [why.speaker for why in (memory.explanation for memory in found) if why]
        assert points == [SPEAKER, SPEAKER]
