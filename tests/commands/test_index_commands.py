"""`memory-driver index`, as an operator runs it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from app.database import migrations
from app.database.access import reached
from app.database.embedded import EmbeddedPostgres
from app.settings import DatabaseSettings
from tests.conftest import NewDatabase


async def run(
    root: Path, settings: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver index` with these words."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "app", "index", *words],
        cwd=root,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **settings},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_an_index_of_another_kind_is_stale_until_it_is_rebuilt(
    new_database: NewDatabase, root: Path
) -> None:
    settings = {"DATABASE_URL": await new_database(), "DATABASE_INDEX": "hnsw"}
    before = await run(root, settings, "status", "--json")
    assert before.returncode == 3, before.stderr
    assert json.loads(before.stdout)["kind"] == "ivfflat"
    rebuilt = await run(root, settings, "rebuild")
    assert (rebuilt.returncode, rebuilt.stdout) == (0, "The index is hnsw, for 0 rows.\n")
    after = await run(root, settings, "status")
    assert after.returncode == 0
    assert "hnsw" in after.stdout


async def test_what_cannot_be_done_is_told_in_one_line(
    postgres: EmbeddedPostgres, root: Path
) -> None:
    url = postgres.dsn.replace("/memory?", "/postgres?")
    for words, settings, said in (
        (("status",), {"DATABASE_URL": url}, "the schema is not there"),
        (("rebuild", "--kind", "tree"), {"DATABASE_URL": url}, "--kind: must be ivfflat or hnsw"),
        (("status",), {"MEMORY_DATA_DIR": "/nonexistent"}, "has no database"),
    ):
        refused = await run(root, settings, *words)
        assert refused.returncode == 1
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1


async def test_a_command_uses_the_embedded_server_of_a_running_service_or_starts_it(
    tmp_path: Path,
) -> None:
    settings = DatabaseSettings(data_dir=tmp_path)
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    await migrations.upgrade(server.dsn, 3)
    async with reached(settings) as dsn:
        assert dsn == server.dsn
    await server.close()
    async with reached(settings) as dsn:
        assert dsn != server.dsn
