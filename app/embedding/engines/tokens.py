"""How much a model reads of a text, by its own tokenizer."""

import threading
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from tokenizers import Encoding, Tokenizer

from app.embedding.reader import Costs, Reader

_READ = 16
"""Characters that one token stands for at most; more are a word that the model does not know."""

_JOINT = 16
"""Tokens more than both have that may come about where a prompt meets a text."""
_OWN = 2
"""Tokens that a tokenizer makes of nothing, as of a space that it puts before the first word."""


class TokenReader(Reader):
    """Of a model that reads `max_tokens`, with the longest of its prompts before the text.

    The tokenizer is cut to `max_tokens` and shared: nobody may change it any more.

    A token costs 1. One that stands for a word that the model does not know costs as its length
    would in words, as the model reads none of it however long it is.
    """

    def __init__(self, tokenizer: Tokenizer, prompts: Iterable[str], max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._prompts = frozenset(prompts)
        longest = max(len(encoding.ids) for encoding in self._encode(self._prompts))
        self.room = max_tokens - longest
        self.sure = self.room - _JOINT if any(self._prompts) else self.room

    def surely_reads(self, text: str) -> bool:
        return _surely_within(text, self.sure - _OWN)

    def costs(self, text: str) -> Costs:
        # Of one text, encode() would keep every other thread waiting, the event loop's too.
        (encoding,) = self._tokenizer.encode_batch([text], add_special_tokens=False)
        tokens = np.zeros(len(text) + 1, np.int64)
        for part in (encoding, *encoding.overflowing):
            offsets = np.array(part.offsets, np.int64).reshape(-1, 2)
            np.add.at(tokens, np.minimum(offsets[:, 0] + 1, len(text)), 1)
            for start, end in offsets[offsets[:, 1] - offsets[:, 0] > _READ]:
                tokens[start + 1 + _READ : end + 1 : _READ] += 1
        return np.cumsum(tokens)

    def reads(self, texts: Sequence[str]) -> list[bool]:
        read = np.ones(len(texts), bool)
        for prompt in self._prompts:
            encodings = self._encode(prompt + text for text in texts)
            read &= [not encoding.overflowing for encoding in encodings]
        return [bool(each) for each in read]

    def _encode(self, texts: Iterable[str]) -> list[Encoding]:
        encodings: list[Encoding] = self._tokenizer.encode_batch_fast(list(texts))
        return encodings


class CountingReader(Reader):
    """Of a model whose tokenizer only counts: `count` gives the tokens of a prompt and a text.

    Where in a text they are is guessed, and where the guess is wrong its windows are shorter.
    """

    def __init__(
        self, count: Callable[[str], int], prompts: Iterable[str], max_tokens: int
    ) -> None:
        self._count = count
        self._one = threading.Lock()  # tokenizers in Python may keep a state
        self._prompts = frozenset(prompts)
        self._max_tokens = max_tokens
        self.room = max_tokens - max(count(prompt) for prompt in self._prompts)
        self.sure = self.room - _JOINT if any(self._prompts) else self.room

    def surely_reads(self, text: str) -> bool:
        return _surely_within(text, self.sure - _OWN)

    def costs(self, text: str) -> Costs:
        with self._one:
            tokens = self._count(text)
        return np.arange(len(text) + 1, dtype=np.int64) * tokens // len(text)

    def reads(self, texts: Sequence[str]) -> list[bool]:
        with self._one:
            return [
                all(self._count(prompt + text) <= self._max_tokens for prompt in self._prompts)
                for text in texts
            ]


def _surely_within(text: str, tokens: int) -> bool:
    """Whether it has no more, whatever the tokenizer.

    A tokenizer makes at most one token of a byte: of the text as it is, or of its own form of it,
    which is no longer than the longest that Unicode has.
    """
    if len(text) > tokens:
        return False
    forms = [text] if text.isascii() else [text, unicodedata.normalize("NFKD", text)]
    return all(len(form.encode("utf-8", "surrogatepass")) <= tokens for form in forms)
