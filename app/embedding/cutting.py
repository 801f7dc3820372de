"""Windows of texts and questions, off the event loop."""

import asyncio

from app.embedding.base import Windows
from app.embedding.reader import Reader


class Cutter:
    """Cuts what a reader would not read whole. Short texts never leave the event loop."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._one_text = asyncio.Semaphore(1)

    async def text(self, text: str, prefix: str = "") -> Windows:
        """The windows of a text to be found. One text at a time: questions go before them."""
        if self._reader.surely_reads(text):
            return Windows([text])
        async with self._one_text:
            return await self._cut(text, prefix)

    async def question(self, text: str) -> Windows:
        """The windows of a question."""
        if self._reader.surely_reads(text):
            return Windows([text])
        return await self._cut(text, "")

    async def _cut(self, text: str, prefix: str) -> Windows:
        from app.embedding.windows import windows_of  # needs what only the extra has

        return await asyncio.to_thread(windows_of, text, self._reader, prefix)
