"""From text to words: what finds what, and that no text takes long."""

import unicodedata
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ranking.words import LANGUAGES, Words, hashes, share, words

KIB = 1_024


def found(query: str, *texts: str, language: str = "english") -> list[str]:
    """Those of the texts that share a word with the query, best first, ties as they are given."""
    asked = words(query, language)
    shares = {text: share(asked, words(text, language)) for text in texts}
    return sorted((text for text in texts if shares[text]), key=lambda text: -shares[text])


def best(query: str, *texts: str) -> str | None:
    """The one text that has more of the query's words than every other; None where two tie."""
    asked = words(query)
    first, second, *_ = sorted(((share(asked, words(one)), one) for one in texts), reverse=True)
    return first[1] if first[0] > second[0] else None


@pytest.mark.parametrize(
    "text", ["café", "Zürich", "bệnh viện", "ＡＢＣ１２３", "ｶﾞｲﾄﾞ", "ガイド", "ﬁnance", "Ⅷ"]
)
@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_a_word_is_the_same_in_every_form_of_unicode(text: str, form: str) -> None:
    assert words(unicodedata.normalize(form, text)) == words(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ABC123", "ＡＢＣ１２３"),
        ("KETTLE", "kettle"),
        ("STRASSE", "Straße"),
        ("İSTANBUL", "istanbul"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("2024", "٢٠٢٤"),
        ("2024", "२०२४"),
        ("don't", "don\u2019t"),
        ("п'ять", "п\u02bcять"),
        ("well-known", "well\u2010known"),
        ("soft hyphen", "soft\u00ad hy\u00adphen"),
        ("ёлка", "елка"),
        ("замок", "за\u0301мок"),
        ("كتاب", "كِتَابٌ"),
        ("كتاب", "كـــتاب"),
        ("שלום", "שָׁלוֹם"),
        ("میخواهم", "می\u200cخواهم"),
        ("❤", "❤\ufe0f"),
        ("1 2", "1\ufe0f\u20e3 2\ufe0f\u20e3"),
        ("1,000", "1000"),
        ("1,234,567", "1234567"),
        ("U.S.A.", "USA"),
        ("e.g.", "eg"),
    ],
)
def test_what_reads_the_same_is_the_same(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("cafe", "Anna waits in the café"),
        ("zurich", "Zürich in spring"),
        ("benh vien", "bệnh viện Chợ Rẫy"),
        ("Lodz", "a train to Łódź"),
        ("Tromso", "Tromsø"),
        ("Malmo", "MALMÖ"),
        ("Igdir", "Iğdır"),
        ("ανθρωπος", "άνθρωπος"),
        ("احمد", "أحمد"),
    ],
)
def test_a_word_without_accents_finds_the_word_with_them(query: str, text: str) -> None:
    assert found(query, text) == [text]


def test_a_word_with_accents_finds_only_the_word_with_them() -> None:
    assert found("schön", "schon", "schön") == ["schön"]
    assert found("má", "ma", "mã", "má") == ["má"]


def test_a_letter_that_only_looks_as_if_it_had_an_accent_is_another() -> None:
    assert found("мои", "мой") == []
    assert found("か", "が") == []


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("成语接龙", "今天我们在京都玩成语接龙"),
        ("しりとり", "昨日しりとりをした"),
        ("게임", "오늘 끝말잇기 게임을 했다"),
        ("ต่อคำ", "วันนี้เราเล่นเกมต่อคำ"),
        ("ເຂົ້າ", "ຂ້ອຍກິນເຂົ້າທຸກມື້"),
        ("ភាសាខ្មែរ", "ខ្ញុំរៀនភាសាខ្មែរ"),
        ("မြန်မာ", "ကျွန်တော်မြန်မာစကားပြောတယ်"),
        ("备份", "GitHub备份脚本上传失败"),
        ("github", "GitHub备份脚本上传失败"),
        ("3", "第3章を読む"),
        ("猫", "我家的猫很胖"),
        ("집", "우리 집에 왔다"),
        ("𠮷", "𠮷野家で食べた"),
    ],
)
def test_words_of_scripts_without_spaces_are_found_inside_a_sentence(query: str, text: str) -> None:
    assert share(words(query), words(text)) == 1


def test_two_characters_are_found_side_by_side_only() -> None:
    assert found("东京", "东边的北京", "我去东京") == ["我去东京"]
    assert words("东京").asked == ("东京",)
    assert words("成语接龙").asked == ("成语", "语接", "接龙")


