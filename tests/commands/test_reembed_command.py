"""`memory-driver reembed`, as an operator runs it beside a running service."""

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands.running import run_command
from tests.conftest import NewDatabase
from tests.service.service import Service
from tests.tiny_model import make_tiny_model

CONTENTS = [f"{what} number {n}" for n in range(10) for what in ("kettle", "lamp", "basil")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


async def run(
    root: Path, settings: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    around = {"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"], "MEMORY_LOG_LEVEL": "error"}
    return await run_command(root, {**around, **settings}, "reembed", *words)


class Asking:
    """Asks a service again and again, and keeps what it answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answers: list[httpx.Response] = []

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as client:
            while not self._over.is_set():
                body = {"user_id": "ada", "query": "kettle", "top_k": 3}
                self.answers.append(client.post("/v1/memories/recall", json=body))
                stored = {"user_id": "bob", "content": "It came in between."}
                self.answers.append(client.post("/v1/memories", json=stored))
                time.sleep(0.05)


@asynccontextmanager
async def beside(settings: dict[str, str]) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """A service, and a client of it."""
    with Service(settings) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            yield service, client


async def model_of(client: httpx.AsyncClient) -> dict[str, Any]:
    """The model that the service says it serves by."""
    found: dict[str, Any] = (await client.get("/health")).json()["driver"]["facts"]["embedding"]
    return found


async def brought_over(
    settings: dict[str, str], root: Path, tiny: Path, already: str, warned: str
) -> None:
    """Bring a service's records to another model.

    `already` is what the command says the second time, and `warned` what the service logs while it
    is configured with the old model.
    """
    async with beside(settings) as (_, client):
        batch = {"memories": [{"user_id": "ada", "content": each} for each in CONTENTS]}
        assert (await client.post("/v1/memories/batch", json=batch)).status_code == 201
        with Asking(str(client.base_url)) as asking:
            made = await run(root, settings, "--model", str(tiny), "--json")
        assert made.returncode == 0, made.stderr
        assert json.loads(made.stdout)["model"] == str(tiny)
        assert {each.status_code for each in asking.answers} == {200, 201}
        assert (await model_of(client))["dimension"] == 16
        again = await run(root, settings, "--model", str(tiny))
        assert again.returncode == 1
        assert already in again.stderr
        nothing = await run(root, settings, "--call-off")
        assert nothing.returncode == 0
        assert "does not go on" in nothing.stdout
    async with beside(settings) as (service, client):  # still configured with the old one
        assert (await model_of(client))["model"] == str(tiny)
        assert warned in service.output
    async with beside({**settings, "MEMORY_EMBEDDING_MODEL": str(tiny)}) as (service, client):
        assert (await model_of(client))["model"] == str(tiny)
        assert "other_model_in_use" not in service.output


async def test_beside_a_service_that_serves_by_one_model_and_then_by_the_other(
    new_database: NewDatabase, root: Path, tiny: Path
) -> None:
    settings = {"MEMORY_DRIVER": "pgvector", "DATABASE_URL": await new_database()}
    await brought_over(
        settings,
        root,
        tiny,
        already="have the vectors of the model",
        warned=f"set MEMORY_EMBEDDING_MODEL to {tiny}",
    )


async def test_beside_the_embedded_server_of_a_service(
    root: Path, tiny: Path, tmp_path: Path
) -> None:
    settings = {"MEMORY_DRIVER": "pgvector", "MEMORY_DATA_DIR": str(tmp_path)}
    async with beside(settings) as (_, client):
        stored = await client.post("/v1/memories", json={"user_id": "ada", "content": "A kettle."})
        assert stored.status_code == 201
        made = await run(root, settings, "--model", str(tiny))
        assert made.returncode == 0, made.stderr
        assert f"Set MEMORY_EMBEDDING_MODEL={tiny}" in made.stdout
        found = await client.post("/v1/memories/recall", json={"user_id": "ada", "query": "kettle"})
        assert len(found.json()["memories"]) == 1
        assert (await model_of(client))["dimension"] == 16


async def test_a_service_does_it_itself_when_it_is_asked(
    new_database: NewDatabase, root: Path, tiny: Path
) -> None:
    settings = {"MEMORY_DRIVER": "pgvector", "DATABASE_URL": await new_database()}
    async with beside(settings) as (_, client):
        await client.post("/v1/memories", json={"user_id": "ada", "content": "A kettle."})
        refused = await client.post("/v1/admin/reembed", json={"model": "/nowhere"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
        begun = await client.post("/v1/admin/reembed", json={"model": str(tiny)})
        assert begun.status_code == 202, begun.text
        other = await client.post("/v1/admin/reembed", json={"model": "another"})
        assert (other.status_code, other.json()["code"]) == (409, "conflict")
        deadline = time.monotonic() + 120
        while (await model_of(client))["dimension"] != 16:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        found = await client.post("/v1/memories/recall", json={"user_id": "ada", "query": "kettle"})
        assert len(found.json()["memories"]) == 1


async def test_a_service_that_keeps_records_in_its_memory_does_it_when_it_is_asked(
    tiny: Path,
) -> None:
    async with beside({"MEMORY_DRIVER": "inmemory"}) as (service, client):
        batch = {"memories": [{"user_id": "ada", "content": each} for each in CONTENTS]}
        assert (await client.post("/v1/memories/batch", json=batch)).status_code == 201
        body = {"user_id": "ada", "query": "kettle number 3", "top_k": 30}
        before = (await client.post("/v1/memories/recall", json=body)).json()["memories"]
        begun = await client.post("/v1/admin/reembed", json={"model": str(tiny)})
        assert begun.status_code == 202, begun.text
        async with asyncio.timeout(120):
            while '"reembedded"' not in service.output and "reembedded " not in service.output:
                await asyncio.sleep(0.1)
        after = (await client.post("/v1/memories/recall", json=body)).json()["memories"]
        assert {each["memory_id"] for each in after} == {each["memory_id"] for each in before}
        scores = [[each["score"] for each in found] for found in (before, after)]
        assert scores[0] != scores[1]


async def test_it_is_called_off_by_command_and_by_request(
    new_database: NewDatabase, root: Path, tiny: Path
) -> None:
    settings = {"MEMORY_DRIVER": "pgvector", "DATABASE_URL": await new_database()}
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


async def test_what_it_can_not_do_is_told_with_what_can(root: Path) -> None:
    cases = {
        ("--model", "x"): ({"MEMORY_DRIVER": "inmemory"}, "POST /v1/admin/reembed"),
        ("--model", "y"): ({"MEMORY_DRIVER": "automem"}, "memory-driver copy"),
        (): ({"MEMORY_DRIVER": "pgvector"}, "either --model or --call-off"),
        ("--model", "z"): (
            {
                "MEMORY_DRIVER": "safe",
                "MEMORY_DRIVERS__SAFE__TYPE": "failover",
                "MEMORY_DRIVERS__SAFE__INNER": "pgvector,inmemory",
            },
            "--driver: say whose records are meant: inmemory, pgvector",
        ),
    }
    for words, (settings, said) in cases.items():
        refused = await run(root, settings, *words)
        assert refused.returncode == 1
        assert said in refused.stderr
