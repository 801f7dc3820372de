"""What a recall may ask of recency, and what it can't."""

from dataclasses import replace
from typing import Any

import pytest

from app.core.memory.records import Memory
from app.core.memory.requests import Recall, Recency
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import CapabilityMissing, InvalidInput
from app.ranking import Explanation
from app.settings import Limits
from tests.api.serving import Api, serving
from tests.service.six_verbs import SixVerbs

RECENCY = {"half_life_days": 30, "weight": 0.1}


class WeighingDriver(InMemoryDriver):
    """Keeps what it was asked for, and tells points that no computation gives by chance."""

    explains = True
    weighs_recency = True

    def __init__(self, embedder: Embedder, limits: Limits) -> None:
        super().__init__(embedder, limits)
        self.asked: list[Recency | None] = []

    async def _recall(self, wanted: Recall) -> list[Memory]:
        self.asked.append(wanted.recency)
        found = await super()._recall(wanted)
        points = 0.0625 if wanted.recency is not None else None
        why = Explanation(cosine=0.5, recency=points) if wanted.explain else None
        return [replace(memory, explanation=why) for memory in found]


async def recall(api: Api, **more: Any) -> Any:
    return await api.post("/v1/memories/recall", {"user_id": "ada", "query": "kettle", **more})


async def test_a_request_tells_the_driver_how_recency_counts(embedder: Embedder) -> None:
    driver = WeighingDriver(embedder, Limits())
    async with serving(embedder, lambda _: driver) as api:
        asked: list[dict[str, Any]] = [
            RECENCY,
            {"half_life_days": 0.5, "weight": 0.2},
            {"half_life_days": 1e9, "weight": 0},
        ]
        for recency in asked:
            assert (await recall(api, recency=recency)).status_code == 200
        for body in ({}, {"recency": None}):
            assert (await recall(api, **body)).status_code == 200
    assert driver.asked == [Recency(30, 0.1), Recency(0.5, 0.2), Recency(1e9, 0), None, None]


async def test_an_explanation_has_the_points_only_where_recency_was_asked_for(
    embedder: Embedder,
) -> None:
    async with serving(embedder, lambda _: WeighingDriver(embedder, Limits())) as api:
        await api.post("/v1/memories", {"user_id": "ada", "content": "kettle"})
        asked = await recall(api, recency=RECENCY, explain=True)
        plain = await recall(api, explain=True)
    (asked_why,) = [memory["explanation"] for memory in asked.json()["memories"]]
    (plain_why,) = [memory["explanation"] for memory in plain.json()["memories"]]
    assert asked_why == {**plain_why, "recency": 0.0625}
    assert asked_why.keys() == {"cosine", "lexical", "date", "speaker", "form", "recency"}


@pytest.mark.parametrize(
    ("recency", "place"),
    [
        ({**RECENCY, "half_life_days": 0}, ["half_life_days"]),
        ({**RECENCY, "half_life_days": -1}, ["half_life_days"]),
        ({**RECENCY, "half_life_days": "30"}, ["half_life_days"]),
        ({**RECENCY, "half_life_days": True}, ["half_life_days"]),
        ({**RECENCY, "half_life_days": None}, ["half_life_days"]),
        ({**RECENCY, "weight": -0.01}, ["weight"]),
        ({**RECENCY, "weight": 0.21}, ["weight"]),
        ({**RECENCY, "weight": "0.1"}, ["weight"]),
        ({"half_life_days": 30}, ["weight"]),
        ({"weight": 0.1}, ["half_life_days"]),
        ({}, ["half_life_days"]),
        ({**RECENCY, "kind": "linear"}, ["kind"]),
        (True, []),
        (0.1, []),
        ([30, 0.1], []),
    ],
)
async def test_recency_out_of_range_is_refused_at_its_place(
    embedder: Embedder, recency: Any, place: list[str]
) -> None:
    driver = WeighingDriver(embedder, Limits())
    async with serving(embedder, lambda _: driver) as api:
        refused = await recall(api, recency=recency)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["loc"] == ["body", "recency", *place]
    assert driver.asked == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("field", RECENCY)
async def test_recency_without_a_number_is_refused(
    embedder: Embedder, field: str, number: str
) -> None:
    body = b'{"user_id": "ada", "query": "x", "recency": {"half_life_days": 30, "weight": 0.1}}'
    was = {"half_life_days": b"30", "weight": b"0.1"}[field]
    body = body.replace(b'"%s": %s' % (field.encode(), was), f'"{field}": {number}'.encode())
    async with serving(embedder, lambda _: WeighingDriver(embedder, Limits())) as api:
        assert (await api.post("/v1/memories/recall", body)).status_code == 422


@pytest.mark.parametrize(
    ("recency", "loc"),
    [
        (Recency(0.0, 0.1), ("recency", "half_life_days")),
        (Recency(-1.0, 0.1), ("recency", "half_life_days")),
        (Recency(float("nan"), 0.1), ("recency", "half_life_days")),
        (Recency(float("inf"), 0.1), ("recency", "half_life_days")),
        (Recency(10**400, 0.1), ("recency", "half_life_days")),
        (Recency(True, 0.1), ("recency", "half_life_days")),
        (Recency(30.0, -0.1), ("recency", "weight")),
        (Recency(30.0, 0.2000001), ("recency", "weight")),
        (Recency(30.0, float("nan")), ("recency", "weight")),
        (Recency(30.0, False), ("recency", "weight")),
    ],
)
async def test_a_driver_refuses_recency_out_of_range_itself(
    embedder: Embedder, recency: Recency, loc: tuple[str, str]
) -> None:
    driver = WeighingDriver(embedder, Limits())
    with pytest.raises(InvalidInput) as refused:
        await driver.recall("ada", query="kettle", recency=recency)
    assert refused.value.loc == loc
    assert driver.asked == []


async def test_a_driver_of_six_verbs_can_t_weigh_recency_and_says_so(embedder: Embedder) -> None:
    async with serving(embedder, lambda _: SixVerbs()) as api:
        refused = await recall(api, recency=RECENCY)
        health = (await api.client.get("/health")).json()
        assert (await recall(api)).status_code == 200
    assert (refused.status_code, refused.json()["code"]) == (501, "capability_missing")
    assert "weigh_recency" not in health["capabilities"]


async def test_a_driver_that_weighs_recency_says_so(embedder: Embedder) -> None:
    async with serving(embedder, lambda _: WeighingDriver(embedder, Limits())) as api:
        health = (await api.client.get("/health")).json()
    assert {"weigh_recency", "explain_recall"} <= set(health["capabilities"])


async def test_a_driver_that_does_not_weigh_recency_refuses_it(embedder: Embedder) -> None:
    class Without(WeighingDriver):
        weighs_recency = False

    driver = Without(embedder, Limits())
    with pytest.raises(CapabilityMissing):
        await driver.recall("ada", query="kettle", recency=Recency(30.0, 0.1))
