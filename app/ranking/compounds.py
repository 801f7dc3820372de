"""One run of characters without white space, as the words that it is and the words in it.

A run is a plain word (kettle), a number (3.14), a name in camelCase, a word with hyphens or an
apostrophe, an address (a path, an identifier, whatever has other marks in it), or an emoji. A
compound has the words of its parts, so that the part finds the whole; and words of its own, so that
the same compound has more of the words than what only shares its parts.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

from app.ranking.languages import Language, language
from app.ranking.normal import EMOJI, folded, mark, plain

_WHOLE = "="
"""Before a compound as it is written, which is another word than a part that is written so."""
_FIRST = 4
"""Of a number's beginnings, 1.9 and 1.9.3 of 1.9.3.2, so many are words."""
_SHORT = 64
"""Longer runs come once: they are not remembered."""
_REMEMBERED = 16_384

_JOINER = r"(?:(?!\.\.|--)[._\-/\\@:+&=?#%~']{1,3}|(?<=[0-9]),(?=[0-9]{3}(?!\d)))"
_DATE = r"(?<!\d)[0-9]{4}-[0-9]{2}(?:-[0-9]{2}(?:[Tt](?=[0-9]))?)?(?!\d)"
_NUMBER = r"(?:(?<!\w)[Vv]|(?<![\d.:]))[0-9]+(?:[.:][0-9]+)+"
_THOUSANDS = r"(?<![\d.,])[0-9]{1,3}(?:,[0-9]{3})+(?![\d,])"
_SHARP = r"(?<!\w)[A-Za-z](?:\+\+|#|\+(?!\w))"
_ZWJ = "\u200d"
_TONE = "[\U0001f3fb-\U0001f3ff]"
_TAGS = "[\U000e0020-\U000e007f]{1,8}"


class Found(NamedTuple):
    """Words of a part of a text."""

    every: tuple[str, ...]
    """Those that a stored text has."""

    asked: tuple[str, ...]
    """Those that a query asks for; none of a stop word."""


class _Patterns(NamedTuple):
    run: re.Pattern[str]
    part: re.Pattern[str]
    """A part of a run."""


def runs(text: str) -> Iterable[str]:
    """The distinct runs of a normal text, in order of appearance."""
    return dict.fromkeys(_patterns(ascii_only=text.isascii()).run.findall(text))


def words_of(run: str, name: str) -> Found:
    """The words of a run, in the language called `name`."""
    if len(run) <= _SHORT:
        return _remembered(run, name)
    return _found(run, language(name))


@cache
def _patterns(*, ascii_only: bool) -> _Patterns:
    """For ASCII alone, which is most text, a pattern that is twice as fast."""
    if ascii_only:
        word, others = "[A-Za-z0-9]+", ""
    else:
        word = rf"[^\W_]+(?:{mark()}+[^\W_]*)*"
        emoji = f"[{EMOJI}](?:{_TONE}|{_TAGS})?"
        others = f"|{emoji}(?:{_ZWJ}{emoji}){{0,9}}|[\U0001f1e6-\U0001f1ff]{{2}}"
    run = rf"{word}(?:{_JOINER}{word})*(?:\+\+|[+#](?!\w))?"
    return _Patterns(
        re.compile(rf"{run}|\.(?<![\w.]\.)(?=[A-Za-z]){run}{others}"),
        re.compile(
            rf"{_THOUSANDS}|{_DATE}|{_NUMBER}|{_SHARP}|[A-Za-z]+(?=[0-9]{{1,9}}[.:][0-9])|{word}"
        ),
    )


@lru_cache(maxsize=_REMEMBERED)
def _remembered(run: str, name: str) -> Found:
    return _found(run, language(name))


def _found(run: str, known: Language) -> Found:
    parts = _patterns(ascii_only=run.isascii()).part.findall(run)
    if not parts:
        return _emoji(run)
    if len(parts) == 1 and len(parts[0]) == len(run):
        found = _part(run, known)
        return _exact(run, found) if _is_number(run) else found
    joiners = _JOINERS.intersection(run)
    if joiners == {"."} and all(len(part) == 1 for part in parts) and not run[0].isdigit():
        return _word(folded("".join(parts)), known)  # U.S.A
    of_parts = [_part(part, known) for part in dict.fromkeys(parts)]
    names = not any(map(_has_mark, parts))
    if joiners == {"'"} and names:
        return _apostrophe(parts, known)
    if joiners <= {"-", "'"} and names:
        return _hyphens(parts, of_parts, known)
    return _address(run, of_parts, known)


def _part(part: str, known: Language) -> Found:
    """The words of a part that has no parts but a number's and those of a name in camelCase."""
    if _has_mark(part):
        return _number(part) if part[-1].isalnum() else _sharp(part)
    whole = _word(folded(part), known)
    shape = part if part.isascii() else "".join(map(_shape, part))
    if _CAMEL.search(shape) is None:
        return whole
    places = (*_BEFORE_DIGIT.finditer(shape), *_PIECE.finditer(shape))
    pieces = [part[one.start() : one.end()] for one in places]
    pieces = [piece for piece in dict.fromkeys(pieces) if len(piece) > 1]
    found = [_word(folded(piece), known) for piece in pieces]
    every = _all(whole.every, *(one.every for one in found))
    if len(pieces) < 3 and not shape[-1].isdigit():  # GitHub, which many write github
        return Found(every, whole.asked)
    return Found(every, _all(whole.asked, *(one.asked for one in found)))


