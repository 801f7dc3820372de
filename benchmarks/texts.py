"""`python -m benchmarks.texts`: which texts cost more than prose of their length.

Repeats every pattern of two characters of a telling alphabet, and chance ones of three and four, up
to a query's length: as they are, and with other letters and digits each time, which no text before
had. Makes words of each as a store and a recall do. Prints the worst by their ratio to prose, most
of whose words came before, and what four times their length costs: it should be about four times as
much. Ends after five minutes.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from itertools import count, product
from time import monotonic, perf_counter

from app.ranking.words import words
from benchmarks.data import made

_ALPHABET = "ae1 @._-/:%&;#<>=+'\"\\,?~é\u0301漢\ufdfa😀"
_SIZE = 8_192
_LONGER = 4
_ROUNDS = 5
_SECONDS = 300.0
_SHOWN = 15
_NUMBERS = count(10_000)


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.texts", description=__doc__)
    parser.add_argument("--chance", type=int, default=1_000, help="patterns of 3 and 4 characters")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sentences = made()
    prose = _least([_prose(sentences) for _ in range(20)])
    found = []
    end = monotonic() + _SECONDS
    for pattern in _patterns(options.chance, options.seed):
        found += [(_cost(pattern, _SIZE, new=new), pattern, new) for new in (False, True)]
        if monotonic() > end:
            print("ended before all patterns were tried")
            break
    print(f"prose of {_SIZE:,} characters: {prose * 1e3:.2f} ms; {len(found):,} texts")
    print("| pattern | new each time | ms | times prose | four times as long, times |")
    print("|---|---|---|---|---|")
    for _, pattern, new in sorted(found, reverse=True)[:_SHOWN]:
        cost = _cost(pattern, _SIZE, new=new)
        longer = _cost(pattern, _LONGER * _SIZE, new=new)
        print(
            f"| {pattern!a} | {'yes' if new else 'no'} | {cost * 1e3:.1f} | {cost / prose:.0f} "
            f"| {longer / cost:.1f} |"
        )


def _cost(pattern: str, size: int, *, new: bool) -> float:
    if new:
        return _least([_unseen(pattern, size) for _ in range(_ROUNDS)])
    return _least([(pattern * size)[:size]] * _ROUNDS)


def _least(texts: Sequence[str]) -> float:
    """The least seconds that the words of one of the texts took."""
    taken = []
    for text in texts:
        started = perf_counter()
        words(text)
        taken.append(perf_counter() - started)
    return min(taken)


def _prose(sentences: Iterator[str]) -> str:
    text = next(sentences)
    while len(text) < _SIZE:
        text += f" {next(sentences)}"
    return text[:_SIZE]


def _unseen(pattern: str, size: int) -> str:
    """The pattern again and again, each time with letters for `a` and digits for `1` of its own."""
    parts: list[str] = []
    length = 0
    while length < size:
        digits = str(next(_NUMBERS))
        letters = "".join(chr(ord(digit) + 49) for digit in digits)
        parts.append(pattern.replace("1", digits).replace("a", letters))
        length += len(parts[-1])
    return "".join(parts)[:size]


def _patterns(chance: int, seed: int) -> Iterator[str]:
    yield from ("".join(two) for two in product(_ALPHABET, repeat=2))
    dice = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(chance):
        yield "".join(dice.choice(_ALPHABET) for _ in range(dice.choice((3, 4))))
    for unit in ("e@1", "a_", "e_", "/~", "./", "1.", "a-", "a@", "aE", "Aa1"):
        yield from (f"{unit * times} " for times in (1, 4, 8, 15, 16, 31))
    yield from ("e@1" + "e_" * 15 + " ", "e@1", "<!-- ", "a<!--b ", "<?xml ", '<a "')


if __name__ == "__main__":
    main()
