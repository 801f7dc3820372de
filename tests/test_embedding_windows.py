"""Long texts and questions: every part is in a window, and the model reads each window whole."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import regex
from tokenizers import Tokenizer

from app.embedding import MOST_WINDOWS, Embedder, Vector
from app.embedding.locate import locate_model
from app.settings import EmbeddingSettings
from tests.embedding_readers import HOSTILE, LIMIT, PROSE, covered


class Words:
    """The real model's tokenizer, without its bound."""

    def __init__(self) -> None:
        folder = Path(locate_model(EmbeddingSettings()))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        """Tokens that the model would have to read, its own two among them."""
        return len(self._tokenizer.encode(text).ids)


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_every_window_of_any_text_is_read_whole(
    embedder: Embedder, words: Words, hostile: str
) -> None:
    text = HOSTILE[hostile]
    windows = await embedder.windows(text)
    assert max(map(words.count, windows)) <= 256
    assert len(windows) <= MOST_WINDOWS
    if not windows.truncated:
        assert covered(text, windows) == len(text)


@pytest.mark.parametrize("hostile", ["one word", "unknown words", "Hangul", "flags", "dots"])
async def test_a_run_without_a_space_is_cut(embedder: Embedder, hostile: str) -> None:
    assert len(await embedder.windows(HOSTILE[hostile])) > 5


@pytest.mark.parametrize(("number", "pieces"), [(254, 1), (255, 2)])
async def test_a_text_is_cut_from_the_first_token_that_is_not_read(
    embedder: Embedder, number: int, pieces: int
) -> None:
    text = "kettle " * number
    windows = await embedder.windows(text)
    assert len(windows) == pieces
    assert (windows == [text]) == (pieces == 1)


async def test_words_and_sentences_stay_whole(embedder: Embedder) -> None:
    text = PROSE * 60
    windows = await embedder.windows(text)
    assert covered(text, windows) == len(text)
    sentences = {end.strip() for end in regex.split(r"(?<=[.!?])\s", text)}
    for window in windows:
        assert {each.strip() for each in regex.split(r"(?<=[.!?])\s", window)} <= sentences


async def test_a_sentence_across_an_edge_is_whole_in_a_window(embedder: Embedder) -> None:
    text = " ".join(f"Line {n} of the long list names town number {n}" for n in range(400))
    windows = await embedder.windows(text)
    assert len(windows) > 10
    for n in range(399):
        line = f"Line {n} of the long list names town number {n} "
        assert any(line in window for window in windows)


async def test_every_window_has_the_name_that_the_text_starts_with(
    embedder: Embedder, words: Words
) -> None:
    text = "Ada Lovelace: " + PROSE * 30
    windows = await embedder.windows(text, "Ada Lovelace: ")
    assert len(windows) > 5
    assert covered(text, windows, "Ada Lovelace: ") == len(text)
    assert max(map(words.count, windows)) <= 256


@pytest.mark.parametrize("prefix", ["Bob: ", "Ada " * 100, "Ada: " + PROSE * 40])
async def test_a_name_that_is_not_there_or_fills_the_window_is_not_repeated(
    embedder: Embedder, prefix: str
) -> None:
    text = "Ada " * 100 + PROSE * 30 if prefix != "Ada: " + PROSE * 40 else prefix
    windows = await embedder.windows(text, prefix)
    assert covered(text, windows) == len(text)
    assert windows == await embedder.windows(text)


async def test_a_short_text_with_a_name_is_itself(embedder: Embedder) -> None:
    assert await embedder.windows("Ada: the kettle", "Ada: ") == ["Ada: the kettle"]


async def test_of_too_many_windows_the_first_the_last_and_some_between_are_kept(
    embedder: Embedder,
) -> None:
    text = "".join(chr(0x4E00 + n % 20_000) for n in range(LIMIT))
    windows = await embedder.windows(text)
    assert windows.truncated
    assert len(windows) == MOST_WINDOWS
    assert text.startswith(windows[0])
    assert text.endswith(windows[-1])
    starts = [text.index(window[:100], n * 400) for n, window in enumerate(windows)]
    assert max(np.diff(starts)) < 3 * len(windows[0])


async def test_the_best_window_of_a_long_text_finds_its_last_sentence(embedder: Embedder) -> None:
    count = 1_600 // len(PROSE.split())
    text = PROSE * count + "The spare key of the boat lies beneath the third flower pot."
    others = ["The plums were ripe in July.", "Bob plays the zither on Fridays.", PROSE]
    question = await embedder.embed_query("Where did they hide what unlocks the vessel?")
    windows = await embedder.windows(text)
    scores = await embedder.embed(windows) @ question
    assert "third flower pot" in windows[int(scores.argmax())]
    assert scores.max() > (await embedder.embed(others) @ question).max()
    assert (await embedder.embed([text]) @ question)[0] < scores.max() - 0.1


async def test_the_last_sentence_of_a_long_question_has_a_vector(embedder: Embedder) -> None:
    question = PROSE * 15 + "Where is the spare key of the boat?"
    vectors = await embedder.embed_question(question)
    windows = await embedder.windows(question)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(windows), 384)
    own = np.array([await embedder.embed_query(window) for window in windows])
    assert (vectors * own).sum(axis=1).min() > 0.9999
    texts = await embedder.embed(["The key of the boat lies beneath the flower pot.", "Plums."])
    best = (texts @ vectors.T).max(axis=1)
    assert best[0] > best[1]


async def test_a_short_question_has_the_vector_of_its_query(embedder: Embedder) -> None:
    vectors = await embedder.embed_question("Where is the kettle?")
    assert vectors.tolist() == [(await embedder.embed_query("Where is the kettle?")).tolist()]


async def test_the_event_loop_goes_on_while_a_text_is_cut(embedder: Embedder) -> None:
    cut = asyncio.create_task(embedder.windows("a_" * (LIMIT // 2)))
    turns = 0
    while not cut.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 20  # were it cut on the loop, there would be one or two


class Plain(Embedder):
    """Somebody's own embedder, with nothing but what it must have."""

    name, dimension, max_tokens = "plain", 2, None

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def embed_query(self, text: str) -> Vector:
        return np.array([len(text), 1], np.float32)

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.array([await self.embed_query(text) for text in texts], np.float32)


async def test_an_embedder_that_cuts_nothing_has_one_window_of_any_text() -> None:
    assert await Plain().windows("x" * LIMIT, "x") == ["x" * LIMIT]
    assert (await Plain().embed_question("abc")).tolist() == [[3, 1]]


async def test_texts_of_more_windows_than_a_text_may_have_are_counted(embedder: Embedder) -> None:
    before = embedder.truncated_texts
    assert not (await embedder.windows("Ada has a kettle. " * 100)).truncated
    assert embedder.truncated_texts == before
    assert (await embedder.windows("漢字" * 16_384)).truncated
    assert embedder.truncated_texts == before + 1
