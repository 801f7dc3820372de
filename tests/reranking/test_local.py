"""A cross-encoder in this process."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import CrossEncoder
from torch.nn.modules.module import register_module_forward_hook

from app.embedding.locate import locate
from app.errors import ConfigurationError, DriverError
from app.reranking import build_reranking
from app.reranking.local import LocalReranker
from app.settings import RerankSettings
from tests.reranking import cross_encoder


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[LocalReranker]:
    reranker = LocalReranker(str(folder))
    await reranker.open()
    try:
        yield reranker
    finally:
        await reranker.close()


@pytest.fixture
def passes() -> Iterator[list[str]]:
    """The name of the thread of each pass of a model."""
    found: list[str] = []

    def note(module: Any, *_: Any) -> None:
        if isinstance(module, CrossEncoder):
            found.append(threading.current_thread().name)

    hook = register_module_forward_hook(note)
    yield found
    hook.remove()


async def test_scores_are_the_models_in_the_order_of_the_texts(copper_model: Path) -> None:
    texts = ["the kettle is made of steel", "a pan of copper", "tea", "copper copper"]
    async with opened(copper_model) as reranker:
        steel, one, none, two = await reranker.scores("what is the kettle made of", texts)
        again = await reranker.scores("what is the kettle made of", texts[::-1])
        assert await reranker.scores("what?", []) == []
    assert 0 < steel < none < one < two < 1
    assert again == pytest.approx([two, none, one, steel])


async def test_more_texts_than_one_pass_takes_keep_their_places(
    copper_model: Path, passes: list[str]
) -> None:
    texts = [f"{'copper ' * (n % 5)}{'pan ' * (n % 7)}" for n in range(30)]
    async with opened(copper_model) as reranker:
        passes.clear()
        found = await reranker.scores("what?", texts)
        alone = [(await reranker.scores("what?", [text]))[0] for text in texts]
    assert found == pytest.approx(alone, abs=1e-5)


async def test_what_is_longer_than_the_model_reads_counts_by_its_beginning(
    copper_model: Path,
) -> None:
    async with opened(copper_model) as reranker:
        early, late = await reranker.scores(
            "what?", [f"copper {'pan ' * 200}", f"{'pan ' * 200} copper"]
        )
    assert early > late


async def test_a_model_works_in_a_thread_of_its_own(copper_model: Path, passes: list[str]) -> None:
    async with opened(copper_model) as reranker:
        await asyncio.gather(*(reranker.scores("what?", ["tea", "copper"]) for _ in range(8)))
    assert len(set(passes)) == 1
    assert threading.current_thread().name not in passes


async def test_a_caller_who_leaves_stops_the_model(copper_model: Path, passes: list[str]) -> None:
    many = [f"{'copper ' * (n % 5)}pan" for n in range(40_000)]
    async with opened(copper_model) as reranker:
        passes.clear()
        call = asyncio.create_task(reranker.scores("what?", many))
        while not passes:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(await reranker.scores("what?", ["tea"])) == 1
        assert len(passes) < 2_500  # of 5,000


async def test_a_caller_who_leaves_while_waiting_costs_no_pass(
    copper_model: Path, passes: list[str]
) -> None:
    async with opened(copper_model) as reranker:
        passes.clear()
        first = asyncio.create_task(reranker.scores("what?", ["copper"] * 400))
        waiting = [asyncio.create_task(reranker.scores("what?", ["tea"])) for _ in range(5)]
        while not passes:
            await asyncio.sleep(0)
        for call in waiting:
            call.cancel()
        await asyncio.wait([first, *waiting])
    assert len(passes) == 50


async def test_a_score_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    folder = cross_encoder.without_numbers_for_tea(cross_encoder.write(tmp_path / "model"))
    async with opened(folder) as reranker:
        with pytest.raises(DriverError):
            await reranker.scores("what?", ["copper", "tea"])
        assert len(await reranker.scores("what?", ["copper", "pan"])) == 2


async def test_closed_and_opened_again_it_scores_alike(copper_model: Path) -> None:
    reranker = LocalReranker(str(copper_model))
    found = []
    for _ in range(2):
        await asyncio.gather(reranker.open(), reranker.open())
        found.append(await reranker.scores("what?", ["copper", "tea"]))
        await reranker.close()
        await reranker.close()
    assert found[0] == found[1]


async def test_the_settings_give_the_model(copper_model: Path) -> None:
    reranking = build_reranking(RerankSettings(model=str(copper_model)))
    assert reranking is not None
    await reranking.open()
    assert reranking.facts() == {"kind": "local", "model": str(copper_model), "failing": None}
    scores = await reranking.scores("what?", ["tea", "copper"])
    assert scores is not None
    assert scores[0] < scores[1]
    await reranking.close()


def _nowhere(folder: Path) -> Path:
    return folder


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _broken(folder: Path) -> Path:
    cross_encoder.write(folder)
    (folder / "model.safetensors").write_bytes(b"kettle")
    return folder


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_nowhere, "there is no folder"),
        (_empty, "can't be loaded"),
        (_broken, "can't be loaded"),
        (lambda folder: cross_encoder.write(folder, scores=2), "gives 2 scores"),
        (cross_encoder.write_without_scores, "is no cross-encoder"),
    ],
    ids=["nowhere", "empty", "broken", "two scores", "an embedding model"],
)
async def test_a_model_that_can_t_rerank_ends_the_start_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    reranker = LocalReranker(str(make(tmp_path / "model")))
    with pytest.raises(ConfigurationError, match=told) as refused:
        await reranker.open()
    assert str(refused.value).startswith("MEMORY_RERANK_MODEL: ")
    assert "\n" not in str(refused.value)
    await reranker.close()


async def test_without_a_network_an_unknown_name_ends_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reranker = LocalReranker("nobody/has-such-a-reranker")
    with pytest.raises(ConfigurationError, match="path of a downloaded cross-encoder"):
        await reranker.open()
    await reranker.close()


def test_a_path_is_looked_for_on_this_machine_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="MEMORY_RERANK_MODEL: there is no folder"):
        locate(str(tmp_path / "nowhere"), "MEMORY_RERANK_MODEL")
