"""What cutting costs: short texts nothing, no text much, and no question waits for texts."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from app.embedding import Windows
from app.embedding.cutting import Cutter
from app.embedding.reader import Costs, Reader
from app.embedding.windows import windows_of
from tests.embedding_readers import HOSTILE, LIMIT, PROSE, word_pieces


class Counting(Reader):
    """Another reader, whose work is counted in characters."""

    def __init__(self, reader: Reader) -> None:
        self.room, self.sure = reader.room, reader.sure
        self.counted: list[int] = []
        self._reader = reader

    def surely_reads(self, text: str) -> bool:
        return self._reader.surely_reads(text)

    def costs(self, text: str) -> Costs:
        self.counted.append(len(text))
        return self._reader.costs(text)

    def reads(self, texts: Sequence[str]) -> list[bool]:
        self.counted += map(len, texts)
        return self._reader.reads(texts)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_text_is_counted_more_than_a_few_times(hostile: str) -> None:
    reader = Counting(word_pieces(256))
    windows_of(HOSTILE[hostile], reader)
    assert sum(reader.counted) <= 3 * LIMIT


@pytest.mark.parametrize("length", [0, 1, 250])
async def test_a_short_text_is_its_only_window_and_not_counted(length: int) -> None:
    reader = Counting(word_pieces(256))
    cutter = Cutter(reader)
    text = (PROSE * 2)[:length]
    for windows in (await cutter.text(text), await cutter.question(text)):
        assert windows == [text]
        assert not windows.truncated
    assert reader.counted == []


async def test_a_text_that_just_fits_is_its_only_window_and_counted_once() -> None:
    reader = Counting(word_pieces(256))
    text = "kettle " * 254
    assert await Cutter(reader).text(text) == [text]
    assert reader.counted == [len(text)]


class Blocked(Reader):
    """Reads ten characters; counts a text only when it may."""

    room = sure = 10

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.go: dict[str, asyncio.Event] = {}
        self._loop = asyncio.get_running_loop()

    def surely_reads(self, text: str) -> bool:
        return False

    def costs(self, text: str) -> Costs:
        self.begun.append(text)
        if text in self.go:
            asyncio.run_coroutine_threadsafe(self.go[text].wait(), self._loop).result(20)
        if text == "bad":
            raise ValueError(text)
        return np.arange(len(text) + 1)

    def reads(self, texts: Sequence[str]) -> list[bool]:
        return [True for _ in texts]


async def test_a_question_goes_before_the_texts_that_wait() -> None:
    reader = Blocked()
    cutter = Cutter(reader)
    reader.go["first text"] = asyncio.Event()
    texts = [asyncio.create_task(cutter.text(text)) for text in ("first text", *["other"] * 50)]
    while not reader.begun:
        await asyncio.sleep(0.001)
    assert await cutter.question("a question") == ["a question"]
    assert reader.begun == ["first text", "a question"]
    reader.go["first text"].set()
    assert (await asyncio.gather(*texts))[0] == Windows(["first text"])


async def test_what_fails_or_is_cancelled_stops_no_other_text() -> None:
    reader = Blocked()
    cutter = Cutter(reader)
    with pytest.raises(ValueError, match="bad"):
        await cutter.text("bad")
    reader.go["left"] = asyncio.Event()
    left = asyncio.create_task(cutter.text("left"))
    while "left" not in reader.begun:
        await asyncio.sleep(0.001)
    left.cancel()
    assert await asyncio.wait_for(cutter.text("another"), 20) == ["another"]
    reader.go["left"].set()
