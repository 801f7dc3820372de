"""`python -m benchmarks.texts`: which texts cost PostgreSQL more than prose of their length.

Repeats every pattern of two characters of a telling alphabet, and chance ones of three and four, up
to a query's length, and splits the text into words, as a store and a recall do, on a PostgreSQL of
its own. Prints the worst by their ratio to prose; ends after five minutes.
"""

import argparse
import asyncio
import random
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from time import monotonic, perf_counter

import asyncpg

from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.ranking.runs import parsable

_ALPHABET = "ae1 @._-/:%&;#<>=+'\"\\,?~é\u0301漢\ufdfa😀"
_PROSE = "Ada waters the basil on Sundays, before the train to Lyon leaves at nine o'clock. "
_SIZE = 8_192
_SPLIT = "select length(to_tsvector('english', $1))"
_SECONDS = 300.0
_WANTED = 5.0
"""No text costs more than so many times what prose of its length costs."""


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.texts", description=__doc__)
    parser.add_argument("--chance", type=int, default=1_000, help="patterns of 3 and 4 characters")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--raw", action="store_true", help="without `parsable`, as it was before")
    options = parser.parse_args()
    asyncio.run(_search(options.chance, options.seed, raw=options.raw))


async def _search(chance: int, seed: int, *, raw: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="texts-") as folder:
        server = EmbeddedPostgres(Path(folder))
        await server.open()
        try:
            connection = await asyncpg.connect(server.dsn)
            await connection.execute("set statement_timeout = '4s'")

            async def least(pattern: str) -> float:
                text = (pattern * _SIZE)[:_SIZE]
                found = []
                for _ in range(7):
                    started = perf_counter()
                    try:
                        await connection.fetchval(_SPLIT, text if raw else parsable(text))
                    except asyncpg.QueryCanceledError:
                        return 4.0
                    found.append(perf_counter() - started)
                    if found[-1] > 0.1:
                        break
                return min(found)

            await least(_PROSE)
            prose = await least(_PROSE)
            ratios = []
            end = monotonic() + _SECONDS
            for pattern in _patterns(chance, seed):
                ratios.append((await least(pattern) / prose, pattern))
                if monotonic() > end:
                    print("ended before all patterns were tried")
                    break
            await connection.close()
        finally:
            await server.close()
    print(f"prose of {_SIZE:,} characters: {prose * 1e3:.2f} ms; {len(ratios):,} patterns")
    print(f"over {_WANTED:.0f} times prose: {sum(ratio > _WANTED for ratio, _ in ratios)}")
    print("| pattern | times prose |\n|---|---|")
    for ratio, pattern in sorted(ratios, reverse=True)[:15]:
        print(f"| {pattern!a} | {ratio:.1f} |")


def _patterns(chance: int, seed: int) -> Iterator[str]:
    yield from ("".join(two) for two in product(_ALPHABET, repeat=2))
    dice = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(chance):
        yield "".join(dice.choice(_ALPHABET) for _ in range(dice.choice((3, 4))))
    for unit in ("e@1", "a_", "e_", "/~", "./", "1.", "a-", "a@"):  # up to what stays whole
        yield from (f"{unit * count} " for count in (1, 4, 8, 15, 16))
    yield from ("e@1" + "e_" * 15 + " ", "e@1", "<!-- ", "a<!--b ", "<?xml ", '<a "')


if __name__ == "__main__":
    main()
