"""A long text as overlapping windows, each of which the model reads whole.

Every step costs as much as the text is long, whatever is in it.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from app.embedding.base import MOST_WINDOWS, Windows
from app.embedding.places import character_end, first_word_end, sentence_end, word_end
from app.embedding.reader import Costs, Reader

_Span = tuple[int, int]
_Value = TypeVar("_Value")


def windows_of(text: str, reader: Reader, prefix: str = "") -> Windows:
    """What `Embedder.windows` promises.

    Neighbours share an eighth of a window, and up to a quarter where a sentence or a word then
    starts the next one: a sentence of common length is whole in one of them, and to embed a long
    text costs a sixth more than its length. Of more than `MOST_WINDOWS` those are left out that
    lie evenly between the first and the last: most of what a text is about goes on for several.
    """
    if reader.room < 1 or len(text) < 2 or reader.surely_reads(text):
        return Windows([text])
    costs = reader.costs(text)
    whole = int(costs[-1])
    if whole <= reader.sure or (whole <= reader.room and reader.reads([text])[0]):
        return Windows([text])
    if not text.startswith(prefix) or 4 * costs[len(prefix)] >= reader.room:
        prefix = ""
    taken = len(prefix)
    body, costs = text[taken:], costs[taken:]
    spans = _spans(body, costs, reader.room - int(costs[0]))
    pieces = _fitting(body, _evenly(spans), reader, prefix)
    windows = Windows(_evenly(pieces))
    windows.truncated = max(len(spans), len(pieces)) > MOST_WINDOWS
    return windows


def _fitting(text: str, spans: Sequence[_Span], reader: Reader, prefix: str) -> list[str]:
    """These pieces of the text, each behind the prefix.

    A piece can have more tokens than it had in the whole text; such a one is cut by its length.
    """
    pieces = [prefix + text[start:end] for start, end in spans]
    fitting: list[str] = []
    for (start, end), piece, fits in zip(spans, pieces, reader.reads(pieces), strict=True):
        length = end - start
        if fits or length == 1:
            fitting.append(piece)
        else:
            part = text[start:end]
            shorter = _spans(part, np.arange(length + 1), max(length * 5 // 8, 1))
            fitting += _fitting(part, shorter, reader, prefix)
    return fitting


def _evenly(values: Sequence[_Value]) -> Sequence[_Value]:
    """`MOST_WINDOWS` of the values if there are more, the first and the last among them."""
    if len(values) <= MOST_WINDOWS:
        return values
    return [values[n] for n in np.linspace(0, len(values) - 1, MOST_WINDOWS).round().astype(int)]


def _spans(text: str, costs: Costs, room: int) -> list[_Span]:
    """Overlapping, from the first character to the last; each costs half of `room` or more."""

    def last(cost: int) -> int:
        """The last place with no more before it."""
        return int(np.searchsorted(costs, cost, side="right")) - 1

    spans: list[_Span] = []
    start = 0
    while True:
        until = max(last(costs[start] + room), start + 1)
        if until >= len(text):
            return [*spans, (start, len(text))]
        half = last(costs[start] + room // 2)
        end = (
            sentence_end(text, last(costs[start] + room * 3 // 4), until)
            or word_end(text, half, until)
            or character_end(text, half, until)
            or until
        )
        spans.append((start, end))
        after = max(last(costs[end] - room // 4), start)
        until = min(last(costs[end] - room // 8), end)
        start = max(
            sentence_end(text, after, until)
            or word_end(text, after, until)
            or first_word_end(text, until, end)
            or character_end(text, after, until)
            or character_end(text, after, end)
            or until,
            start + 1,
        )
