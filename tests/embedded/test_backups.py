"""A backup of the embedded server is all of one moment; a restore is all of it, or nothing."""

import asyncio
import json
import os
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.backups.backup import back_up
from app.drivers.pgvector.backups.files import sha256
from app.embedding import Embedder
from app.errors import ConfigurationError, DriverUnavailable
from app.settings import DatabaseSettings
from tests.commands.running import run_command
from tests.embedded.backups import (
    backed_up,
    blocked,
    command,
    contents,
    driver_on,
    fill,
    records,
    refused,
    restored,
)
from tests.other_user import needs_root


@dataclass(frozen=True)
class Source:
    """A server that is open, with records, and a backup of them."""

    driver: PgvectorDriver
    data: Path
    backup: Path


@pytest.fixture(scope="module")
async def source(
    embedder: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Source]:
    folder = tmp_path_factory.mktemp("source")
    async with driver_on(folder / "data", embedder) as driver:
        await fill(driver)
        backup = await backed_up(folder / "data", folder / "backups")
        yield Source(driver, folder / "data", backup)


def copied(source: Source, folder: Path) -> Path:
    """A copy of its backup, to be spoiled."""
    return Path(shutil.copytree(source.backup, folder / source.backup.name))


def changed(backup: Path, **values: object) -> None:
    """Let the backup say something else about itself."""
    path = backup / "backup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


async def test_what_is_restored_is_what_there_was(
    source: Source, embedder: Embedder, tmp_path: Path
) -> None:
    done = await command(tmp_path / "data", "restore", str(source.backup.parent))
    assert done.stderr == ""
    there = await records(source.driver)
    knowledge = 2
    assert done.stdout.startswith(
        f"Restored {source.backup} to {tmp_path}/data: "
        f"{len(there) - knowledge} memories, {knowledge} pieces of knowledge, "
    )
    assert sorted(os.listdir(tmp_path / "data")) == ["lock", "postgresql"]
    async with driver_on(tmp_path / "data", embedder) as driver:
        assert await records(driver) == there
        for query in ("copper", "What is a kettle made of?"):
            answer = await driver.recall("ada", query=query)
            assert answer == await source.driver.recall("ada", query=query)
        health = await driver.health_check()
        assert (health.status, health.detail) == ("ok", None)
        await driver.store("ada", "It is as writable as before.")


async def test_a_backup_amid_writes_is_of_one_moment(embedder: Embedder, tmp_path: Path) -> None:
    kept = 5
    pieces = 4
    stored = 0
    over = asyncio.Event()

    async def write(driver: PgvectorDriver) -> None:
        nonlocal stored
        ids: list[str] = []
        while not over.is_set():
            ids.append((await driver.store("ada", str(stored))).memory_id)
            if stored >= kept:
                await driver.delete(ids[stored - kept], "ada")
            version = f"Version {stored}"
            await driver.put_document("doc", pieces=[version] * pieces, category="x")
            stored += 1

    async with driver_on(tmp_path / "data", embedder) as driver:
        writing = asyncio.create_task(write(driver))
        while stored < 2 * kept:
            await asyncio.sleep(0.01)
        before = stored
        backup = await backed_up(tmp_path / "data", tmp_path / "backups")
        over.set()
        await writing
    await restored(backup, tmp_path / "new")
    async with driver_on(tmp_path / "new", embedder) as driver:
        there = sorted(map(int, await contents(driver, "ada")))
        document = await driver.list_knowledge(doc_id="doc")
    newest = there[-1]
    assert before - 1 <= newest <= stored
    assert there in (
        list(range(newest - kept + 1, newest + 1)),
        list(range(newest - kept, newest + 1)),  # between a store and a delete
    )
    versions = [one.content for one in document.knowledge]
    assert versions in ([f"Version {n}"] * pieces for n in (newest - 1, newest))


async def test_the_newest_backup_is_restored_unless_one_is_named(
    embedder: Embedder, tmp_path: Path
) -> None:
    backups: list[Path] = []
    async with driver_on(tmp_path / "data", embedder) as driver:
        for text in ("first", "second"):
            await driver.store("ada", text)
            backups.append(await backed_up(tmp_path / "data", tmp_path / "backups"))
    backups.append(await backed_up(tmp_path / "data", tmp_path / "backups"))  # no service runs
    wanted = {
        tmp_path / "backups": {"first", "second"},
        backups[0]: {"first"},
        backups[2]: {"first", "second"},
    }
    for n, (folder, texts) in enumerate(wanted.items()):
        data = tmp_path / f"restored {n}"
        await restored(folder, data)
        async with driver_on(data, embedder) as driver:
            assert await contents(driver, "ada") == texts


