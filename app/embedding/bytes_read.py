"""How much a model reads of a text whose tokens can't be counted here."""

from collections.abc import Sequence

import numpy as np

from app.embedding.reader import Costs, Reader


class ByteReader(Reader):
    """Reads `room` bytes of UTF-8."""

    def __init__(self, room: int) -> None:
        self.room = self.sure = room

    def surely_reads(self, text: str) -> bool:
        return len(text) <= self.room and _bytes(text) <= self.room

    def costs(self, text: str) -> Costs:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        sizes = 1 + sum((points >= more).astype(np.int64) for more in (0x80, 0x800, 0x10000))
        return np.concatenate(([0], np.cumsum(sizes)))

    def reads(self, texts: Sequence[str]) -> list[bool]:
        return [_bytes(text) <= self.room for text in texts]


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
