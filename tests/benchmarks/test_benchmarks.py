"""The parts of the benchmarks that a run's figures hang on."""

import json
from itertools import islice
from pathlib import Path

import pytest

from app.embedding import Embedder
from benchmarks.client import drive, post
from benchmarks.data import load, user
from benchmarks.table import Figure, render
from tests.api.serving import build_app, listening


def test_made_data_has_the_asked_shape_and_is_the_same_in_every_run() -> None:
    data = load(None, users=3, per_user=4, large=5)
    assert data == load(None, users=3, per_user=4, large=5)
    owners = [owner for owner, _ in data.memories]
    assert sorted(map(owners.count, {user(0), user(1), user(2), "large"})) == [4, 4, 4, 5]
    stored = {text for _, text in data.memories}
    queries = list(islice(data.queries(), 25_000))
    assert len(stored) == 17
    assert len(set(queries)) == 25_000
    assert stored.isdisjoint(queries)


@pytest.mark.parametrize("name", ["texts.txt", "texts.jsonl"])
def test_data_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    texts = [f"The kettle no. {n} is made of copper." for n in range(200)]
    lines = [*texts, texts[0], "short"]
    if name.endswith(".jsonl"):
        lines = [json.dumps({"text": text}) for text in lines]
    (tmp_path / name).write_text("\n".join(lines))
    data = load(tmp_path / name, users=2, per_user=10, large=5)
    assert [text for _, text in data.memories] == texts[:25]
    assert data.unused == texts[25:]
    with pytest.raises(SystemExit, match="has 200 different texts"):
        load(tmp_path / name)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    figure = Figure("recall", "/s", [50, 90, 40], 0.7, [100, 100, 50])
    assert figure.ratios == [0.5, 0.9, 0.8]
    assert figure.met
    table = render([figure, Figure("start", "s", [6.0], 5, at_most=True)])
    assert table.splitlines()[2].split("|")[1:-1] == [
        " recall ",
        "         ",
        " 50.0 (40.0 to 90.0) /s ",
        " 100 (50.0 to 100) /s ",
        " 0.80 (0.50 to 0.90) ",
        " ≥ 0.70   ",
        " yes ",
    ]
    assert table.splitlines()[3].split("|")[-3:-1] == [" ≤ 5.00 s ", " NO  "]


def test_the_client_gets_every_answer(embedder: Embedder) -> None:
    request = post("/v1/memories/recall", {"user_id": "ada"})
    with listening(build_app(embedder)) as port:
        driven = drive(port, [request] * 50, in_flight=4, status=200)
        assert len(driven.latencies) == 50
        with pytest.raises(RuntimeError, match="201"):
            drive(port, [request], in_flight=1, status=201)
