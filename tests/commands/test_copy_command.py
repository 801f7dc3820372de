"""`memory-driver copy`, as an operator runs it."""

import json
import os
import subprocess
from pathlib import Path

from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from tests.commands.running import run_command
from tests.conftest import NewDatabase
from tests.transfer.records import by_place, every_record, hostile_records


async def run(root: Path, here: str, there: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver copy` with these words; the drivers are `here` and `there`."""
    settings = {
        "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
        "MEMORY_EMBEDDING_ENGINE": "onnxruntime",
        "MEMORY_LOG_LEVEL": "error",
        "MEMORY_DRIVERS__HERE__TYPE": "pgvector",
        "MEMORY_DRIVERS__HERE__URL": here,
        "MEMORY_DRIVERS__THERE__TYPE": "pgvector",
        "MEMORY_DRIVERS__THERE__URL": there,
    }
    return await run_command(root, settings, "copy", *words)


def pgvector(url: str, embedder: Embedder) -> PgvectorDriver:
    return PgvectorDriver(DatabaseSettings(url=SecretStr(url)), embedder, Limits())


async def fill(driver: RecordDriver) -> None:
    await driver.import_records(hostile_records())
    await driver.store("ada", "A kettle.")


async def test_a_copy_is_made_verified_and_told(
    new_database: NewDatabase, embedder: Embedder, root: Path, tmp_path: Path
) -> None:
    here, there = [await new_database() for _ in range(2)]
    state = str(tmp_path / "state")
    async with pgvector(here, embedder) as driver:
        await fill(driver)
        records = await every_record(driver)
    lacking = await run(root, here, there, "here", "there", "--dry-run")
    assert lacking.returncode == 3, lacking.stderr
    first, *named = lacking.stdout.splitlines()
    said = f"there lacks {len(records)}, has otherwise 0, has too many 0:"
    assert (first, len(named)) == (said, 20)
    own = await run(root, here, there, "here", "there", "--user", "ada", "--state", state)
    assert own.stdout == (
        "there got 1 records from here, with their vectors.\n"
        "there holds what here holds: 1 records.\n"
    ), own.stderr
    whole = await run(root, here, there, "here", "there", "--state", state, "--json")
    assert whole.returncode == 0, whole.stderr
    assert json.loads(whole.stdout) == {
        "copied": len(records),
        "vectors": True,
        "compared": len(records),
        "missing": 0,
        "different": 0,
        "extra": 0,
        "named": [],
    }
    async with pgvector(there, embedder) as driver:
        assert by_place(await every_record(driver)) == by_place(records)
    same = await run(root, here, there, "here", "there", "--dry-run")
    assert same.stdout == f"there holds what here holds: {len(records)} records.\n"
    assert os.listdir(tmp_path) == []


async def test_what_is_refused_is_told_in_one_line(
    new_database: NewDatabase, root: Path, tmp_path: Path
) -> None:
    here, state = await new_database(), tmp_path / "state"
    refusals = {
        ("here", "here"): "name two different drivers",
        ("here", "there"): "target must share nothing with source",
        ("here", "nowhere"): "Memory driver 'nowhere' not found",
        ("here", "there", "--since", "noon"): "--since is no moment",
    }
    for words, said in refusals.items():
        refused = await run(root, here, here, *words)
        assert (refused.returncode, refused.stdout) == (1, ""), words
        assert refused.stderr.startswith(f"memory-driver: {said}")
        assert refused.stderr.count("\n") == 1
    state.write_text('{"form": 1, "about": {}}')
    there = await new_database()
    other = await run(root, here, there, "here", "there", "--state", str(state))
    assert other.stderr.startswith(f"memory-driver: {state}: it is the state of another copy")
