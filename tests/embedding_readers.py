"""Texts to be cut, models that read so much of them, and what of a text is in windows."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from app.embedding.engines.tokens import CountingReader, TokenReader
from app.embedding.locate import locate_model
from app.settings import EmbeddingSettings

PROSE = (
    "Ada keeps her copper kettle on the stove, and the basil stands on the windowsill. "
    "In spring the neighbours bring plums! Who would say no? "
    "The workshop behind the house smells of varnish and of old wood.\n"
)
LIMIT = 32_768

HOSTILE = {
    "one word": "x" * LIMIT,
    "combining marks": "a" + "\u0301" * (LIMIT - 1),
    "spaces": " " * LIMIT,
    "lines": "\r\n" * (LIMIT // 2),
    "families": "👨‍👩‍👧‍👦" * (LIMIT // 7),
    "flags": "🇩🇪" * (LIMIT // 2),
    "joiners": "\u200d" * LIMIT,
    "controls": "\x01" * LIMIT,
    "unknown words": "ꙮ" * LIMIT,
    "words too long to know": ("x" * 101 + " ") * (LIMIT // 102),
    "words just not too long": ("x" * 99 + " ") * (LIMIT // 100),
    "dots": "." * LIMIT,
    "quotes": "." + "'" * (LIMIT - 1),
    "underscores": "a_" * (LIMIT // 2),
    "what normalises to much": "\ufdfa" * LIMIT,
    "Hangul": "각" * LIMIT,
    "Han": "銅" * LIMIT,
}


def covered(text: str, windows: Sequence[str], prefix: str = "") -> int:
    """How many of the text's characters, from its start, are in windows in their order."""
    end = len(prefix)
    for window in windows:
        assert window.startswith(prefix)
        piece = window[len(prefix) :]
        start = text.rfind(piece, 0, end + len(piece))
        assert start >= 0, f"a gap at {end}, or not of the text: {piece[:40]!r}"
        end = max(end, start + len(piece))
    return end


def word_pieces(most: int, *prompts: str) -> TokenReader:
    """The real model's tokens for a model that reads `most`, after one of the prompts."""
    tokenizer = Tokenizer.from_file(str(Path(locate_model(EmbeddingSettings())) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    return TokenReader(tokenizer, prompts or [""], most)


def byte_pairs(most: int, *prompts: str) -> TokenReader:
    """Tokens of bytes, of which a word's first differ from those after a space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [PROSE], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.enable_truncation(most)
    return TokenReader(tokenizer, prompts or [""], most)


def unigrams(most: int, *prompts: str) -> TokenReader:
    """Tokens of the text's compatibility form, which can be many times longer."""
    pieces = [("<unk>", 0.0), *((chr(n), -2.0) for n in range(0x20, 0x7F)), ("▁kettle", -1.0)]
    pieces += [(letter, -3.0) for letter in "▁صلىاللهعيوسم"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.enable_truncation(most)
    return TokenReader(tokenizer, prompts or [""], most)


def counted(most: int, *prompts: str) -> CountingReader:
    """A tokenizer that makes a token of every letter, and of every word without one."""
    return CountingReader(
        lambda text: 2 + sum(len(word) if word.isalpha() else 1 for word in text.split()),
        prompts or [""],
        most,
    )