async def test_only_its_user_can_read_a_backup(source: Source) -> None:
    for path in (source.backup.parent, *source.backup.parent.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def damaged(backup: Path) -> None:
    with (backup / "database.dump").open("r+b") as file:
        file.seek(1_000)
        file.write(b"x")


def cut(backup: Path) -> None:
    os.truncate(backup / "database.dump", 1_000)


def unfinished(backup: Path) -> None:
    (backup / "backup.json").unlink()


def no_json(backup: Path) -> None:
    (backup / "backup.json").write_text("{")


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a dump that was changed": (damaged, "is damaged: database.dump is not what was written"),
    "a dump that was cut": (cut, "is damaged: database.dump is not what was written"),
    "no manifest": (unfinished, "has no finished backup"),
    "a manifest that is none": (
        no_json,
        "is damaged: backup.json is none",
    ),
    "a newer version's": (
        lambda backup: changed(backup, format=2, service="9.1"),
        "is of another version of the service: restore it with 9.1",
    ),
    "of a newer PostgreSQL": (
        lambda backup: changed(backup, postgresql="99.1"),
        "is of PostgreSQL 99.1, and ",
    ),
    "of other rows": (
        lambda backup: changed(backup, tables={}),
        "can't be restored: the table public.alembic_version has other rows than the backup saw",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
async def test_a_backup_that_is_not_whole_is_refused_and_nothing_is_made(
    source: Source, tmp_path: Path, what: str
) -> None:
    spoil, said = SPOILED[what]
    backup = copied(source, tmp_path)
    spoil(backup)
    assert (await refused(tmp_path / "data", "restore", str(backup))).startswith(f"{backup} {said}")
    assert {path.name for path in (tmp_path / "data").glob("*")} <= {"lock"}


async def test_a_dump_that_postgresql_can_not_restore_is_refused_and_nothing_is_made(
    source: Source, tmp_path: Path
) -> None:
    backup = copied(source, tmp_path)
    cut(backup)
    changed(backup, sha256=sha256(backup / "database.dump"))
    said = await refused(tmp_path / "data", "restore", str(backup))
    assert said.startswith(f"{backup} can't be restored: pg_restore: error: ")
    assert os.listdir(tmp_path / "data") == ["lock"]


async def test_a_folder_with_a_database_is_never_restored_over(
    source: Source, embedder: Embedder, tmp_path: Path
) -> None:
    in_use = await refused(source.data, "restore", str(source.backup))
    assert in_use == f"MEMORY_DATA_DIR: {source.data} is in use by another service process"
    async with driver_on(tmp_path, embedder) as driver:
        await driver.store("bob", "kept")
    said = await refused(tmp_path, "restore", str(source.backup))
    assert said == (
        f"MEMORY_DATA_DIR: {tmp_path} has a database: move {tmp_path}/postgresql away, or choose "
        "another folder"
    )
    async with driver_on(tmp_path, embedder) as driver:
        assert await contents(driver, "bob") == {"kept"}


async def test_what_can_not_be_backed_up_or_restored_is_told(
    source: Source, tmp_path: Path
) -> None:
    data, folder = tmp_path / "data", tmp_path / "backups"
    assert (await refused(data, "backup", str(folder))).endswith(f"{data} has no database")
    assert not data.exists()
    inside = source.data / "postgresql" / "backups"
    said = await refused(source.data, "backup", str(inside))
    assert said == f"{inside} is in the folder of the database: choose another"
    (tmp_path / "file").touch()
    said = await refused(source.data, "backup", str(tmp_path / "file"))
    assert said == f"{tmp_path}/file can't be used (File exists)"
    said = await refused(data, "restore", str(tmp_path / "missing"))
    assert said == f"{tmp_path}/missing can't be used (No such file or directory)"
    assert await refused(data, "restore", str(folder)) == f"{folder} has no finished backup"


@pytest.mark.parametrize("word", ["backup", "restore"])
async def test_a_server_of_your_own_has_its_own_backups(
    word: str, tmp_path: Path, root: Path
) -> None:
    own = {"MEMORY_DRIVER": "pgvector", "DATABASE_URL": "postgresql://nowhere.invalid/memory"}
    done = await run_command(root, own, word, str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("memory-driver: DATABASE_URL is set, and this ")


async def test_a_database_that_stops_amid_a_backup_leaves_none(
    embedder: Embedder, tmp_path: Path
) -> None:
    async with driver_on(tmp_path / "data", embedder) as driver:
        await driver.store("ada", "kettle")
        async with blocked(driver.connections.dsn) as waits:
            backup = asyncio.create_task(
                back_up(DatabaseSettings(data_dir=tmp_path / "data"), tmp_path / "backups")
            )
            await waits()
            await driver.close()
            with pytest.raises(DriverUnavailable) as failed:
                await backup
    assert failed.value.reason.startswith("MEMORY_DATA_DIR: the backup was not finished: ")
    assert os.listdir(tmp_path / "backups") == ["lock"]
    await backed_up(tmp_path / "data", tmp_path / "backups")


async def test_two_backups_into_one_folder_do_not_meet(source: Source, tmp_path: Path) -> None:
    async with blocked(source.driver.connections.dsn) as waits:
        first = asyncio.create_task(
            back_up(DatabaseSettings(data_dir=source.data), tmp_path / "backups")
        )
        await waits()
        said = await refused(source.data, "backup", str(tmp_path / "backups"))
        assert said == f"another backup into {tmp_path}/backups is under way"
    made, _ = await first
    assert sorted(os.listdir(tmp_path / "backups")) == [made.name, "lock"]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 16 kB."""
    point = tmp_path / "small"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(point)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no program `mount`")
    if done.returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield point
    subprocess.run(["umount", str(point)], check=True)


@needs_root
async def test_a_disk_that_is_full_leaves_no_backup(source: Source, small: Path) -> None:
    said = await refused(source.data, "backup", str(small))
    assert said.endswith(" can't be used (No space left on device)")
    assert os.listdir(small) == ["lock"]


async def test_a_start_on_a_folder_whose_restore_was_interrupted_is_refused(
    source: Source, embedder: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "postgresql.restoring").mkdir()
    with pytest.raises(ConfigurationError) as failed:
        async with driver_on(tmp_path, embedder):
            pass
    assert failed.value.reason == (
        f"MEMORY_DATA_DIR: {tmp_path} waits for a restore that was interrupted: run "
        f"`memory-driver restore DIR` again, or delete {tmp_path}/postgresql.restoring to begin "
        "with an empty database"
    )
    await restored(source.backup, tmp_path)
    async with driver_on(tmp_path, embedder) as driver:
        assert await records(driver) == await records(source.driver)
