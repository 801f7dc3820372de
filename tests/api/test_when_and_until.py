"""When a memory happened, and until when a record is kept, over HTTP."""

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.core.memory.record_driver import RecordDriver
from app.embedding import Embedder
from app.settings import Limits
from tests.api.serving import JSON, Api, read_places, read_problem, serving
from tests.clocks import let_pass

EAST = "2023-05-08T01:30:00+09:00"
FAR = "2100-01-02T03:04:05.678901Z"
MEMORY: dict[str, Any] = {"user_id": "ada", "content": "kettle"}
KNOWLEDGE: dict[str, Any] = {"content": "kettle", "category": "kitchen"}
SWEPT = re.compile(r'^memory_driver_expired_total\{driver="(.*)"\} (.*)$', re.MULTILINE)


@pytest.fixture
async def api(embedder: Embedder) -> AsyncIterator[Api]:
    async with serving(embedder) as api:
        yield api


async def stored(api: Api, path: str, body: object) -> Any:
    response = await api.post(path, body)
    assert response.status_code == 201, response.text
    return response.json()


async def changed(api: Api, url: str, patch: dict[str, Any]) -> Any:
    response = await api.client.patch(url, json=patch, headers=JSON)
    assert response.status_code == 200, response.text
    return response.json()


async def expire(api: Api, record: dict[str, Any]) -> None:
    assert isinstance(api.driver, RecordDriver)
    let_pass(api.driver, datetime.fromisoformat(record["expires_at"]))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (EAST, EAST),
        ("2023-05-08T01:30:00", "2023-05-08T01:30:00Z"),
        ("2023-05-08t01:30:00.5z", "2023-05-08T01:30:00.500000Z"),
        ("0001-01-03T00:00:00+14:00", "0001-01-03T00:00:00+14:00"),
        ("9999-12-29T23:59:59Z", "9999-12-29T23:59:59Z"),
    ],
)
async def test_every_answer_tells_the_moment_with_its_offset(
    api: Api, given: str, told: str
) -> None:
    memory = await stored(api, "/v1/memories", {**MEMORY, "occurred_at": given})
    (second,) = (
        await stored(
            api,
            "/v1/memories/batch",
            {"memories": [{**MEMORY, "user_id": "bob", "occurred_at": given}]},
        )
    )["memories"]
    got = await api.client.get(f"/v1/memories/{memory['memory_id']}?user_id=ada")
    listed = await api.client.get("/v1/memories?user_id=ada")
    recalled = await api.post("/v1/memories/recall", {"user_id": "ada", "query": "kettle"})
    for answer in (
        memory,
        second,
        got.json(),
        *listed.json()["memories"],
        *recalled.json()["memories"],
    ):
        assert answer["occurred_at"] == told


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("occurred_at", value)
            for value in (1_715_601_600, "8 May 2023", "", True, "2023-05-08")
        ),
        *(("occurred_at", f"{day}T12:00:00Z") for day in ("0001-01-01", "9999-12-31")),
        *(("expires_at", value) for value in ("2020-01-01T00:00:00Z", 1, "9999-12-31T12:00:00Z")),
        *(("ttl", value) for value in (0, -1, "60", True, 1e12)),
    ],
)
async def test_what_is_no_moment_is_refused_at_its_place(
    api: Api, field: str, value: object
) -> None:
    memory = await stored(api, "/v1/memories", MEMORY)
    body = {**MEMORY, field: value}
    assert read_places(await api.post("/v1/memories", body)) == [["body", field]]
    url = f"/v1/memories/{memory['memory_id']}?user_id=ada"
    answer = await api.client.patch(url, json={field: value}, headers=JSON)
    assert read_places(answer) == [["body", field]]
    if field != "occurred_at":
        body = {**KNOWLEDGE, field: value}
        assert read_places(await api.post("/v1/knowledge", body)) == [["body", field]]
    assert await api.records() == 1


async def test_an_expired_record_is_404_and_the_metric_counts_it(api: Api) -> None:
    api.driver.name = "expiring"
    memory = await stored(api, "/v1/memories", {**MEMORY, "ttl": 60})
    knowledge = await stored(api, "/v1/knowledge", {**KNOWLEDGE, "ttl": 60})
    created = datetime.fromisoformat(memory["created_at"])
    assert datetime.fromisoformat(memory["expires_at"]) == created + timedelta(seconds=60)
    urls = (
        f"/v1/memories/{memory['memory_id']}?user_id=ada",
        f"/v1/knowledge/{knowledge['knowledge_id']}",
    )
    for url in urls:
        assert (await api.client.get(url)).status_code == 200
    other = await stored(api, "/v1/memories", {**MEMORY, "user_id": "bob", "ttl": 60})
    for record in (memory, knowledge, other):
        await expire(api, record)
    for url in urls:
        read_problem(await api.client.get(url), 404, "not_found")
        answer = await api.client.patch(url, json={"ttl": None}, headers=JSON)
        read_problem(answer, 404, "not_found")
        read_problem(await api.client.delete(url), 404, "not_found")
    forgotten = await api.post("/v1/users/forget", {"user_id": "ada"})
    assert forgotten.json() == {"deleted": 0}
    await stored(api, "/v1/memories", MEMORY)  # it deletes what has expired
    metrics = (await api.client.get("/metrics")).text
    assert dict(SWEPT.findall(metrics))["expiring"] == "1.0"


async def test_a_patch_sets_the_expiry_and_null_takes_it_away(api: Api) -> None:
    memory = await stored(api, "/v1/memories", MEMORY)
    knowledge = await stored(api, "/v1/knowledge", KNOWLEDGE)
    for url in (
        f"/v1/memories/{memory['memory_id']}?user_id=ada",
        f"/v1/knowledge/{knowledge['knowledge_id']}",
    ):
        assert (await changed(api, url, {"expires_at": FAR}))["expires_at"] == FAR
        assert (await changed(api, url, {"content": "tea"}))["expires_at"] == FAR
        assert (await changed(api, url, {"expires_at": None}))["expires_at"] is None
        assert (await changed(api, url, {"ttl": 60}))["expires_at"] is not None
        assert (await changed(api, url, {"ttl": None}))["expires_at"] is None


async def test_a_deployment_lets_memories_expire_by_default(embedder: Embedder) -> None:
    async with serving(embedder, limits=Limits(default_ttl=3_600)) as api:
        memory = await stored(api, "/v1/memories", MEMORY)
        created = datetime.fromisoformat(memory["created_at"])
        assert datetime.fromisoformat(memory["expires_at"]) == created + timedelta(hours=1)
        batch = {"memories": [MEMORY, {**MEMORY, "expires_at": FAR}, {**MEMORY, "ttl": 60}]}
        first, second, third = (await stored(api, "/v1/memories/batch", batch))["memories"]
        assert first["expires_at"] > first["created_at"]
        assert second["expires_at"] == FAR
        assert third["expires_at"] < first["expires_at"]
        url = f"/v1/memories/{memory['memory_id']}?user_id=ada"
        assert (await changed(api, url, {"expires_at": None}))["expires_at"] is None
        assert (await stored(api, "/v1/knowledge", KNOWLEDGE))["expires_at"] is None
