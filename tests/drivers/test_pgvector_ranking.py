"""What each piece of evidence does to a recall, of all memories and among candidates."""

from collections.abc import AsyncIterator, Sequence
from itertools import product

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from app.core.memory.records import Memory, NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder, Vector
from app.errors import ConfigurationError, InvalidInput
from app.ranking import DATE, LEXICAL, SPEAKER, STATEMENT, Explanation
from app.ranking.ranked import NEAREST
from app.settings import PARTS, DatabaseSettings, Limits, RecallSettings
from tests.conftest import NewDatabase, database_url
from tests.drivers.conftest import OpenDriver

CROWD = "crowd"
"""A user of more memories than whose cosines are all computed."""

TALK = [
    ("Ada", "Hello Bob, how was the market?", None),
    ("Bob", "Crowded as ever, I came back without bread.", None),
    ("Ada", "Did you bring the zither back from the workshop?", None),
    ("Bob", "Yes, it is in the car.", None),
    ("Bob", "The varnish took them three weeks.", "2023-05-09"),
    ("Ada", "Good that somebody still repairs such things.", None),
]
ELSEWHERE = [
    ("Cleo", "Is the tent dry again?", None),
    ("Ada", "Yes, it is in the car.", None),
    ("Cleo", "We leave for the mountains on Friday.", "2021-07-01"),
    ("Ada", "I will pack the stove tonight.", None),
]


