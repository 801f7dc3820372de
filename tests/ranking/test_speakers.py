"""Who said a memory, whom a query names, and what is a question."""

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ranking.form import asks
from app.ranking.speakers import one_person, said, speaker_of, speakers_named


@pytest.mark.parametrize(
    ("content", "speaker"),
    [
        ("Ada: I bought a kettle.", "Ada"),
        ("  Ada: hi", "Ada"),
        ("Ada Lovelace: hi", "Ada Lovelace"),
        ("Jean-Luc: hi", "Jean-Luc"),
        ("O'Brien: hi", "O'Brien"),
        ("O\u2019Brien: hi", "O\u2019Brien"),
        ("Dr. Ada B. King: hi", "Dr. Ada B. King"),
        ("Ada K.: hi", "Ada K."),
        ("Zoë: hi", "Zoë"),
        ("Łukasz: cześć", "Łukasz"),
        ("Ольга Петровна: да", "Ольга Петровна"),
        ("李雷: 你好", "李雷"),
        ("user2: hi", "user2"),
        ("Ada:\thi", "Ada"),
        ("Ada:\nhi", "Ada"),
        ("a" * 80 + ": hi", "a" * 80),
    ],
)
def test_a_leading_name_is_the_speaker(content: str, speaker: str) -> None:
    assert speaker_of(content, {}) == speaker


@pytest.mark.parametrize(
    "content",
    [
        "",
        ":",
        ": hi",
        "Ada",
        "Ada:",
        "Ada:hi",
        "12:30: the train leaves",
        "12: the train leaves",
        "At 12:30: the train leaves",
        "http://example.org: a page",
        "https://example.org/a: b",
        "mailto:ada@example.org is her address",
        "_ada: hi",
        "ada_b: hi",
        "I went there, Bob: hi",
        "one two three four five: six",
        "a" * 81 + ": hi",
        "\n",
        "\U0001f98a: hi",
    ],
)
def test_what_is_no_name_is_no_speaker(content: str) -> None:
    assert speaker_of(content, {}) is None


@pytest.mark.parametrize("named", ["Bob", " Bob ", "Bob\n"])
def test_the_metadatas_speaker_comes_first(named: str) -> None:
    assert speaker_of("Ada: hi", {"speaker": named}) == "Bob"


@pytest.mark.parametrize("named", ["", "  ", "b" * 81, None, 7, True, ["Bob"], {"name": "Bob"}])
def test_a_speaker_that_is_no_name_is_ignored(named: object) -> None:
    assert speaker_of("Ada: hi", {"speaker": named}) == "Ada"
    assert speaker_of("hi", {"speaker": named}) is None


def test_80_characters_are_a_speaker() -> None:
    assert speaker_of("hi", {"speaker": "b" * 80}) == "b" * 80


def test_the_speakers_name_is_embedded_where_only_the_metadata_has_it() -> None:
    assert said("I bought a kettle.", {"speaker": "Ada"}) == "Ada: I bought a kettle."
    assert said("Ada: I bought a kettle.", {"speaker": "Ada"}) == "Ada: I bought a kettle."
    assert said(" ADA bought a kettle.", {"speaker": "Ada"}) == " ADA bought a kettle."
    assert said("Ada", {"speaker": "Ada"}) == "Ada"
    assert said("Bob: hi", {"speaker": "Ada"}) == "Ada: Bob: hi"
    assert said("Ada: hi", {}) == "Ada: hi"
    assert said("hi", {}) == "hi"


def test_a_word_that_only_begins_as_the_name_is_not_the_name() -> None:
    assert said("Always late.", {"speaker": "Al"}) == "Al: Always late."
    assert said("Al's late.", {"speaker": "Al"}) == "Al's late."


@pytest.mark.parametrize(
    ("query", "speakers", "named"),
    [
        ("What did Ada buy?", ["Ada", "Bob"], ["Ada"]),
        ("what did ada's mother buy", ["Ada", "Bob"], ["Ada"]),
        ("What did ADA buy?", ["Ada"], ["Ada"]),
        ("What did Ada buy?", ["Ada Lovelace"], ["Ada Lovelace"]),
        ("What did Lovelace buy?", ["Ada Lovelace"], []),
        ("Что купила ольга?", ["Ольга"], ["Ольга"]),
        ("STRASSE?", ["Straße"], ["Straße"]),
        ("What did Adam buy?", ["Ada"], []),
        ("What did she buy?", ["Ada", "Bob"], []),
        ("", ["Ada"], []),
        ("Ada?", [], []),
        ("\U0001f98a?", ["\U0001f98a", "..."], []),
    ],
)
def test_the_one_whose_first_name_is_in_the_query_is_named(
    query: str, speakers: list[str], named: list[str]
) -> None:
    assert speakers_named(query, speakers) == named


def test_two_who_are_named_both_are_nobody() -> None:
    named = speakers_named("What did Ada tell Bob?", ["Ada", "Bob", "Cleo"])
    assert not one_person(named)
    assert not one_person(speakers_named("What did Ada buy?", ["Ada King", "Ada Byron"]))
    assert not one_person([])


def test_a_person_is_named_in_every_spelling() -> None:
    named = speakers_named("What did ada buy?", ["Ada", "ADA", "Bob"])
    assert named == ["Ada", "ADA"]
    assert one_person(named)


@pytest.mark.parametrize("query", ["Zoë", "Zoe\u0308", "ZOË", "Ｚｏë"])
def test_a_person_is_named_however_the_name_is_encoded(query: str) -> None:
    speakers = ["Zoë", "Zoe\u0308", "Zoe"]
    named = speakers_named(f"What did {query} buy?", speakers)
    assert named == speakers[:2]
    assert one_person(named)


def test_a_name_that_the_content_has_in_another_encoding_is_not_put_before_it() -> None:
    assert said("Zoe\u0308: hi", {"speaker": "Zoë"}) == "Zoe\u0308: hi"
    assert said("Zoes are gone", {"speaker": "Zoë"}) == "Zoë: Zoes are gone"


@given(st.text(), st.dictionaries(st.sampled_from(["speaker", "x"]), st.text() | st.integers()))
def test_no_text_is_too_odd(content: str, metadata: dict[str, str | int]) -> None:
    speaker = speaker_of(content, metadata)
    assert speaker is None or 0 < len(speaker) <= 80
    assert said(content, metadata).endswith(content)
    assert speakers_named(content, [speaker or content]) in ([], [speaker or content])


@pytest.mark.parametrize("content", ["Why?", "Why?  \n", "何\uff1f", "لماذا\u061f", "?"])
def test_a_question_ends_with_its_mark(content: str) -> None:
    assert asks(content)


@pytest.mark.parametrize("content", ["", " ", "Why.", "Why? Because.", "Why?)"])
def test_anything_else_is_a_statement(content: str) -> None:
    assert not asks(content)


def test_a_name_is_found_in_every_spelling_in_a_long_query() -> None:
    query = "waters " * 40 + "Zoe\u0308 " + "a\u0315\u0300" * 3_000
    assert speakers_named(query, ["Zoë", "Bob"]) == ["Zoë"]


def test_a_row_of_combining_marks_is_looked_through_in_a_time_that_grows_with_it() -> None:
    def least(length: int) -> float:
        query = ("\u0315\u0300" * length)[:length]
        return min(timeit.repeat(lambda: speakers_named(query, ["Zoë"]), number=1, repeat=5))

    assert least(16_000) < 8 * least(4_000)  # to sort them all takes 16 times as long
