"""The figures of the retrieval benchmark, the sets it takes, and that evidence helps."""

import json
from dataclasses import asdict
from math import log2
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.embedding import Embedder
from app.settings import DatabaseSettings, Settings
from benchmarks.quality import __main__ as benchmark
from benchmarks.quality.figures import figures, ndcg, recall, reciprocal_rank
from benchmarks.quality.retrieval_set import load
from tests.conftest import NewDatabase

KITCHEN = Path(benchmark.__file__).parent / "kitchen.json"
FOUND = ["a", "b", "c", "d", "e", "f"]


def test_recall_is_the_share_of_the_right_ones_among_the_first() -> None:
    assert recall(FOUND, ["b", "f"], 5) == 0.5
    assert recall(FOUND, ["b", "f"], 6) == 1
    assert recall(FOUND, ["b", "z", "y", "x"], 20) == 0.25
    assert recall([], ["b"], 5) == 0


def test_ndcg_discounts_by_the_logarithm_of_the_place() -> None:
    assert ndcg(FOUND, ["a", "b"], 10) == 1
    assert ndcg(FOUND, ["b"], 10) == pytest.approx(1 / log2(3))
    assert ndcg(FOUND, ["a", "c"], 10) == pytest.approx((1 + 1 / 2) / (1 + 1 / log2(3)))
    assert ndcg(FOUND, ["c"], 2) == 0
    assert ndcg(FOUND, [*FOUND, *"uvwxyz"], 3) == 1


def test_the_reciprocal_rank_is_that_of_the_first_right_one() -> None:
    assert reciprocal_rank(FOUND, ["f", "d"]) == 0.25
    assert reciprocal_rank(FOUND, ["z"]) == 0


def test_figures_are_means_over_queries() -> None:
    answers = [(FOUND, ["a"]), (FOUND, ["f"]), (FOUND, ["z"])]
    assert asdict(figures(answers)) == pytest.approx(
        {
            "recall_5": 1 / 3,
            "recall_10": 2 / 3,
            "recall_20": 2 / 3,
            "ndcg_10": (1 + 1 / log2(7)) / 3,
            "mrr": (1 + 1 / 6) / 3,
        }
    )


def test_the_set_that_comes_with_it_is_as_documented() -> None:
    (user,) = load(KITCHEN).users
    assert (len(user.memories), len(user.queries)) == (40, 12)
    assert {memory.metadata["speaker"] for memory in user.memories} == {"Nadia", "Owen"}
    assert len({memory.conversation_id for memory in user.memories}) == 4


MEMORY: dict[str, Any] = {"id": "1", "content": "kettle"}
QUERY: dict[str, Any] = {"query": "kettle?", "gold": ["1"]}


@pytest.mark.parametrize(
    ("memories", "queries", "said"),
    [
        ([MEMORY, MEMORY], [QUERY], "an id of 'ada' is there twice"),
        ([MEMORY], [{**QUERY, "gold": ["1", "2"]}], "'ada' has no memory '2', which is gold"),
        ([MEMORY], [{**QUERY, "gold": []}], "queries.0.gold"),
        ([{**MEMORY, "text": "kettle"}], [QUERY], "memories.0.text"),
        ([{"id": "1"}], [QUERY], "memories.0.content"),
    ],
)
def test_a_wrong_set_is_refused_by_what_is_wrong(
    tmp_path: Path, memories: list[Any], queries: list[Any], said: str
) -> None:
    user = {"user_id": "ada", "memories": memories, "queries": queries}
    (tmp_path / "set.json").write_text(json.dumps({"users": [user]}))
    with pytest.raises(ValueError, match=said):
        load(tmp_path / "set.json")


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text("{users")
    with pytest.raises(ValueError, match="Invalid JSON"):
        load(tmp_path / "set.json")


async def test_all_evidence_finds_at_least_what_the_vector_finds(
    new_database: NewDatabase,
    embedder: Embedder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(benchmark, "build_embedder", lambda _: embedder)
    monkeypatch.setattr(embedder, "close", _nothing)
    database = DatabaseSettings(url=SecretStr(await new_database()))
    settings = Settings(driver="pgvector", database=database)
    await benchmark.run(load(KITCHEN), settings, ["vector", "lexical only", "fused"])
    users, _, *lines = capsys.readouterr().out.splitlines()
    assert users == "1 users, 40 memories, 12 queries"
    recall_10 = {line[:32].strip(): float(line[32:].split()[1]) for line in lines}
    assert list(recall_10) == ["vector", "lexical only", "fused"]
    assert recall_10["fused"] >= recall_10["vector"] > 0.5
    assert recall_10["fused"] >= 0.9


async def _nothing() -> None:
    pass
