"""Words alone find the right memory in eight languages, half of them without spaces."""

import json
from zlib import crc32

import pytest

from app.ranking.words import VERSION, share, words
from tests.eight_languages import Tongue, eight_languages

TONGUES = eight_languages()
GIVEN = {1: 3_725_971_924}
"""A version of `words`, and the checksum of what it gives for the set and these compounds."""

COMPOUNDS = """
    app/main.py https://www.example.com/kettle?x=1 ada@example.com v1.9.3 NullPointerException
    HTTPServer user_id userId C++ C# .NET node.js e-mail Wi-Fi O'Brien don't U.S.A. 2024-05-13 3.14
    1,000 10:30 192.168.0.1 iPhone15Pro GitHub备份脚本 👩🏽\u200d🚀 🇩🇪 café Łódź İstanbul Straße
"""


def first_five(query: str, memories: tuple[str, ...], language: str) -> list[str]:
    asked = words(query, language)
    shares = {text: share(asked, words(text, language)) for text in memories}
    found = [text for text in memories if shares[text]]
    return sorted(found, key=lambda text: (-shares[text], len(text)))[:5]


def test_there_are_eight_languages_and_half_of_them_write_no_spaces_between_words() -> None:
    assert [tongue.code for tongue in TONGUES] == ["zh", "ja", "ko", "th", "en", "de", "ru", "ar"]
    for tongue in TONGUES:
        assert len(set(tongue.memories)) == 40
        assert len(set(tongue.queries)) >= 20


@pytest.mark.parametrize("configured", ["own", "english"])
@pytest.mark.parametrize("tongue", TONGUES, ids=[tongue.name for tongue in TONGUES])
def test_every_query_finds_its_memory_among_the_first_five(tongue: Tongue, configured: str) -> None:
    language = tongue.language if configured == "own" else configured
    missed = [
        query.text
        for query in tongue.queries
        if query.right not in first_five(query.text, tongue.memories, language)
    ]
    assert missed == []


def test_what_the_function_gives_changes_with_its_version_only() -> None:
    given = [
        [sorted(words(text, language).every), words(text, language).asked]
        for tongue in TONGUES
        for language in dict.fromkeys([tongue.language, "english", "simple"])
        for text in [*tongue.memories, *(query.text for query in tongue.queries), COMPOUNDS]
    ]
    assert crc32(json.dumps(given).encode()) == GIVEN[VERSION]
