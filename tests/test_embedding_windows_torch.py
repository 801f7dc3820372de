"""Windows of models that no graph stands for: as many tokens, or none to count.

Who needs torch imports it: at the top, every process that collects the tests would wait for it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from app.embedding import Windows, build_embedder
from app.settings import EmbeddingSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "kettle", ":", *"abcdefgh銅のやかん"]
PROMPTS = {"query": "a b c : ", "document": "the kettle "}
LONG = "the kettle the kettle a b c d " * 40


def saved(tokenizer: Any, folder: Path) -> Path:
    """A BERT of 16 dimensions and 32 tokens with random weights and that tokenizer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel

    tokenizer.save_pretrained(folder / "raw")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder / "raw")
    modules = [Transformer(str(folder / "raw"), max_seq_length=32), Pooling(16)]
    SentenceTransformer(modules=modules, device="cpu", prompts=PROMPTS).save(
        str(folder / "made"), create_model_card=False
    )
    return folder / "made"


async def windows_of(
    model: Path, text: str, graphs: Path, engine: Literal["torch", "onnxruntime"] = "torch"
) -> Windows:
    """By an embedder of that engine, and no other."""
    embedder = build_embedder(
        EmbeddingSettings(model=str(model), engine=engine, cache_dir=graphs, threads=1)
    )
    windows = await embedder.windows(text)  # which opens it
    assert embedder.engine == engine
    assert len(await embedder.embed_question(text)) == len(windows)
    await embedder.close()
    return windows


def longest(model: "SentenceTransformer", windows: list[str]) -> int:
    """Tokens of the longest window behind the longest prompt."""
    return max(
        len(model.tokenizer(prompt + window)["input_ids"])
        for window in windows
        for prompt in PROMPTS.values()
    )


@pytest.mark.parametrize("text", [LONG, "abcdefgh" * 80, "the " * 26])
async def test_torch_and_a_graph_cut_alike_and_leave_room_for_the_prompts(
    tmp_path: Path, text: str
) -> None:
    from sentence_transformers import SentenceTransformer
    from transformers import BertTokenizer

    model = saved(BertTokenizer(vocab={word: n for n, word in enumerate(WORDS)}), tmp_path)
    windows = await windows_of(model, text, tmp_path / "graphs")
    assert windows == await windows_of(model, text, tmp_path / "graphs", "onnxruntime")
    assert longest(SentenceTransformer(str(model), device="cpu"), windows) <= 32
    assert (len(windows) == 1) == (text == "the " * 26)


async def test_a_tokenizer_in_python_is_counted_by(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from transformers import BertJapaneseTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertJapaneseTokenizer(  # type: ignore[no-untyped-call]  # it has no types
        str(tmp_path / "vocab.txt"),
        word_tokenizer_type="basic",
        subword_tokenizer_type="character",
    )
    model = saved(tokenizer, tmp_path)
    text = "銅のやかん" * 20 + " the kettle" * 20
    windows = await windows_of(model, text, tmp_path / "graphs")
    assert len(windows) > 4
    assert longest(SentenceTransformer(str(model), device="cpu"), windows) <= 32
    assert (text[:9], text[-9:]) == (windows[0][:9], windows[-1][-9:])


async def test_a_model_that_reads_any_length_has_one_window(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from transformers import BertTokenizer

    tokenizer = BertTokenizer(vocab={word: n for n, word in enumerate(WORDS)})
    static = StaticEmbedding(tokenizer.backend_tokenizer, embedding_dim=16)
    SentenceTransformer(modules=[static], device="cpu").save(
        str(tmp_path / "static"), create_model_card=False
    )
    assert await windows_of(tmp_path / "static", LONG, tmp_path / "graphs") == [LONG]
