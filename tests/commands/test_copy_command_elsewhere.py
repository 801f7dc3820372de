"""`memory-driver copy` between PostgreSQL and backends that are asked over HTTP."""

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.embedding import Embedder
from tests.commands.running import run_command
from tests.commands.test_copy_command import fill, pgvector
from tests.conftest import NewDatabase
from tests.drivers import automem_fake, pinecone_fake, weaviate_fake
from tests.transfer.records import by_place, every_record


@pytest.fixture(params=["automem", "pinecone", "weaviate"])
async def elsewhere(
    request: pytest.FixtureRequest, embedder: Embedder
) -> AsyncIterator[dict[str, str]]:
    """The options of a driver on a backend of that kind, which is empty."""
    async with AsyncExitStack() as stack:
        if request.param == "automem":
            automem = await stack.enter_async_context(automem_fake.running(embedder))
            own = {"URL": automem.url, "API_TOKEN": automem_fake.TOKEN, "TAG_SECRET": "secret" * 6}
        elif request.param == "pinecone":
            pinecone = await stack.enter_async_context(pinecone_fake.running(embedder.dimension))
            own = {"HOST": pinecone.url, "API_KEY": pinecone_fake.KEY}
        else:
            weaviate = await stack.enter_async_context(weaviate_fake.running())
            own = {"URL": weaviate.url, "API_KEY": weaviate_fake.KEY}
        yield {"TYPE": request.param, **own}


async def test_a_copy_there_and_one_back_hold_the_same(
    new_database: NewDatabase,
    embedder: Embedder,
    root: Path,
    tmp_path: Path,
    elsewhere: dict[str, str],
) -> None:
    urls = [await new_database() for _ in range(2)]
    named = {
        "here": {"TYPE": "pgvector", "URL": urls[0]},
        "there": elsewhere,
        "back": {"TYPE": "pgvector", "URL": urls[1]},
    }
    settings = {
        f"MEMORY_DRIVERS__{name.upper()}__{option}": value
        for name, options in named.items()
        for option, value in options.items()
    }
    settings |= {"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"], "MEMORY_LOG_LEVEL": "error"}

    async def copy(*words: str) -> subprocess.CompletedProcess[str]:
        return await run_command(root, settings, "copy", *words, "--state", str(tmp_path / "state"))

    async with pgvector(urls[0], embedder) as driver:
        await fill(driver)
        records = await every_record(driver)
    for source, target in (("here", "there"), ("there", "back")):
        made = await copy(source, target, "--json")
        assert made.returncode == 0, made.stdout + made.stderr
        told = json.loads(made.stdout)
        assert (told["copied"], told["compared"], told["vectors"]) == (len(records),) * 2 + (False,)
    async with pgvector(urls[1], embedder) as driver:
        assert by_place(await every_record(driver)) == by_place(records)
    same = await copy("here", "back", "--dry-run")
    assert same.stdout == f"back holds what here holds: {len(records)} records.\n"
    assert os.listdir(tmp_path) == []
