"""Metrics, and the repair of drivers, over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.core.memory.base import DriverContext
from app.core.memory.manager import MemoryDriverManager
from app.core.memory.records import Kept, Record
from app.core.memory.requests import Keep
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import DriverError
from app.main import create_app
from app.settings import JournalSettings, NamedDriver, Settings


class Second(InMemoryDriver):
    """Refuses what is said to be poison, until it is cured."""

    cured = False

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        if not self.cured and any("poison" in record.content for record in wanted.records):
            raise DriverError
        return await super()._keep(wanted)


ADMIN = {"Authorization": "Bearer operator"}


@pytest.fixture
async def client(embedder: Embedder, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Of a service on two drivers that replicate; one key may administer, one may not."""

    def make(context: DriverContext) -> InMemoryDriver:
        return InMemoryDriver(embedder, context.settings.limits)

    def make_second(context: DriverContext) -> InMemoryDriver:
        return Second(embedder, context.settings.limits)

    MemoryDriverManager.register_driver("mine", make)
    MemoryDriverManager.register_driver("picky", make_second)
    named = {
        "main": NamedDriver(type="cached", inner=("both",)),
        "both": NamedDriver(type="replicated", inner=("first", "second")),
        "first": NamedDriver(type="mine"),
        "second": NamedDriver(type="picky"),
    }
    settings = Settings(
        driver="main",
        named=named,
        journal=JournalSettings(path=tmp_path),
        api_keys=SecretStr("operator;scopes=admin+read+write,agent;scopes=read+write"),
    )
    try:
        app = create_app(MemoryDriverManager(settings))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as one:
                yield one
    finally:
        MemoryDriverManager.reset_cache()


async def repair(client: httpx.AsyncClient, **body: object) -> httpx.Response:
    return await client.post("/v1/admin/repair", json=body, headers=ADMIN)


async def test_the_metrics_tell_how_far_behind_each_driver_is(client: httpx.AsyncClient) -> None:
    body = {"user_id": "ada", "content": "kettle"}
    stored = await client.post("/v1/memories", json=body, headers=ADMIN)
    assert stored.status_code == 201
    metrics = await client.get("/metrics")
    assert metrics.status_code == 200
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'memory_driver_journal_pending{driver="second",wrapper="both"}' in metrics.text
    assert 'memory_driver_journal_oldest_seconds{driver="first",wrapper="both"} 0.0' in metrics.text


async def test_health_without_a_key_tells_the_state_of_every_driver_and_no_figures(
    client: httpx.AsyncClient,
) -> None:
    def facts(driver: Any) -> list[Any]:
        return [driver["facts"], *(each for held in driver["drivers"] for each in facts(held))]

    def states(driver: Any) -> list[Any]:
        held = [states(each) for each in driver["drivers"]]
        return [driver["driver"], driver["status"], driver["detail"], held]

    shown = (await client.get("/health", headers=ADMIN)).json()
    hidden = (await client.get("/health")).json()
    assert all(facts(shown["driver"]))
    assert facts(hidden["driver"]) == [{}] * 4
    assert states(hidden["driver"]) == states(shown["driver"])
    assert hidden.keys() == shown.keys()


async def test_a_repair_tells_what_differed(client: httpx.AsyncClient) -> None:
    health = (await client.get("/health")).json()
    assert [inner["driver"] for inner in health["driver"]["drivers"][0]["drivers"]] == [
        "first",
        "second",
    ]
    same = await repair(client, source="first", target="second", dry_run=True)
    assert same.json() == {"missing": 0, "different": 0, "extra": 0}


async def test_a_repair_ends_what_was_refused_and_what_was_cached(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"user_id": "ada", "content": "poison"}
    assert (await client.post("/v1/memories", json=body, headers=ADMIN)).status_code == 201

    async def pending() -> Any:
        driver = (await client.get("/health", headers=ADMIN)).json()["driver"]
        return driver["drivers"][0]["facts"]["pending"]

    async with asyncio.timeout(20):
        while not (await pending()).get("second", {}).get("refused"):
            await asyncio.sleep(0.05)

    async def recall() -> Any:
        question = {"user_id": "ada"}
        return (await client.post("/v1/memories/recall", json=question, headers=ADMIN)).json()

    assert (await recall())["cached"] is False
    assert (await recall())["cached"] is True
    monkeypatch.setattr(Second, "cured", True)
    mended = await repair(client, source="first", target="second")
    assert mended.json() == {"missing": 0, "different": 0, "extra": 0}  # it got it before
    assert (await recall())["cached"] is False
    async with asyncio.timeout(20):
        while await pending():
            await asyncio.sleep(0.05)


async def test_a_repair_that_fails_half_way_ends_what_was_cached(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def recall() -> Any:
        question = {"user_id": "ada"}
        return (await client.post("/v1/memories/recall", json=question, headers=ADMIN)).json()

    await recall()
    assert (await recall())["cached"] is True

    async def fail(self: object, wanted: object) -> AsyncIterator[Record]:
        raise DriverError
        yield

    monkeypatch.setattr(Second, "_export", fail)
    assert (await repair(client, source="first", target="second")).status_code == 502
    assert (await recall())["cached"] is False


async def test_a_repair_of_a_driver_from_what_it_holds_is_refused(
    client: httpx.AsyncClient,
) -> None:
    held = await repair(client, source="second", target="both")
    assert (held.status_code, held.json()["code"]) == (422, "invalid_input")
    assert "both hold second" in held.json()["detail"]


async def test_a_repair_of_no_two_drivers_is_refused(client: httpx.AsyncClient) -> None:
    unknown = await repair(client, source="first", target="third")
    assert unknown.status_code == 422
    assert "both, first, main, second" in unknown.json()["detail"]
    itself = await repair(client, source="first", target="first")
    assert itself.status_code == 422


async def test_a_repair_needs_the_scope_admin(client: httpx.AsyncClient) -> None:
    body = {"source": "first", "target": "second"}
    agent = {"Authorization": "Bearer agent"}
    refused = await client.post("/v1/admin/repair", json=body, headers=agent)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