def test_a_tone_or_vowel_stays_with_its_letter() -> None:
    assert words("ต่อ").asked == ("ต่อ",)
    assert words("ខ្មែរ").asked == ("ខ្មែរ",)
    assert found("ตอ", "ต่อ") == []


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ("main.py", "see app/main.py"),
        ("main", "see app/main.py"),
        ("app", "see app/main.py"),
        ("example.com", "https://www.example.com/kettle"),
        ("kettle", "https://www.example.com/kettle?x=1"),
        ("example.com", "ada@example.com"),
        ("ada", "ada@example.com"),
        ("example", "<ada@example.com>"),
        ("1.9", "v1.9"),
        ("1.9", "since 1.9.3"),
        ("1.9.3", "kettle-1.9.3.tar.gz"),
        ("3.11", "py3.11"),
        ("null pointer", "NullPointerException"),
        ("http", "HTTPServer"),
        ("server", "HTTPServer"),
        ("user", "user_id"),
        ("userid", "user_id"),
        ("id", "userId"),
        ("iphone", "iPhone15"),
        ("15", "iPhone15"),
        ("HttpServerError", "a server error"),
        ("имя", "МоёИмя"),
        ("2024", "2024-05-13"),
        ("2024-05", "2024-05-13"),
        ("2024-05-13", "2024-05-13T13:56:00Z"),
        ("13:56", "2024-05-13T13:56:00Z"),
        ("2024-05-13", "backup-2024-05-13.zip"),
        ("net", "ASP.NET"),
        (".NET", "ASP.NET"),
        ("gitignore", ".gitignore"),
        (".gitignore", "app/.gitignore"),
        ("C++", "C/C++"),
        ("C++", "C++17"),
        ("notepad", "Notepad++"),
        ("email", "e-mail"),
        ("mail", "e-mail"),
        ("wifi", "Wi-Fi"),
        ("known", "well-known"),
        ("covid", "COVID-19"),
        ("covid19", "COVID-19"),
        ("anna", "Anna's kettle"),
        ("brien", "O'Brien"),
        ("obrien", "O'Brien"),
        ("dont", "I don't know"),
        ("launch", "#launch"),
        ("ada", "@ada: hi"),
        ("reilly", "C:\\Users\\reilly"),
        ("5.99", "$5.99"),
        ("f81d4fae", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        ("👍", "👍🏽"),
        ("🚀", "👩🏽\u200d🚀"),
        ("👩\u200d🚀", "👩🏽\u200d🚀"),
        ("🎂", "Happy birthday!🎂"),
    ],
)
def test_the_part_finds_the_whole(part: str, whole: str) -> None:
    assert found(part, whole, "The train to Lyon leaves at nine") == [whole]


@pytest.mark.parametrize(
    ("exact", "others"),
    [
        ("main.py", ["app/main.py", "main.rs", "main", "the main thing in py"]),
        ("app/main.py", ["main.py", "src/app/main.py", "app main py"]),
        ("example.com", ["www.example.com", "example.org", "ada@example.com"]),
        ("ada@example.com", ["ada@example.org", "example.com", "bob@example.com"]),
        ("1.9", ["v1.9", "1.9.3", "1.8"]),
        ("v1.9", ["1.9", "v1.8", "v1.9.3"]),
        ("2024-05-13", ["2024-05-14", "2024-05", "log-2024-05-13.txt"]),
        ("user_id", ["userId", "app.user_id", "user id", "user_name"]),
        ("node.js", ["node", "js", "node.jsx"]),
        (".NET", ["net", "ASP.NET"]),
        ("C++", ["C", "C#", "F#", "C--"]),
        ("C#", ["C", "C++", "F#"]),
        ("Notepad++", ["notepad"]),
        ("NullPointerException", ["null pointer", "NullPointer", "exception"]),
        ("👍🏽", ["👍", "👍🏿"]),
        ("🇩🇪", ["🇫🇷", "🇩🇰", "DE"]),
        ("🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", ["🏴", "🇬🇧"]),
    ],
)
def test_the_exact_compound_ranks_above_what_only_shares_its_parts(
    exact: str, others: list[str]
) -> None:
    assert best(exact, *(f"{text} is what Ada uses" for text in (exact, *others))) == (
        f"{exact} is what Ada uses"
    )
    assert share(words(exact), words(exact)) == 1


def test_another_path_to_the_same_file_is_found_too() -> None:
    assert found("main.py", "app/main.py", "the window") == ["app/main.py"]


