"""`memory-driver index`, as an operator runs it."""

import json
import subprocess
from pathlib import Path

import pytest

from app.drivers.pgvector import migrations
from app.drivers.pgvector.access import reached
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.settings import DatabaseSettings
from tests.commands.running import run_command, run_program
from tests.conftest import NewDatabase


async def run(
    root: Path, settings: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver index` with these words."""
    return await run_command(root, settings, "index", *words)


async def test_an_index_of_another_kind_is_stale_until_it_is_rebuilt(
    new_database: NewDatabase, root: Path
) -> None:
    settings = {"DATABASE_URL": await new_database(), "DATABASE_INDEX": "hnsw"}
    before = await run_program(root, settings, "index", "status", "--json")
    assert (before.returncode, before.stderr) == (3, "")
    assert json.loads(before.stdout)["kind"] == "ivfflat"
    rebuilt = await run(root, settings, "rebuild")
    assert (rebuilt.returncode, rebuilt.stdout) == (0, "The index is hnsw, for 0 rows.\n")
    after = await run(root, settings, "status")
    assert after.returncode == 0
    assert "hnsw" in after.stdout


async def test_what_cannot_be_done_is_told_in_one_line(
    postgres: EmbeddedPostgres, root: Path
) -> None:
    url = postgres.admin_dsn.replace("/memory?", "/postgres?")
    for words, settings, said in (
        (("status",), {"DATABASE_URL": url}, "the schema is not there"),
        (("rebuild", "--kind", "tree"), {"DATABASE_URL": url}, "--kind: must be ivfflat or hnsw"),
        (("status",), {"MEMORY_DATA_DIR": "/nonexistent"}, "has no database"),
    ):
        refused = await run(root, settings, *words)
        assert refused.returncode == 1
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1


NAMED = {
    "MEMORY_DRIVERS__MAIN__TYPE": "failover",
    "MEMORY_DRIVERS__MAIN__INNER": "near,inmemory",
    "MEMORY_DRIVERS__NEAR__TYPE": "scoped",
    "MEMORY_DRIVERS__NEAR__INNER": "here",
    "MEMORY_DRIVERS__NEAR__TENANT": "acme",
    "MEMORY_DRIVERS__HERE__TYPE": "pgvector",
    "MEMORY_DRIVERS__HERE__INDEX": "hnsw",
    "MEMORY_DRIVERS__THERE__TYPE": "pgvector",
}
NOWHERE = "postgresql://ada:hunter2@127.0.0.1:1/memory"


async def test_the_database_is_that_of_the_named_driver_or_of_the_only_one_in_use(
    new_database: NewDatabase, root: Path
) -> None:
    settings = {
        **NAMED,
        "DATABASE_URL": NOWHERE,
        "MEMORY_DRIVERS__HERE__URL": await new_database(),
        "MEMORY_DRIVERS__THERE__URL": await new_database(),
    }
    used = {**settings, "MEMORY_DRIVER": "main"}
    rebuilt = await run(root, used, "rebuild")
    assert (rebuilt.returncode, rebuilt.stdout) == (0, "The index is hnsw, for 0 rows.\n")
    for words, configured, kind in (
        ((), used, "hnsw"),
        (("--driver", "here"), settings, "hnsw"),
        (("--driver", "there"), used, "ivfflat"),
        ((), {"DATABASE_URL": settings["MEMORY_DRIVERS__THERE__URL"]}, "ivfflat"),
    ):
        told = await run(root, configured, "status", "--json", *words)
        assert told.returncode == 0, told.stderr
        assert json.loads(told.stdout)["kind"] == kind
    other = await run(root, used, "rebuild", "--kind", "ivfflat")
    assert "Set drivers.here.index=ivfflat, or /health" in other.stdout
    stale = await run(root, used, "status", "--driver", "here")
    assert "the index is ivfflat, and drivers.here.index is hnsw" in stale.stdout
    assert "run `memory-driver index rebuild --driver here`" in stale.stdout


@pytest.mark.parametrize(
    ("settings", "words", "said"),
    [
        ({"MEMORY_DRIVERS__MAIN__INNER": "here,there"}, (), "--driver: say which driver's d"),
        ({"MEMORY_DRIVER": "inmemory"}, (), "database is meant: here, there, pgvector\n"),
        ({}, ("--driver", "near"), "--driver: 'near' is no driver of pgvector; there are here, t"),
        ({"MEMORY_DRIVERS__NEAR__INNER": "her"}, (), "drivers.near.inner: 'her' not found; did"),
        ({"MEMORY_DRIVERS__NEAR__INNER": "main"}, (), "main → near → main is a cycle"),
        ({"MEMORY_DRIVERS__HERE__URLL": "x"}, (), "drivers.here.urll: pgvector has no such"),
        ({"MEMORY_DRIVERS__HERE__DATA_DIR": "/no"}, (), "drivers.here.data_dir: /no has no data"),
        ({"DATABASE_URL": NOWHERE}, (), "memory-driver: DATABASE_URL: PostgreSQL at 127.0.0.1:1 c"),
    ],
)
async def test_a_database_that_is_not_to_be_had_is_told_with_the_setting_to_change(
    settings: dict[str, str], words: tuple[str, ...], said: str, root: Path
) -> None:
    configured = {**NAMED, "MEMORY_DRIVER": "main", **settings}
    refused = await run(root, configured, "status", *words)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert refused.stderr.count("\n") == 1


async def test_every_command_tells_which_server_can_t_be_reached(root: Path) -> None:
    settings = {**NAMED, "MEMORY_DRIVERS__HERE__URL": NOWHERE}
    for command in (("index", "status"), ("index", "rebuild"), ("words", "rebuild")):
        refused = await run_command(root, settings, *command, "--driver", "here")
        assert (refused.returncode, refused.stderr) == (
            1,
            "memory-driver: drivers.here.url: PostgreSQL at 127.0.0.1:1 can't be reached "
            "(ConnectionRefusedError)\n",
        )


async def test_a_named_drivers_missing_schema_is_told_with_how_to_make_it(
    postgres: EmbeddedPostgres, root: Path
) -> None:
    url = postgres.admin_dsn.replace("/memory?", "/postgres?")
    settings = {**NAMED, "MEMORY_DRIVERS__HERE__URL": url}
    refused = await run(root, settings, "status", "--driver", "here")
    assert refused.stderr == (
        "memory-driver: the schema is not there: run `alembic upgrade head` with "
        "drivers.here.url as DATABASE_URL\n"
    )


async def test_a_command_uses_the_embedded_server_of_a_running_service_or_starts_it(
    tmp_path: Path,
) -> None:
    settings = DatabaseSettings(data_dir=tmp_path)
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    await migrations.upgrade(server.dsn, 3)
    first = server.dsn
    async with reached(settings) as dsn:
        assert dsn == first
    await server.close()
    async with reached(settings) as dsn:
        assert dsn != first
