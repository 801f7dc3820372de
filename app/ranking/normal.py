"""Spellings of the same text as one: Unicode's NFKC, and marks that writers may leave out.

Every function takes a time that grows with the text, whatever the text is.
"""

import re
import unicodedata
from functools import cache

_MOST_MARKS = 30
"""In a row, as Unicode's stream-safe format has it: to order n marks takes n² steps."""
_LONG = re.compile("[\u3300-\u33df\ufdf0-\ufdfc]")
"""Words that are one character, of which NFKC makes 4 to 18 characters."""
_MOST_LONG = 100
"""A text with more of them, which are also more than a tenth of it, keeps them as they are."""

_SAME = {
    **dict.fromkeys("\u2018\u2019\u02bb\u02bc\u05f3", "'"),
    **dict.fromkeys("\u2010\u2011\u2012\u2212", "-"),
    "\u200b": " ",  # a space without a width
    "\u0451": "\u0435",  # Russian writes the first of the two at will
    "\u0401": "\u0415",
}
EMOJI = "\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001f1e5\U0001f200-\U0001faff"
_SHAPELESS = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u20dd-\u20e4\ufe00-\ufe0f\ufeff\uffa0"
)
_VOWELS = (
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u0652"
    "\u0656-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed"
)
"""Hebrew's and Arabic's, which are mostly not written, and Arabic's stretched line."""
_STRESS = "(?<=[\u0400-\u04ff])[\u0300\u0301]"
"""Of Cyrillic words in dictionaries."""
_SPECIAL = re.compile(
    f"[{''.join(_SAME)}{_SHAPELESS}{_VOWELS}\u200d\u0300\u0301]|[\U000e0100-\U000e01ef]"
)
_OPTIONAL = re.compile(
    f"[{_SHAPELESS}{_VOWELS}]|[\U000e0100-\U000e01ef]|\u200d(?![{EMOJI}])|{_STRESS}"
)
_ALIKE = re.compile(f"[{''.join(_SAME)}]")
_OTHER_DIGITS = re.compile(r"[^\D0-9]+")

_ACCENT = re.compile("(?<!\u0438)\u0306|[\u0300-\u0305\u0307-\u036f\u0653-\u0655]")
"""Marks of Latin, Greek, Cyrillic and Arabic letters; й is no и with an accent."""
_LETTERS = str.maketrans(
    {
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "æ": "ae",
        "œ": "oe",
        "\u0131": "i",
        "ħ": "h",
    }
)


@cache
def mark() -> str:
    """A pattern of a combining mark. In two classes: Python looks fast into one below U+10000."""
    below, above = range(0x300, 0x10000), (*range(0x101FD, 0x1E95B), *range(0xE0100, 0xE01F0))
    first, second = ("".join(map(chr, filter(_is_mark, codes))) for codes in (below, above))
    return f"(?:[{first}]|(?=[\U000101fd-\U0001e95a\U000e0100-\U000e01ef])[{second}])"


def normal(text: str) -> str:
    """`text` in NFKC, in which what looks or reads the same is the same, but for its case."""
    if text.isascii():
        return text
    text = _many_marks().sub(r"\1", text)
    long = len(_LONG.findall(text)) > max(_MOST_LONG, len(text) // 10)
    text = unicodedata.normalize("NFC" if long else "NFKC", text)
    if _SPECIAL.search(text) is not None:
        text = _OPTIONAL.sub("", _ALIKE.sub(lambda found: _SAME[found[0]], text))
    return _OTHER_DIGITS.sub(_ascii_digits, text)


def folded(word: str) -> str:
    """A normal word, whose case does not matter any more; the small İ is i."""
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFC", word.casefold().replace("i\u0307", "i"))


def plain(word: str) -> str:
    """A folded word without its accents: café is also cafe, łódź lodz, and أحمد احمد."""
    if word.isascii():
        return word
    bare = _ACCENT.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare).translate(_LETTERS)


@cache
def _many_marks() -> re.Pattern[str]:
    some = f"(?:{mark()}|[\uff9e\uff9f])"  # with the marks of kana of half the width
    return re.compile(f"({some}{{{_MOST_MARKS}}}){some}+")


def _is_mark(code: int) -> bool:
    return unicodedata.category(chr(code))[0] == "M"


def _ascii_digits(run: re.Match[str]) -> str:
    return "".join(str(unicodedata.decimal(digit)) for digit in run[0])
