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
    while True:
        part = text[start : start + size + 1]
        if len(part) <= size:
            break
        end = _end(part, size)
        pieces.append(part[:end].strip())
        start += _start(part, end, overlap)
    return [piece for piece in (*pieces, part.strip()) if piece]


def _end(part: str, size: int) -> int:
    """Where the piece ends that begins with the part."""
    return (
        paragraph_end(part, size // 2, size)
        or sentence_end(part, size // 2, size)
        or word_end(part, size // 2, size)
        or character_end(part, size // 2, size)
        or size
    )


def _start(part: str, end: int, overlap: int) -> int:
    """Where the piece begins that follows the one with this end."""
    after, until = end - overlap - 1, end - (overlap + 1) // 2
    return (
        sentence_end(part, after, until)
        or word_end(part, after, until)
        or character_end(part, after, until)
        or end
    )
