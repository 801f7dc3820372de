"""`memory-driver journal`, as an operator runs it."""

import asyncio
import re
import subprocess
from pathlib import Path
from random import Random

import asyncpg
import pytest
from pydantic import SecretStr

from app.settings import JournalSettings, Limits, ReplicatedSettings
from app.wrappers.replicated import ReplicatedDriver
from tests.commands.running import run_command, run_program
from tests.conftest import NewDatabase
from tests.wrappers.flaky import FlakyDriver, OneVector, settled

HOLDS = {
    "MEMORY_DRIVER": "main",
    "MEMORY_DRIVERS__MAIN__TYPE": "replicated",
    "MEMORY_DRIVERS__MAIN__INNER": "first,third",
    "MEMORY_DRIVERS__FIRST__TYPE": "inmemory",
    "MEMORY_DRIVERS__THIRD__TYPE": "inmemory",
}


async def run(
    root: Path, settings: dict[str, str], *words: str, said: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver` with these words, and say that to what it asks."""
    return await run_command(root, {**HOLDS, **settings}, *words, said=said)


@pytest.fixture(params=["file", "shared"])
async def settings(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: NewDatabase
) -> dict[str, str]:
    """Where the journal is."""
    if request.param == "shared":
        return {"MEMORY_JOURNAL_URL": await new_database()}
    return {"MEMORY_JOURNAL_PATH": str(tmp_path / "journal")}


def replicated(
    settings: dict[str, str], drivers: list[FlakyDriver], name: str = "main"
) -> ReplicatedDriver:
    url = settings.get("MEMORY_JOURNAL_URL")
    journal = JournalSettings(
        url=SecretStr(url) if url else None,
        path=Path(settings.get("MEMORY_JOURNAL_PATH", "unused")),
    )
    return ReplicatedDriver(
        drivers, ReplicatedSettings(timeout=1), journal, OneVector(), Limits(), name
    )


def inner(*names: str) -> list[FlakyDriver]:
    return [FlakyDriver(name, Random(1), delay=0.001) for name in names]


async def leave_waiting(driver: ReplicatedDriver, drivers: list[FlakyDriver]) -> None:
    """Three writes wait for the second driver: two stores, and a deletion of a user."""
    async with driver:
        drivers[1].away = True
        await driver.store("ada", "A jar.")
        await driver.delete_user("ada")
        await driver.store("ada", "A lid.")
        async with asyncio.timeout(10):
            while len(drivers[0].kept) != 1 or set(await driver.members.journal.lag()) != {
                "second"
            }:
                await asyncio.sleep(0.02)


async def test_what_waits_for_a_renamed_driver_is_shown_and_goes_to_its_new_name(
    settings: dict[str, str], root: Path
) -> None:
    drivers = inner("first", "second")
    empty = await run(root, settings, "journal", "show")
    assert (empty.returncode, empty.stdout) == (0, "main: nothing waits\n")
    await leave_waiting(replicated(settings, drivers), drivers)
    await leave_waiting(replicated(settings, others := inner("b", "second"), "old"), others)

    started = await run(root, settings, "serve")
    assert started.returncode == 1
    last = started.stderr.splitlines()[-1]
    assert last.startswith("memory-driver: drivers.main.inner: 3 writes wait for 'second', which")
    assert "Traceback" not in started.stderr
    shown = await run(root, settings, "journal", "show")
    assert shown.returncode == 0, shown.stderr
    assert re.sub(r"\d+:\d\d:\d\d", "T", shown.stdout) == (
        "main: 3 writes wait for 'second', the oldest for T; 'second' is not held any more\n"
        "old: 3 writes wait for 'second', the oldest for T; "
        "drivers.old is not configured any more\n"
    )

    renamed = await run(root, settings, "journal", "rename", "main", "second", "third")
    assert (renamed.returncode, renamed.stdout) == (0, "3 writes wait for 'third' now.\n")
    again = await run(root, settings, "journal", "rename", "main", "second", "third")
    assert (again.returncode, again.stdout) == (0, "Nothing waits for 'second'.\n")
    drivers[1].name, drivers[1].away = "third", False
    async with replicated(settings, drivers) as driver:
        await settled(driver)
    assert drivers[0].kept == drivers[1].kept
    assert len(drivers[0].kept) == 1


async def test_what_waits_is_given_up_when_that_is_confirmed(
    settings: dict[str, str], root: Path
) -> None:
    drivers = inner("first", "second")
    await leave_waiting(replicated(settings, drivers), drivers)
    words = ("journal", "drop", "main", "second")
    for said in ("n\n", ""):
        kept = await run(root, settings, *words, said=said)
        assert kept.returncode == 1
        assert "3 writes wait for 'second', which will never get them. Go on?" in kept.stdout
    gone = await run(root, settings, *words, said="y\n")
    assert gone.returncode == 0, gone.stderr
    assert gone.stdout.endswith("Given up: 3.\n")
    again = await run(root, settings, *words, "--yes")
    assert (again.returncode, again.stdout) == (0, "Nothing waits for 'second'.\n")
    async with replicated(settings, [drivers[0], *inner("third")]) as driver:
        assert await driver.members.journal.count() == 0


async def test_names_that_can_t_be_meant_are_refused(settings: dict[str, str], root: Path) -> None:
    for words, said in (
        (("main", "second", "fourth"), "drivers.main.inner: 'fourth' is not held"),
        (("nowhere", "second", "third"), "'nowhere' is no driver with a journal; there are main"),
        (("main", "first", "third"), "drivers.main.inner: 'first' is still held: take it out"),
    ):
        refused = await run(root, settings, "journal", "rename", *words)
        assert refused.returncode == 1
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1


async def test_only_what_has_a_journal_can_be_given_up(
    settings: dict[str, str], root: Path
) -> None:
    drivers = inner("first", "second")
    await leave_waiting(replicated(settings, drivers, "old"), drivers)
    for name in ("nowhere", "first"):
        refused = await run(root, settings, "journal", "drop", name, "second", "--yes")
        assert (refused.returncode, refused.stderr) == (
            1,
            f"memory-driver: '{name}' is no driver with a journal; there are main, old\n",
        )
    gone = await run(root, settings, "journal", "drop", "old", "second", "--yes")
    assert (gone.returncode, gone.stdout) == (0, "Given up: 3.\n"), gone.stderr


async def test_a_path_that_is_no_folder_is_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = {**HOLDS, "MEMORY_JOURNAL_PATH": f"{tmp_path}/file"}
    refused = await run_program(root, settings, "journal", "show")
    assert (refused.returncode, refused.stdout, refused.stderr) == (
        1,
        "",
        f"memory-driver: MEMORY_JOURNAL_PATH: {tmp_path}/file can't be read as a folder "
        "(Not a directory)\n",
    )


async def test_one_file_that_can_t_be_read_hides_no_other(tmp_path: Path, root: Path) -> None:
    settings = {"MEMORY_JOURNAL_PATH": str(tmp_path)}
    drivers = inner("first", "second")
    await leave_waiting(replicated(settings, drivers, "old"), drivers)
    (tmp_path / "main.sqlite").write_text("not a database" * 100)
    shown = await run(root, settings, "journal", "show")
    assert shown.returncode == 1
    assert shown.stdout.startswith("old: 3 writes wait for 'second'")
    assert shown.stdout.count("\n") == 1
    assert shown.stderr == (
        f"memory-driver: MEMORY_JOURNAL_PATH: {tmp_path}/main.sqlite: file is not a database\n"
    )


async def test_a_file_that_a_service_has_open_is_left_alone(tmp_path: Path, root: Path) -> None:
    settings = {"MEMORY_JOURNAL_PATH": str(tmp_path)}
    drivers = inner("first", "third")
    async with replicated(settings, drivers) as driver:
        for words in (("show",), ("rename", "main", "x", "third"), ("drop", "main", "x")):
            refused = await run(root, settings, "journal", *words)
            assert refused.returncode == 1
            assert "main.sqlite: a service has it open: stop it first" in refused.stderr
            assert refused.stderr.count("\n") == 1
        await driver.store("ada", "A jar.")
        await settled(driver)


async def test_a_shared_journal_is_changed_while_a_service_runs(
    new_database: NewDatabase, root: Path
) -> None:
    settings = {"MEMORY_JOURNAL_URL": await new_database()}
    first, third, second = inner("first", "third", "second")
    async with replicated(settings, [first, third]) as driver:
        await leave_waiting(replicated(settings, [first, second]), [first, second])
        shown = await run(root, settings, "journal", "show")
        assert "main: 3 writes wait for 'second'" in shown.stdout
        moved = await run(root, settings, "journal", "rename", "main", "second", "third")
        assert moved.stdout == "3 writes wait for 'third' now.\n", moved.stderr
        await settled(driver)
        assert first.kept == third.kept
        third.away = True
        await driver.store("ada", "A cup.")
        gone = await run(root, settings, "journal", "drop", "main", "third", "--yes")
        assert gone.stdout == "Given up: 1.\n", gone.stderr
        assert (await driver.health_check()).facts["pending"] == {}


async def test_nothing_is_made_where_there_is_no_journal(
    tmp_path: Path, new_database: NewDatabase, root: Path
) -> None:
    url = await new_database()
    for settings in ({"MEMORY_JOURNAL_PATH": str(tmp_path / "x")}, {"MEMORY_JOURNAL_URL": url}):
        for words, said in (
            (("show",), "main: nothing waits\n"),
            (("rename", "main", "x", "third"), "Nothing waits for 'x'.\n"),
            (("drop", "main", "x"), "Nothing waits for 'x'.\n"),
        ):
            told = await run(root, settings, "journal", *words)
            assert (told.returncode, told.stdout) == (0, said), told.stderr
    assert not (tmp_path / "x").exists()
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("select to_regclass('journal_entries')") is None
    await connection.close()
    (tmp_path / "main.sqlite").write_text("not a database" * 100)
    refused = await run(root, {"MEMORY_JOURNAL_PATH": str(tmp_path)}, "journal", "show")
    assert refused.returncode == 1
    assert "main.sqlite: file is not a database" in refused.stderr
    away = {"MEMORY_JOURNAL_URL": "postgresql://memory:hunter2@127.0.0.1:1/journal"}
    refused = await run(root, away, "journal", "show")
    assert refused.returncode == 1
    assert refused.stderr == (
        "memory-driver: MEMORY_JOURNAL_URL: PostgreSQL at 127.0.0.1:1 can't be reached "
        "(ConnectionRefusedError)\n"
    )
    nobody = {"MEMORY_JOURNAL_URL": url.replace("memory@", "nobody_here@")}
    refused = await run(root, nobody, "journal", "show")
    assert refused.returncode == 1
    assert refused.stderr.startswith("memory-driver: MEMORY_JOURNAL_URL: PostgreSQL does not let")
    assert refused.stderr.count("\n") == 1