class Quick(Embedder):
    """The real model, but a batch's texts with a digit get vectors of chance."""

    def __init__(self, model: Embedder) -> None:
        self.name, self.dimension, self.max_tokens = model.name, model.dimension, model.max_tokens
        self._model = model

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return await self._model.embed_query(text)

    async def embed(self, texts: Sequence[str]) -> Vector:
        rng = np.random.default_rng(3)
        vectors = rng.standard_normal((len(texts), self.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        real = [n for n, text in enumerate(texts) if not any(map(str.isdigit, text))]
        if real:
            vectors[real] = await self._model.embed([texts[n] for n in real])
        return vectors


def turn(n: int) -> NewMemory:
    """Of the crowd: 100 conversations of 4, and then one of 1,600."""
    content, metadata = f"Turn {n} about nothing.", {"speaker": "Tom" if n % 2 else "Mira"}
    if n == 505:
        content, metadata = "The harbour is called Zanzibar.", {}
    elif n == 700:
        content, metadata = "Turn about nothing.", {}
    elif n == 900:
        metadata["date"] = "2021-03-04"
    return NewMemory(
        user_id=CROWD,
        content=content,
        conversation_id=f"c{n // 4}" if n < 400 else "talk",
        tags=["odd" if n % 2 else "even"],
        metadata=metadata,
    )


@pytest.fixture(scope="module")
async def url(postgres: EmbeddedPostgres, template: str, embedder: Embedder) -> str:
    """A database with the talk of Ada and the crowd's; the tests add users of their own."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute(f"create database ranking template {template}")
    await admin.close()
    url = database_url(postgres, "ranking")
    database = DatabaseSettings(url=SecretStr(url))
    async with PgvectorDriver(database, Quick(embedder), Limits()) as driver:
        for conversation, said in (("home", TALK), ("trip", ELSEWHERE)):
            await driver.store_many(
                [
                    NewMemory(
                        user_id="ada",
                        content=content,
                        conversation_id=conversation,
                        metadata={"speaker": speaker} | ({"date": date} if date else {}),
                    )
                    for speaker, content, date in said
                ]
            )
        crowd = [turn(n) for n in range(2_000)]
        assert len(crowd) > NEAREST
        for start in range(0, len(crowd), 1_000):
            await driver.store_many(crowd[start : start + 1_000])
    return url


@pytest.fixture(scope="module")
async def driver(url: str, embedder: Embedder) -> AsyncIterator[PgvectorDriver]:
    """With all evidence, as it is by default."""
    async with PgvectorDriver(DatabaseSettings(url=SecretStr(url)), embedder, Limits()) as driver:
        yield driver


def reasons(found: list[Memory]) -> dict[str, Explanation]:
    """The explanations of memories by their content."""
    explained = {memory.content: memory.explanation for memory in found}
    return {content: reason for content, reason in explained.items() if reason is not None}


async def explained(
    driver: PgvectorDriver, user: str, query: str, top_k: int = 100
) -> dict[str, Explanation]:
    """The explanations of what a query finds, best first."""
    found = await driver.recall(user, query=query, top_k=top_k, explain=True)
    assert all(memory.explanation is not None for memory in found)
    return reasons(found)


async def test_a_word_that_the_vector_misses_is_found(
    driver: PgvectorDriver, url: str, open_driver: OpenDriver
) -> None:
    for content in (
        "Paul lives in a flat by the river.",
        "My sister moved to Vienna, where she lives near the park.",
        "Our house is at the end of the road.",
        "The dentist was late, the cat ill, the tram full, and there was post from Ottilie.",
    ):
        await driver.store("word", content)
    query = "Where does Ottilie live?"
    alone = await open_driver(url, recall=RecallSettings(ranking="vector"))
    (by_vector,) = await alone.recall("word", query=query, top_k=1)
    assert "Ottilie" not in by_vector.content
    (by_both,) = await driver.recall("word", query=query, top_k=1)
    assert "Ottilie" in by_both.content


async def test_what_was_said_next_to_the_words_is_found_and_not_the_same_elsewhere(
    driver: PgvectorDriver,
) -> None:
    found = await driver.recall("ada", query="Where is the zither?", top_k=10, explain=True)
    same = [memory for memory in found if memory.content == "Yes, it is in the car."]
    lexical = {m.conversation_id: m.explanation and m.explanation.lexical for m in same}
    assert lexical == {"home": pytest.approx(0.9 * LEXICAL), "trip": 0}
    assert same[0].conversation_id == "home"
    assert found.index(same[0]) <= 1


async def test_a_date_in_the_query_lifts_what_happened_then(driver: PgvectorDriver) -> None:
    for query, lifted in (
        ("What happened in May 2023?", "The varnish took them three weeks."),
        ("What happened on 8 May 2023?", "The varnish took them three weeks."),
        ("What happened on 2021-07-01?", "We leave for the mountains on Friday."),
        ("What happened in May?", "The varnish took them three weeks."),
        ("What happened on 30 June?", "We leave for the mountains on Friday."),
    ):
        found = await explained(driver, "ada", query)
        assert {c: r.date for c, r in found.items() if r.date} == {lifted: DATE}
    found = await explained(driver, "ada", "What happened, if I may ask?")
    assert not any(reason.date for reason in found.values())


async def test_a_memory_without_a_date_is_of_the_day_it_was_stored(driver: PgvectorDriver) -> None:
    stored = await driver.store("today", "The kettle is copper.")
    await driver.store("today", "The kettle was tin.", metadata={"date": "1950-01-01"})
    found = await explained(driver, "today", f"the kettle of {stored.created_at.date()}")
    assert {content: reason.date for content, reason in found.items()} == {
        "The kettle is copper.": DATE,
        "The kettle was tin.": 0,
    }


async def test_the_one_speaker_named_is_lifted(driver: PgvectorDriver) -> None:
    found = await explained(driver, "ada", "What did cleo say?")
    assert {c for c, r in found.items() if r.speaker == SPEAKER} == {
        content for speaker, content, _ in ELSEWHERE if speaker == "Cleo"
    }
    for query in ("What did Ada tell Bob?", "What did Dora say?", "What was said?"):
        found = await explained(driver, "ada", query)
        assert not any(reason.speaker for reason in found.values())


async def test_every_spelling_of_a_speaker_is_lifted(driver: PgvectorDriver) -> None:
    await driver.store("spelling", "Eve: the kettle is copper.")
    await driver.store("spelling", "The kettle was tin.", metadata={"speaker": "EVE"})
    await driver.store("spelling", "Finn: the kettle is glass.")
    found = await explained(driver, "spelling", "What did Eve say of the kettle?")
    assert [reason.speaker for reason in found.values()] == [SPEAKER, SPEAKER, 0]


async def test_a_statement_is_lifted_above_a_question(driver: PgvectorDriver) -> None:
    await driver.store("form", "The kettle is copper.")
    await driver.store("form", "The kettle is copper?")
    found = await explained(driver, "form", "What is the kettle made of?")
    assert list(found) == ["The kettle is copper.", "The kettle is copper?"]
    statement, question = found.values()
    assert statement.form - question.form == pytest.approx(STATEMENT, abs=1e-6)
    assert question.form > 0


EVERYTHING = "What did Bob say about the zither and the varnish in May 2023?"


def present(found: dict[str, Explanation]) -> set[str]:
    """Which parts have points for any memory; the window: for one without the words."""
    parts = {
        part
        for part in ("lexical", "date", "speaker", "form")
        if any(getattr(reason, part) for reason in found.values())
    }
    near = found["Good that somebody still repairs such things."].lexical
    return parts | ({"window"} if near else set())


async def test_every_part_counts_by_default(driver: PgvectorDriver) -> None:
    assert present(await explained(driver, "ada", EVERYTHING)) == set(PARTS)


@pytest.mark.parametrize(
    "ranking",
    [
        "vector",
        "lexical",
        "lexical,window",
        "date",
        "speaker",
        "form",
        "lexical,window,speaker,form",
        "lexical,window,date,form",
        "lexical, window, date, speaker",
    ],
)
async def test_a_part_that_is_switched_off_gives_no_points(
    url: str, open_driver: OpenDriver, ranking: str
) -> None:
    recall = RecallSettings(ranking=ranking)
    driver = await open_driver(url, recall=recall)
    assert present(await explained(driver, "ada", EVERYTHING)) == recall.parts


async def test_the_vector_alone_orders_by_the_cosine(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    driver = await open_driver(url, recall=RecallSettings(ranking="vector"))
    found = await driver.recall("ada", query=EVERYTHING, top_k=100, explain=True)
    said = [f"{memory.metadata['speaker']}: {memory.content}" for memory in found]
    cosines = (await embedder.embed(said)) @ await embedder.embed_query(EVERYTHING)
    assert len(found) == len(TALK) + len(ELSEWHERE)
    assert [r and r.points for r in (m.explanation for m in found)] == pytest.approx(
        sorted(cosines.tolist(), reverse=True), abs=2e-6
    )
    assert [memory.score for memory in found] == pytest.approx((1 + cosines) / 2, abs=2e-6)


@pytest.mark.parametrize("user", ["ada", CROWD])
async def test_the_parts_of_an_explanation_add_up_to_the_order(
    driver: PgvectorDriver, user: str
) -> None:
    query = EVERYTHING if user == "ada" else "What did Mira call Zanzibar in March 2021?"
    found = await driver.recall(user, query=query, top_k=50, explain=True)
    points = [memory.explanation.points for memory in found if memory.explanation is not None]
    assert len(points) == len(found)
    assert points == pytest.approx(sorted(points, reverse=True), abs=3e-6)
    scores = [memory.score or 0 for memory in found]
    assert scores == sorted(scores, reverse=True)


async def test_a_recall_explains_only_when_asked_and_finds_the_same(
    driver: PgvectorDriver,
) -> None:
    found = await driver.recall("ada", query=EVERYTHING, explain=True)
    plain = await driver.recall("ada", query=EVERYTHING)
    assert [(m.memory_id, m.score) for m in plain] == [(m.memory_id, m.score) for m in found]
    assert all(memory.explanation is None for memory in plain)
    newest = await driver.recall("ada", explain=True)
    by_words = await driver.recall("ada", query="zither", use_vector=False, explain=True)
    for others in (newest, by_words):
        assert others
        assert all(memory.explanation is None for memory in others)


async def test_what_is_excluded_by_its_tag_is_no_evidence_for_its_neighbours(
    driver: PgvectorDriver,
) -> None:
    for n in range(8):
        await driver.store("tags", f"Filler no. {n}.", "a")
    await driver.store("tags", "The zither is a gift.", "a", tags=["secret"])
    await driver.store("tags", "It is in the car.", "a")
    found = reasons(await driver.recall("tags", query="the zither", explain=True))
    assert found["It is in the car."].lexical == pytest.approx(0.7 * LEXICAL)
    excluded = await driver.recall(
        "tags", query="the zither", exclude_tags=["secret"], explain=True
    )
    left = reasons(excluded)
    assert len(left) == 9
    assert not any(reason.lexical for reason in left.values())


async def test_another_users_words_make_no_word_of_mine_common(driver: PgvectorDriver) -> None:
    for content in ("A copper kettle.", "A copper pan.", "A tin kettle.", "A spoon."):
        await driver.store("mine", content)
    before = await explained(driver, "mine", "copper pan")
    await driver.store_many(
        [NewMemory(user_id="theirs", content=f"A copper pan {n}.") for n in range(20)]
    )
    assert await explained(driver, "mine", "copper pan") == before
    assert before["A copper kettle."].lexical < LEXICAL / 2


async def test_a_name_is_evidence_of_the_speaker_and_not_a_word(driver: PgvectorDriver) -> None:
    await driver.store("names", "Gil: the kettle is copper.")
    await driver.store("names", "Hal: ask Gil.")
    found = await explained(driver, "names", "What did Gil say?")
    assert [reason.lexical for reason in found.values()] == [0, 0]
    assert [reason.speaker for reason in found.values()] == [SPEAKER, 0]


async def test_the_same_text_scores_1(driver: PgvectorDriver) -> None:
    await driver.store("same", "The varnish took them three weeks.")
    await driver.store("same", "A tin kettle.")
    for user, text in (
        ("same", "The varnish took them three weeks."),
        (CROWD, "The harbour is called Zanzibar."),
        (CROWD, "Turn about nothing."),
    ):
        best = (await driver.recall(user, query=text, top_k=1))[0]
        assert best.content == text
        assert best.score == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("conversation", [None, "talk"])
async def test_among_many_a_word_and_its_neighbours_are_found(
    driver: PgvectorDriver, conversation: str | None
) -> None:
    found = await driver.recall(CROWD, conversation, "Zanzibar", 5, explain=True)
    lexical = {content: reason.lexical / LEXICAL for content, reason in reasons(found).items()}
    assert lexical == {
        "The harbour is called Zanzibar.": pytest.approx(1),
        "Turn 506 about nothing.": pytest.approx(0.7),
        "Turn 507 about nothing.": pytest.approx(0.5),
        "Turn 504 about nothing.": pytest.approx(0.5),
        "Turn 503 about nothing.": pytest.approx(0.3),
    }
    assert next(iter(lexical)) == "The harbour is called Zanzibar."


@pytest.mark.parametrize("conversation", [None, "talk"])
async def test_among_many_the_excluded_are_neither_found_nor_evidence(
    driver: PgvectorDriver, conversation: str | None
) -> None:
    found = await driver.recall(
        CROWD, conversation, "Zanzibar", 50, exclude_tags=["odd", "none"], explain=True
    )
    assert len(found) == 50
    assert all(memory.tags == ["even"] for memory in found)
    assert not any(reason.lexical for reason in reasons(found).values())
    found = await driver.recall(
        CROWD, conversation, "Zanzibar", 3, exclude_tags=["even"], explain=True
    )
    assert [memory.content for memory in found][:2] == [
        "The harbour is called Zanzibar.",
        "Turn 507 about nothing.",
    ]
    assert reasons(found)["Turn 507 about nothing."].lexical == pytest.approx(0.7 * LEXICAL)


async def test_among_many_a_neighbour_in_another_conversation_is_none(
    driver: PgvectorDriver,
) -> None:
    found = await explained(driver, CROWD, "399", 100)
    assert {content for content, reason in found.items() if reason.lexical} == {
        f"Turn {n} about nothing." for n in (396, 397, 398, 399)
    }


async def test_among_many_a_word_that_all_have_tells_them_apart_from_nothing(
    driver: PgvectorDriver,
) -> None:
    found = await driver.recall(CROWD, query="Turn about nothing.", top_k=5, explain=True)
    assert {reason.lexical for reason in reasons(found).values()} == {LEXICAL}


async def test_among_many_a_speaker_is_named_even_where_no_word_is_rare(
    driver: PgvectorDriver,
) -> None:
    found = await driver.recall(CROWD, query="What did Mira say about nothing?", explain=True)
    said = [m for m in found if m.explanation is not None and m.explanation.speaker == SPEAKER]
    assert len(said) >= 9  # the only other has a vector that is not one of chance
    assert all(memory.metadata["speaker"] == "Mira" for memory in said)


async def test_among_many_a_date_lifts_what_the_vector_or_a_word_has_found(
    driver: PgvectorDriver,
) -> None:
    found = await explained(driver, CROWD, "900 on 4 March 2021", 1)
    (reason,) = found.values()
    assert reason.date == DATE
    assert list(found) == ["Turn 900 about nothing."]


ODD = [
    "the of and",
    "?",
    " ",
    "'",
    "''",
    '"',
    "\\",
    "\\'",
    "a' & b | !c <-> d:*",
    "( (",
    ":*",
    "<2>",
    "%s $1 {} {0}",
    "-- x; drop table memories",
    "\u202e\ufeff\u200d",
    "e\u0301 \u1e9b\u0323 \ufb01 \U000e0001 \U0010ffff",
    "\U0001f98a\U0001f3fd",
    "żółć Ünïcödé ИИ 李雷 العربية",
    "http://example.org/a?b=c&d e@f.gh 1.5e300 -17 /usr/bin",
    "zither " * 1_142,
    "\U0001f98a" * 8_000,
    "x" * 8_000,
    " ".join(f"word{n}" for n in range(500)),
    " ".join(str(n) for n in range(1_500)),
]


@pytest.mark.parametrize("query", ODD, ids=range(len(ODD)))
async def test_no_query_is_too_odd(driver: PgvectorDriver, query: str) -> None:
    for user, use_vector in product(("ada", CROWD), (True, False)):
        found = await driver.recall(user, query=query, top_k=5, use_vector=use_vector, explain=True)
        assert len(found) == 5 or not use_vector
        assert all(memory.score is not None and 0 <= memory.score <= 1 for memory in found)


@pytest.mark.parametrize("query", ["", "zither\x00", "\ud800"])
async def test_a_query_that_is_no_text_is_refused(driver: PgvectorDriver, query: str) -> None:
    with pytest.raises(InvalidInput, match="query"):
        await driver.recall("ada", query=query, explain=True)


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)


@settings(
    max_examples=15,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=text, query=text, speaker=text, date=text | st.integers() | st.floats())
async def test_whatever_is_stored_is_found(
    driver: PgvectorDriver, content: str, query: str, speaker: str, date: str | float
) -> None:
    metadata = {"speaker": speaker, "date": date if date == date and abs(float_of(date)) else None}
    stored = await driver.store("odd", content, "c", metadata=metadata)
    for words in (query, f"{query} {content}", f"{speaker} {date}"):
        found = await driver.recall("odd", query=words, top_k=100, explain=True)
        assert stored.memory_id in {memory.memory_id for memory in found}
    await driver.recall("odd", query=query, use_vector=False)


def float_of(value: str | float) -> float:
    """The number, or 1 for a text; 0 for one that JSON does not have."""
    return 1.0 if isinstance(value, str) or np.isfinite(float(value)) else 0.0


async def test_words_are_split_by_the_rules_of_the_language(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    driver = await open_driver(url, recall=RecallSettings(language="german"))
    await driver.store("ada", "Die Häuser stehen am Fluss.")
    await driver.store("ada", "Der Kessel ist aus Kupfer.")
    found = await driver.recall("ada", query="Haus", use_vector=False)
    assert [memory.content for memory in found] == ["Die Häuser stehen am Fluss."]
    explained_words = await explained(driver, "ada", "das Haus")
    assert {c: r.lexical for c, r in explained_words.items()} == {
        "Die Häuser stehen am Fluss.": LEXICAL,
        "Der Kessel ist aus Kupfer.": 0,
    }

    with pytest.raises(ConfigurationError) as refused:
        await open_driver(url, recall=RecallSettings(language="english"))
    assert "MEMORY_RECALL_LANGUAGE" in str(refused.value)
    assert "german, not english" in str(refused.value)
    assert "\n" not in str(refused.value)
    again = await open_driver(url, recall=RecallSettings(language="german"))
    assert await again.recall("ada", query="Häusern", use_vector=False) == found


async def test_a_language_that_there_are_no_words_of_is_refused_in_one_line(
    open_driver: OpenDriver,
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await open_driver("postgresql://localhost", recall=RecallSettings(language="klingon"))
    assert str(refused.value).startswith("MEMORY_RECALL_LANGUAGE: 'klingon' is none of arabic,")
    assert "\n" not in str(refused.value)


async def test_a_database_without_memories_takes_another_language(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    for language in ("german", "english", "french"):
        driver = await open_driver(url, recall=RecallSettings(language=language))
    await driver.store("ada", "Les chevaux courent.")
    assert await driver.recall("ada", query="cheval", use_vector=False)


async def test_a_batch_of_a_thousand_is_one_statement(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    driver = await open_driver(url, instead=Quick(embedder))
    stored = await driver.store_many(
        [NewMemory(user_id="ada", content=f"kettle {n}", tags=["x"] * (n % 3)) for n in range(1000)]
    )
    connection = await asyncpg.connect(url)
    written = await connection.fetch(
        "select xmin::text, cmin::text, count(*) from memories group by 1, 2"
    )
    await connection.close()
    assert [row["count"] for row in written] == [len(stored)]


async def test_a_speaker_among_many_is_known_by_name(driver: PgvectorDriver) -> None:
    await driver.store_many(
        [
            NewMemory(user_id="group", content="Good morning.", metadata={"speaker": f"Zed{n}"})
            for n in range(150)
        ]
    )
    for n in (0, 75, 149):
        found = await driver.recall("group", query=f"What did Zed{n} say?", top_k=1, explain=True)
        assert found[0].metadata == {"speaker": f"Zed{n}"}
        assert found[0].explanation is not None
        assert found[0].explanation.speaker > 0


async def test_of_a_long_query_by_words_the_longest_sixty_count(driver: PgvectorDriver) -> None:
    await driver.store("words", "short")
    await driver.store("words", "extraordinarily")
    many = " ".join(f"mediumword{n:03}" for n in range(59))
    query = f"short extraordinarily {many}"
    found = await driver.recall("words", query=query, use_vector=False)
    assert [memory.content for memory in found] == ["extraordinarily"]
    rare, missing = np.log1p(1.5 / 1.5), np.log1p(2.5 / 0.5)  # of two memories, in one and in none
    assert found[0].score == pytest.approx(rare / (rare + 59 * missing), abs=1e-6)
