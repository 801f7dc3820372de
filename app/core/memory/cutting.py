"""One long text cut into the pieces of a document."""

from typing import Final

from app.embedding.places import character_end, paragraph_end, sentence_end, word_end

LEAST_PIECE_CHARS: Final = 100
PIECE_CHARS: Final = 1_000
"""About what a model of 256 tokens reads of English."""


def pieces_of(text: str, size: int, overlap: int) -> list[str]:
    """Pieces of up to `size` characters, in order, without the white space around them.

    A piece ends between paragraphs where it is half of `size` long by then, else between sentences,
    words or characters. The next one begins with the last of it again: at least half of `overlap`
    characters and at most all, which are half of `size` or fewer. Every step costs as much as the
    text is long, whatever is in it.
    """
    pieces: list[str] = []
    start = 0
    while start < len(text):
        end = _end(text, start, size)
        pieces.append(text[start:end].strip())
        if end == len(text):
            break
        start = _start(text, end, overlap)
    return [piece for piece in pieces if piece]


def _end(text: str, start: int, size: int) -> int:
    half, until = start + size // 2, start + size
    if until >= len(text):
        return len(text)
    return (
        paragraph_end(text, half, until)
        or sentence_end(text, half, until)
        or word_end(text, half, until)
        or character_end(text, half, until)
        or until
    )


def _start(text: str, end: int, overlap: int) -> int:
    """Where the piece begins that follows one with this end."""
    after, until = end - overlap - 1, end - (overlap + 1) // 2
    return (
        sentence_end(text, after, until)
        or word_end(text, after, until)
        or character_end(text, after, until)
        or end
    )