def test_c_is_neither_c_plus_plus_nor_c_sharp() -> None:
    assert found("C", "C++", "C#", "C99", "plain C") == ["plain C"]
    assert found("C++", "C", "C#", "C++") == ["C++"]


def test_a_name_in_two_parts_asks_for_the_whole_however_it_is_written() -> None:
    assert found("GitHub", "github", "git and a hub") == ["github"]
    assert found("github", "GitHub") == ["GitHub"]


def test_numbers_are_no_heaps_of_digits() -> None:
    assert found("3.14", "3 of 14", "3.14") == ["3.14"]
    assert found("14", "3.14") == []
    assert found("192.168.0.1", "1", "192") == []
    assert found("2024-05-13", "on 13 chairs and 5 stools") == []


@pytest.mark.parametrize(
    "query", ["Will", "The Who", "IT", "to be or not to be", "To Be, or Not to Be!", "don't"]
)
def test_a_query_of_nothing_but_stop_words_asks_for_them_as_written(query: str) -> None:
    assert share(words(query), words(f"Ada wrote: {query}")) == 1
    assert share(words(query), words("Copper kettles whistle")) == 0


def test_a_query_asks_without_stop_words() -> None:
    assert words("What did the kettle say to Will?").asked == ("kettl", "say")
    assert words("I don't have Anna's kettle, we've got it").asked == ("anna", "kettl", "got")


def test_a_stored_text_keeps_its_stop_words() -> None:
    assert {"the", "who", "is", "don", "t"} <= words("The Who is on, don't").every


def test_the_configured_language_alone_gives_stems_and_stop_words() -> None:
    assert found("running kettles", "the kettle runs") == ["the kettle runs"]
    assert found("Häuser", "ein Haus", language="german") == ["ein Haus"]
    assert found("Häuser", "ein Haus") == []
    assert words("das Haus", "german").asked == ("haus",)
    assert words("das Haus").asked == ("das", "haus")
    assert words("чайники", "russian").asked == words("чайника", "russian").asked
    assert words("The running kettles", "simple").asked == ("the", "running", "kettles")


def test_a_language_is_a_stemmers_or_simple() -> None:
    assert {"english", "german", "russian", "spanish", "arabic", "simple"} <= LANGUAGES
    for name in LANGUAGES:
        assert share(words("kettle чайник", name), words("kettle чайник", name)) == 1


@pytest.mark.parametrize("text", ["", "kettle", "猫"])
@pytest.mark.parametrize("name", ["klingon", "English", "", "../english"])
def test_an_unknown_language_is_refused(text: str, name: str) -> None:
    with pytest.raises(ValueError, match="is no language"):
        words(text, name)


def test_english_stop_words_are_those_of_postgresql() -> None:
    stop_words = """
        i me my myself we our ours ourselves you your yours yourself yourselves he him his
        himself she her hers herself it its itself they them their theirs themselves what which
        who whom this that these those am is are was were be been being have has had having do
        does did doing a an the and but if or because as until while of at by for with about
        against between into through during before after above below to from up down in out on
        off over under again further then once here there when where why how all any both each
        few more most other some such no nor not only own same so than too very s t can will
        just don should now
    """
    assert words(f"{stop_words} kettle").asked == ("kettl",)
    for word in ("would", "could", "also", "get", "ever", "us", "one"):
        assert len(words(f"{word} kettle").asked) == 2


def test_words_are_distinct_and_in_order_of_appearance() -> None:
    assert words("Lyon, kettle, 猫犬, Lyon, Anna").asked == ("lyon", "kettl", "猫犬", "anna")


@pytest.mark.parametrize("text", ["", " \n", "?!…", "---", "'", "...", "_ _", "\u0301", "€ § →"])
def test_a_text_without_words_has_none(text: str) -> None:
    assert words(text) == Words(frozenset(), ())
    assert share(words(text), words("kettle")) == 0
    assert share(words("kettle"), words(text)) == 0


def test_a_share_is_of_the_querys_words() -> None:
    assert share(words("copper kettle"), words("a kettle")) == 0.5
    assert share(words("kettle"), words("a copper kettle of Anna's")) == 1
    assert share(words("train"), words("kettle")) == 0


def test_hashes_are_signed_crcs_distinct_and_ascending() -> None:
    given_words = ["kettle", "猫", "kettle", "👍🏽", "copper", "=main.py"]
    expected = sorted({crc32(word.encode()) for word in given_words})
    made = hashes(given_words)
    assert made.dtype == np.int32
    assert sorted(made.view(np.uint32).tolist()) == expected
    assert made.tolist() == sorted(made.tolist())
    assert made.min() < 0 < made.max()
    assert hashes([]).dtype == np.int32
    assert hashes([]).tolist() == []
    assert hashes(["123456789"]).tolist() == [0xCBF43926 - 2**32]


