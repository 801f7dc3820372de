"""`memory-driver repair`, as an operator runs it."""

import os
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.journal.journal import Journal
from app.settings import DatabaseSettings, JournalSettings, Limits
from tests.commands.running import run_command
from tests.conftest import NewDatabase


async def run(
    root: Path, settings: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver repair` with these words; drivers are `safe`, `here` and `there`."""
    declared = {
        "MEMORY_DRIVERS__SAFE__TYPE": "failover",
        "MEMORY_DRIVERS__SAFE__INNER": "inmemory",
        "MEMORY_DRIVERS__HERE__TYPE": "pgvector",
        "MEMORY_DRIVERS__THERE__TYPE": "pgvector",
    }
    around = {
        "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
        "MEMORY_EMBEDDING_ENGINE": "onnxruntime",
        "MEMORY_LOG_LEVEL": "error",
    }
    return await run_command(root, {**around, **declared, **settings}, "repair", *words)


async def test_the_target_gets_what_the_source_holds(
    new_database: NewDatabase, embedder: Embedder, root: Path
) -> None:
    here, there = [await new_database() for _ in range(2)]
    settings = {"MEMORY_DRIVERS__HERE__URL": here, "MEMORY_DRIVERS__THERE__URL": there}
    database = DatabaseSettings(url=SecretStr(here))
    async with PgvectorDriver(database, embedder, Limits()) as driver:
        await driver.store("ada", "A kettle.")
    lacking = await run(root, settings, "here", "there", "--dry-run")
    assert (lacking.returncode, lacking.stdout[:15]) == (3, "there lacks 1, "), lacking.stderr
    mended = await run(root, settings, "here", "there")
    assert (mended.returncode, mended.stdout[:12]) == (0, "there got 1,")
    same = await run(root, settings, "here", "there", "--dry-run")
    assert (same.returncode, same.stdout) == (0, "there holds what here holds.\n")


@pytest.mark.parametrize("what", ["embedded server", "journal"])
async def test_what_a_service_has_to_itself_is_told_with_whom_to_ask(
    what: str, tmp_path: Path, root: Path
) -> None:
    server = EmbeddedPostgres(tmp_path)
    journal = Journal(JournalSettings(path=tmp_path / "journal"), "safe")
    settings = {
        "MEMORY_DRIVERS__HERE__DATA_DIR": str(tmp_path),
        "MEMORY_JOURNAL_PATH": str(tmp_path / "journal"),
        "MEMORY_DRIVERS__THERE__URL": "postgresql://nowhere.invalid/memory",
    }
    if what == "journal":
        await journal.open(["inmemory"])
        refused = await run(root, settings, "safe", "inmemory")
        said = f"memory-driver: MEMORY_JOURNAL_PATH: {tmp_path}/journal can't be used (database "
        await journal.close()
    else:
        await server.open()
        refused = await run(root, settings, "here", "inmemory")
        said = f"memory-driver: drivers.here.data_dir: {tmp_path} is in use by another service "
        await server.close()
    assert refused.stderr.startswith(said)
    end = "; if it is the service, ask it instead: POST /v1/admin/repair\n"
    assert refused.stderr.endswith(end)
    assert refused.stderr.count("\n") == 1
    assert (refused.returncode, refused.stdout) == (1, "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"MEMORY_DRIVERS__HERE__URL": "postgresql://ada:hunter2@127.0.0.1:1/memory"},
            "drivers.here.url: PostgreSQL at 127.0.0.1:1 can't be reached (ConnectionRefusedError)",
        ),
        (
            {"MEMORY_DRIVERS__HERE__TYPE": "automem", "AUTOMEM_URL": "http://127.0.0.1:1"},
            "AUTOMEM_URL: AutoMem can't be reached (ConnectError)",
        ),
        (
            {
                "MEMORY_DRIVERS__HERE__TYPE": "automem",
                "MEMORY_DRIVERS__HERE__URL": "http://127.0.0.1:1",
            },
            "drivers.here.url: AutoMem can't be reached (ConnectError)",
        ),
    ],
)
async def test_a_backend_that_is_away_is_told_with_its_setting(
    settings: dict[str, str], said: str, root: Path
) -> None:
    refused = await run(root, settings, "here", "inmemory")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == f"memory-driver: {said}"
    assert "hunter2" not in refused.stderr
