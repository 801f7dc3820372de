"""`memory-driver reembed` and its route, of records that are not in PostgreSQL."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.test_reembed_command import (
    CONTENTS,
    Asking,
    beside,
    brought_over,
    model_of,
    run,
    tiny,
)
from tests.redis_server import KEEPING, NO_SEARCH, RedisServer, can_search, running

__all__ = ["tiny"]


@pytest.fixture
def search() -> Iterator[RedisServer]:
    if not can_search():
        pytest.skip(NO_SEARCH)
    with running(*KEEPING, search=True) as server:
        yield server


async def test_on_redis_beside_a_service_that_serves_by_one_model_and_then_by_the_other(
    search: RedisServer, root: Path, tiny: Path
) -> None:
    settings = {"MEMORY_DRIVER": "redis", "REDIS_URL": search.url}
    await brought_over(
        settings, root, tiny, already="the records have the vectors of", warned="other_model_in_use"
    )


async def test_on_redis_it_is_called_off_by_command_and_by_request(
    search: RedisServer, root: Path, tiny: Path
) -> None:
    settings = {"MEMORY_DRIVER": "redis", "REDIS_URL": search.url}
    async with beside(settings) as (_, client):
        await client.post("/v1/memories", json={"user_id": "ada", "content": "A kettle."})
        begun = await client.post("/v1/admin/reembed", json={"model": str(tiny)})
        assert begun.status_code == 202, begun.text
        busy = await run(root, settings, "--model", str(tiny))
        assert busy.returncode == 1
        assert "another process" in busy.stderr
        assert (await client.delete("/v1/admin/reembed")).json() == {"called_off": True}
        assert (await client.delete("/v1/admin/reembed")).json() == {"called_off": False}
        assert (await model_of(client))["dimension"] == 384
        found = await client.post("/v1/memories/recall", json={"user_id": "ada", "query": "kettle"})
        assert len(found.json()["memories"]) == 1


async def test_the_records_of_a_process_are_brought_over_by_the_route_alone(
    root: Path, tiny: Path
) -> None:
    settings = {"MEMORY_DRIVER": "inmemory"}
    refused = await run(root, settings, "--model", str(tiny))
    assert refused.returncode == 1
    assert "POST /v1/admin/reembed" in refused.stderr
    async with beside(settings) as (_, client):
        batch = {"memories": [{"user_id": "ada", "content": each} for each in CONTENTS]}
        assert (await client.post("/v1/memories/batch", json=batch)).status_code == 201
        with Asking(str(client.base_url)) as asking:
            begun = await client.post("/v1/admin/reembed", json={"model": str(tiny)})
            assert begun.status_code == 202, begun.text
            deadline = time.monotonic() + 120
            while begun.status_code == 202:  # asked again, it tells how far it is
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
                begun = await client.post("/v1/admin/reembed", json={"model": str(tiny)})
        assert (begun.status_code, begun.json()["code"]) == (422, "invalid_input")
        assert "already" in begun.text
        assert {each.status_code for each in asking.answers} == {200, 201}
        facts = (await client.get("/health")).json()["driver"]["facts"]
        assert facts["memories"] == len(CONTENTS) + len(asking.answers) // 2