alphabets = [
    st.text(),
    st.text("aB1_.-/@:'+#,= "),
    st.text("e\u0301\u0315\u0323\u0344\uff9eカ\u3099"),
    st.text("\ufdfa㌖⑽ﬃΐßŉİ"),
    st.text("กา่ำ猫がｶﾞ집ខ្មမြ", max_size=50),
    st.text("👩🏽\u200d🚀🇩🇪🏴\U000e0067\ufe0f"),
    st.text("אָأَйё\u200c\u00ad\u200b"),
]
odd = st.lists(st.one_of(alphabets), max_size=5).map("".join)


@given(odd, st.sampled_from(["english", "simple", "german", "arabic"]))
def test_a_text_has_all_words_that_it_asks_for(text: str, language: str) -> None:
    found = words(text, language)
    assert set(found.asked) <= found.every
    assert len(set(found.asked)) == len(found.asked)
    assert "" not in found.every
    assert len(hashes(found.every)) <= len(found.every)


@given(odd, odd)
def test_a_text_has_all_words_of_its_lines(one: str, other: str) -> None:
    assert words(f"{one}\n{other}").every == words(one).every | words(other).every


@given(odd)
def test_the_form_of_unicode_does_not_matter(text: str) -> None:
    assert words(unicodedata.normalize("NFD", text)).every == words(text).every


LONG = {
    "rows of marks": "\u0315\u0300",
    "rows of marks on letters": "e" + "\u0315\u0300" * 20,
    "marks of kana": "\uff9e\u0301",
    "marks above U+FFFF": "\U0001d165\U0001d16e",
    "addresses": "e@1",
    "identifiers": "a_",
    "versions": "1.",
    "times": "1:",
    "initials": "a.",
    "apostrophes": "a'",
    "hyphens": "a-",
    "dates": "2024-05-",
    "thousands": "1,000,",
    "paths": "a/",
    "modules": "app.main.",
    "camels": "aB",
    "sums": "a+",
    "capitals and a letter": "AAAAAAAa",
    "letters and a digit": "aaaaaaaa1",
    "one letter": "a",
    "one digit": "1",
    "one capital": "A",
    "dots": ".",
    "sharps": "#",
    "what NFKC makes longer": "\ufdfa",
    "what NFKC makes longer, a little": "㌖",
    "what NFKC makes longer, some": "\ufdfa" + "kettle " * 3,
    "what folding makes longer": "ΐ",
    "one character": "猫",
    "stacked letters": "ក\u17d2",
    "emoji": "👩🏽\u200d🚀",
    "joined emoji": "🚀\u200d",
    "half a flag": "🇩",
    "tags": "🏴\U000e0067",
    "other digits": "٣",
}


def handled(text: str) -> int:
    """How many characters the text's words have."""
    found = words(text)
    return sum(map(len, found.every)) + sum(map(len, found.asked))


@pytest.mark.timeout(60)  # a few tenths of a second; what takes n² steps takes half an hour
@pytest.mark.parametrize("unit", LONG.values(), ids=LONG.keys())
def test_words_grow_with_the_text_whatever_it_is(unit: str) -> None:
    length = 256 * KIB
    text = (unit * length)[:length]
    assert len(words(text).every) <= 2 * length
    assert handled(text) <= 12 * length
    assert handled(text) <= 2.2 * handled(text[: length // 2]) + 64


def numbered(unit: str, count: int = 5_000) -> str:
    return "".join(unit.format(n, chr(0x4E00 + n)) for n in range(count))


@pytest.mark.parametrize(
    "unit",
    [
        "{0}a.",
        "a{0}_",
        "x{0}@",
        "{0}.",
        "{0}-",
        "{0}:",
        "n{0}/",
        "Name{0}",
        "{1}",
        "e'{0}",
        "{1}a ",
    ],
)
def test_a_run_of_many_parts_has_a_bounded_number_of_words_of_each(unit: str) -> None:
    text = numbered(unit)
    assert len(words(text).every) <= 4 * 5_000
    assert handled(text) <= 12 * len(text)


def test_half_of_a_long_text_has_half_of_its_words() -> None:
    text = numbered("e@{0}")
    half = words(text[: len(text) // 2])
    assert len(words(text).every) == pytest.approx(2 * len(half.every), rel=0.1)
