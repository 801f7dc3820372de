"""AutoMem slow, broken, gone and back; and what health says of it."""

import asyncio
from time import perf_counter
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from structlog.testing import capture_logs

from app.core.memory.base import DriverHealth
from app.core.memory.records import NewMemory
from app.drivers.automem import AutomemDriver
from app.drivers.automem.mapping import Tags
from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    PartlyStored,
)
from app.settings import AutomemSettings, Limits
from tests.conformance.cases import WAYS
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.conftest import OpenAutomem


async def test_no_memories_is_not_said_while_the_database_is_down(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await automem.store("ada", "a copper kettle")
    fake.database_up = False
    for arguments in WAYS:
        with pytest.raises(DriverUnavailable) as raised:
            await automem.recall("ada", **arguments)
        assert "falkor" not in str(raised.value) + raised.value.reason
    with pytest.raises(DriverUnavailable):
        await automem.recall_global_knowledge("kettle")
    with pytest.raises(DriverUnavailable):
        await automem.store("ada", "another kettle")
    fake.database_up = True
    assert len(await automem.recall("ada", query="kettle")) == 1


async def test_losing_and_finding_automem_is_logged_once_each(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    fake.database_up = False
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(DriverUnavailable):
                await automem.recall("ada", query="kettle")
        fake.database_up = True
        for _ in range(3):
            await automem.recall("ada", query="kettle")
    assert [entry["event"] for entry in logs] == ["backend_away", "backend_back"]
    assert "kettle" not in str(logs)
    assert "hunter2" not in str(logs)


async def test_a_post_whose_answer_was_lost_is_stored_once(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    fake.lose_answers = 1
    stored = await automem.store("ada", "a copper kettle")
    assert [method for method, _ in fake.calls] == ["POST", "GET"]
    assert len(fake.graph) == 1
    assert await automem.recall("ada") == [stored]


async def test_a_post_whose_answer_was_lost_by_an_automem_that_is_away_then_is_uncertain(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    away = False

    async def go_away(request: Request) -> Response | None:
        nonlocal away
        if away:
            return JSONResponse({}, 503)
        away = request.method == "POST"
        fake.lose_answers = int(away)
        return None

    fake.before = go_away
    with pytest.raises(ConnectionLost):  # DriverUnavailable would say that it did not happen
        await automem.store("ada", "a copper kettle")
    assert len(fake.graph) == 1


async def test_a_record_that_automem_has_twice_is_one(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await automem.store("ada", "a copper kettle")
    [node] = list(fake.graph.values())
    fake.add(node["content"], node["tags"], metadata=node["metadata"])
    assert await automem.recall("ada") == [stored]
    assert len(await automem.recall("ada", query="kettle")) == 1
    assert await automem.delete(stored.memory_id, "ada") is True
    assert fake.graph == {}


async def test_a_batch_whose_second_half_fails_keeps_none(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(batch=10)
    posts = 0

    async def fail_later(request: Request) -> Response | None:
        nonlocal posts
        posts += request.method == "POST"
        return JSONResponse({}, 400) if posts == 2 and request.method == "POST" else None

    fake.before = fail_later
    batch = [NewMemory(user_id="ada", content=f"kettle {n}") for n in range(20)]
    with pytest.raises(DriverError):
        await automem.store_many(batch)
    assert posts >= 2
    assert fake.graph == {}
    fake.before = None
    assert len(await automem.store_many(batch)) == 20
    assert len(fake.graph) == 20


async def test_a_batch_that_cannot_be_taken_back_says_what_stayed(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    posts = 0

    async def fail_later(request: Request) -> Response | None:
        nonlocal posts
        posts += request.method == "POST"
        return JSONResponse({}, 400) if posts >= 2 else None

    fake.before = fail_later
    with pytest.raises(PartlyStored, match="first 500 of 520") as raised:
        await automem.store_many([NewMemory(user_id="ada", content=f"k {n}") for n in range(520)])
    assert raised.value.uncertain  # a wrapping driver must not take it for undone


async def test_a_call_past_its_deadline_ends(open_automem: OpenAutomem, fake: FakeAutomem) -> None:
    automem = await open_automem(timeout=0.3, retries=3)

    async def stall(request: Request) -> Response | None:
        await asyncio.sleep(30)
        return None

    fake.before = stall
    for call in (automem.recall("ada"), automem.recall("ada", query="kettle")):
        started = perf_counter()
        with pytest.raises(DriverTimeout):
            await call
        assert perf_counter() - started < 5
    with pytest.raises(DriverTimeout):
        await automem.store("ada", "kettle")
    fake.before = None
    assert await automem.recall("ada") == []


async def health(automem: AutomemDriver) -> DriverHealth:
    answer = await automem.health_check()
    assert "hunter2" not in str(answer)
    return answer


async def test_health_has_three_values(automem: AutomemDriver, fake: FakeAutomem) -> None:
    assert (await health(automem)).status == "ok"
    assert (await health(automem)).facts["memory_count"] == 0
    fake.has_vectors = False
    assert (await health(automem)).status == "degraded"
    fake.database_up = False
    assert (await health(automem)).status == "unavailable"


@pytest.mark.parametrize("changed", [{"falkordb": "disconnected"}, {"memory_count": True}, {}])
async def test_a_health_that_is_not_certain_is_unavailable(
    automem: AutomemDriver, fake: FakeAutomem, changed: dict[str, Any]
) -> None:
    said = {"falkordb": "connected", "qdrant": "connected", "memory_count": 1, **changed}
    if not changed:
        said["memory_count"] = None

    async def say(request: Request) -> Response | None:
        return JSONResponse(said) if request.url.path == "/health" else None

    fake.before = say
    assert (await health(automem)).status == "unavailable"


@pytest.mark.parametrize(
    ("options", "setting"), [((), "AUTOMEM_API_TOKEN"), (("api_token",), "drivers.a.api_token")]
)
async def test_a_refused_token_is_unavailable_and_stops_the_start(
    fake: FakeAutomem, options: tuple[str, ...], setting: str
) -> None:
    settings = AutomemSettings(url=fake.url, api_token=SecretStr("wrong-hunter2"))
    settings = settings.of_driver("a", options)
    automem = AutomemDriver(settings, Limits())
    with pytest.raises(ConfigurationError, match=f"^{setting}: AutoMem refuses"):
        await automem.open()
    answer = await health(automem)
    assert (answer.status, answer.detail) == ("unavailable", "AutoMem refuses the token")
    with pytest.raises(ConfigurationError):
        await automem.recall("ada", query="kettle")
    await automem.close()


async def test_a_server_that_is_not_there_is_unavailable_until_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.drivers.automem.client.REPEATS", 0)
    settings = AutomemSettings(url="http://127.0.0.1:1")
    automem = AutomemDriver(settings, Limits())
    for _ in range(2):
        with pytest.raises(DriverUnavailable):
            await automem.open()
    assert (await health(automem)).status == "unavailable"
    await automem.close()
    await automem.close()


async def test_health_answers_within_seconds(automem: AutomemDriver, fake: FakeAutomem) -> None:
    async def stall(request: Request) -> Response | None:
        await asyncio.sleep(30)
        return None

    fake.before = stall
    started = perf_counter()
    assert (await health(automem)).status == "unavailable"
    assert perf_counter() - started < 5


async def test_all_that_was_stored_can_be_found_by_one_tag(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await automem.store("ada", "kettle")
    await automem.store_global_knowledge("kettle", "kitchen")
    assert all(Tags("").everything in node["tags"] for node in fake.graph.values())


async def test_an_import_while_automem_is_down_fails_as_every_write_does(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    driver = await open_automem(retries=0)
    record = await driver.store("ada", "A jar.")
    fake.database_up = False
    with pytest.raises(DriverUnavailable):
        await driver.import_records([record])