def _word(word: str, known: Language) -> Found:
    """A folded word of letters and digits: its stem, and that of its plain spelling."""
    stop = word in known.stop_words
    stem = word if stop or _DIGIT.search(word) else known.stem(word)
    own, bare = (stem,), plain(word)
    every = own if bare == word else _all(own, (known.stem(bare),))
    return Found(every, () if stop else own)


def _sharp(part: str) -> Found:
    """C++ is another thing than C."""
    return Found((folded(part),), (folded(part),))


def _number(part: str) -> Found:
    """A number with marks in it, and its beginnings: 2024-05 of a date, 1.9 of 1.9.3.

    Of a date its year too. 1,000 is 1000.
    """
    if "," in part:
        return Found((part.replace(",", ""),), (part.replace(",", ""),))
    number, mark = folded(part).strip("vt"), "-" if "-" in part else "." if "." in part else ":"
    pieces = number.split(mark, _FIRST)
    least = 1 if mark == "-" else 2
    beginnings = [mark.join(pieces[:n]) for n in range(len(pieces) - 1, least - 1, -1)]
    own = _all((folded(part).rstrip("t"), number), beginnings)
    return Found(own, own)


def _exact(run: str, found: Found) -> Found:
    """The words of a run that others may have as a part, and one that only the run itself has."""
    whole = (_WHOLE + folded(run),)
    return Found(whole + found.every, whole + found.asked)


def _apostrophe(parts: list[str], known: Language) -> Found:
    """Anna's is Anna; don't says nothing; O'Brien may be written OBrien."""
    first, *others = (_part(part, known) for part in (parts[0], *dict.fromkeys(parts[1:])))
    after = map(folded, dict.fromkeys(parts[1:]))
    said = [one for part, one in zip(after, others, strict=True) if part not in known.clitics]
    joined = _word(folded("".join(parts)), known)
    every = _all(joined.every, first.every, *(one.every for one in others))
    asked = _all(first.asked, *(one.asked for one in said))
    names = len(said) == len(others) and first.asked and all(one.asked for one in said)
    return Found(every, _all(joined.asked, asked) if names else asked)


def _hyphens(parts: list[str], found: list[Found], known: Language) -> Found:
    """E-mail may be written email."""
    joined = _word(folded("".join(parts)), known)
    return Found(
        _all(joined.every, *(one.every for one in found)),
        _all(joined.asked, *((word for word in one.asked if len(word) > 1) for one in found)),
    )


def _address(run: str, found: list[Found], known: Language) -> Found:
    """Its whole, the segments of a path, and all their parts."""
    segments = [one for one in _SEGMENT.split(folded(run)) if _INNER.search(one)]
    other = (word for one in dict.fromkeys(segments) for word in _other_spellings(one, known))
    every = _all(segments, other, *(one.every for one in found))
    return _exact(run, Found(every, _all(segments, *(one.asked for one in found))))


def _other_spellings(segment: str, known: Language) -> Iterator[str]:
    """Of user_id userid; of www.example.com www.example and example.com."""
    if "." in segment:
        names = segment.split(".")
        if len(names) > 2:
            yield from map(".".join, pairwise(names))
    elif "_" in segment and "-" not in segment:
        yield from _word(segment.replace("_", "").replace("'", ""), known).every


def _emoji(run: str) -> Found:
    """The sequence, the same without colours of skin, and each emoji in it."""
    bare = _TONES.sub("", run)
    own = _all((run, bare), bare.split(_ZWJ)) if bare else (run,)
    return Found(own, own)


def _all(*some: Iterable[str]) -> tuple[str, ...]:
    """The distinct words of all, in order."""
    return tuple(dict.fromkeys(word for words in some for word in words if word))


def _shape(letter: str) -> str:
    return "A" if letter.isupper() else "0" if letter.isdigit() else "a"


def _has_mark(part: str) -> bool:
    return _MARK.search(part) is not None


def _is_number(run: str) -> bool:
    return "," not in run and run[-1].isalnum() and _has_mark(run)


_JOINERS = frozenset(",._-/\\@:+&=?#%~'")
_SEGMENT = re.compile(r"[,/\\@:?&=#%+~]+")
_INNER = re.compile(r"(?<=.)[._\-'](?=.)|^\.")
_MARK = re.compile(r"[+#,.:-]")
_DIGIT = re.compile(r"\d")
_TONES = re.compile(_TONE)
_CAMEL = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]{2}|^[A-Za-z]{3,}[0-9]+$")
_BEFORE_DIGIT = re.compile(r"(?<![A-Za-z])[A-Za-z]{3,}(?=[0-9])")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
