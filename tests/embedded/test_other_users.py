"""No other user of the machine reads or changes what the embedded PostgreSQL keeps."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest

from app.drivers.pgvector import migrations
from app.drivers.pgvector.embedded import accounts, programs, server_user
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.errors import ConfigurationError, InUse
from tests.other_user import as_user, connecting, needs_root, reading, uids

ROLES = (accounts.SERVICE, accounts.ADMINISTRATOR)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "data")
    await server.open()
    yield server
    await server.close()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def status(process: psutil.Process) -> dict[str, str]:
    """What the kernel tells of it."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def opened(folder: Path) -> None:
    """Let everybody pass, who then meets only what the service has closed."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(stat.S_IMODE(parent.stat().st_mode) | 0o011)


@needs_root
async def test_no_other_user_connects_or_reads_a_file(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    opened(tmp_path)
    data = files(tmp_path / "data")
    assert len(data) > 100
    assert len(reading(*data)().splitlines()) == len(data)
    for uid in uids(psutil.Process(server.pid).uids().real):
        for role in ROLES:
            answer = as_user(uid, connecting(server.socket_dir, role))
            assert answer in {"refused", "PermissionError"}, uid
        assert as_user(uid, reading(*data)) == ""
    for role in ROLES:
        assert connecting(server.socket_dir, role)() == "let in"


@needs_root
async def test_the_server_has_an_id_of_its_own_and_no_capability(server: EmbeddedPostgres) -> None:
    main = psutil.Process(server.pid)
    every = [status(main)]
    for process in main.children(recursive=True):
        with suppress(FileNotFoundError, ProcessLookupError):  # a worker may have ended meanwhile
            every.append(status(process))
    assert len(every) > 3
    for told in every:
        real = int(told["Uid"].split()[0])
        assert [told[f"Cap{kind}"] for kind in ("Eff", "Prm", "Inh", "Amb")] == ["0" * 16] * 4
        assert told["NoNewPrivs"] == "1"
        assert told["Groups"].strip() == ""
        assert real not in uids()
        with pytest.raises(KeyError):  # it has no name
            pwd.getpwuid(real)


async def test_the_services_role_is_no_superuser_and_owns_its_tables_alone(
    server: EmbeddedPostgres,
) -> None:
    await migrations.upgrade(server.dsn, 3)
    connection = await asyncpg.connect(server.dsn)
    role = await connection.fetchrow("select * from pg_roles where rolname = current_user")
    owners = await connection.fetch(
        "select distinct tableowner from pg_tables where schemaname = 'public'"
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("copy (select 1) to program 'true'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("select pg_read_file('/etc/passwd')")
    await connection.close()
    assert role is not None
    assert not any(role[f"rol{right}"] for right in ("super", "createrole", "createdb"))
    assert [row["tableowner"] for row in owners] == [accounts.SERVICE]


async def older(data: Path) -> None:
    """A folder as version 0.1.0 leaves it: everybody trusted, one role, which is superuser."""
    server = EmbeddedPostgres(data)
    await server.open()
    await migrations.upgrade(server.admin_dsn, 3)
    admin = await asyncpg.connect(server.admin_dsn)
    await admin.execute(
        "insert into global_knowledge (knowledge_id, category, content, metadata, created_at,"
        " updated_at, embedding)"
        " values (gen_random_uuid(), 'kitchen', 'Lemon.', '{}', now(), now(), '[1, 0, 0]')"
    )
    await admin.execute(f"alter database memory owner to {accounts.ADMINISTRATOR}")
    await admin.execute(f"drop role {accounts.SERVICE}")
    await admin.close()
    await server.close()
    loosen(data)


def loosen(data: Path) -> None:
    """Give the files the rules, owners and modes of that version."""
    cluster = data / "postgresql"
    (cluster / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    if server_user.is_root():
        for path in (cluster, *cluster.rglob("*")):
            os.chown(path, server_user.creator(), server_user.creator(), follow_symlinks=False)
    data.chmod(0o755)
    for name in ("lock", "postgresql.log"):
        (data / name).chmod(0o644)


async def test_the_folder_of_an_older_version_is_brought_over_with_its_records(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    await older(data)
    for _ in range(2):
        server = EmbeddedPostgres(data)
        await server.open()
        connection = await asyncpg.connect(server.dsn)
        assert await connection.fetchval("select current_user") == accounts.SERVICE
        assert await connection.fetchval("select content from global_knowledge") == "Lemon."
        await connection.execute("create table of_a_later_version ()")
        await connection.execute("alter table memories add column later text")
        await connection.execute("alter table memories drop column later")
        await connection.execute("drop table of_a_later_version")
        rules = (data / "postgresql" / "pg_hba.conf").read_text()
        assert rules == "local all all peer map=memory\n"
        if server_user.is_root():
            for uid in uids(psutil.Process(server.pid).uids().real):
                assert as_user(uid, connecting(server.socket_dir, "memory")) != "let in"
                assert as_user(uid, reading(*files(data))) == ""
        await connection.close()
        await server.close()
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for name in ("lock", "postgresql.log"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600


@needs_root
async def test_a_file_of_somebody_elses_in_the_folder_of_an_older_version_stays_theirs(
    tmp_path: Path,
) -> None:
    data, secret = tmp_path / "data", tmp_path / "secret"
    await older(data)
    secret.write_text("of root's")
    os.link(secret, data / "postgresql" / "hard")
    (data / "postgresql" / "soft").symlink_to(secret)
    server = EmbeddedPostgres(data)
    await server.open()
    await server.close()
    assert secret.stat().st_uid == 0


@needs_root
def test_programs_that_only_root_can_reach_are_copied(tmp_path: Path) -> None:
    package = programs.installed().parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for part in package.parent.glob(f"{package.name}*"):
        shutil.copytree(part, closed / part.name)
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from app.drivers.pgvector.embedded import programs\n"
        "from app.drivers.pgvector.embedded.server import EmbeddedPostgres\n"
        "async def life():\n"
        "    server = EmbeddedPostgres(Path(sys.argv[1])); await server.open()\n"
        "    print(programs.installed(), server.pid); await server.close()\n"
        "asyncio.run(life())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(closed / "data")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(closed), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(closed))


async def test_a_lock_of_another_users_is_told_and_ours_is_closed_to_others(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "lock").mkdir()
    with pytest.raises(ConfigurationError, match=f"^MEMORY_DATA_DIR: {data}/lock can't be used"):
        await EmbeddedPostgres(data).open()
    (data / "lock").rmdir()
    (data / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=f"^MEMORY_DATA_DIR: {data}/lock can't be used"):
        await EmbeddedPostgres(data).open()
    assert not (tmp_path / "elsewhere").exists()


@needs_root
async def test_a_lock_that_another_user_has_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    os.chown(tmp_path / "lock", 65_534, 65_534)
    with pytest.raises(ConfigurationError, match="it belongs to the user 65534") as refused:
        await EmbeddedPostgres(tmp_path).open()
    assert not isinstance(refused.value, InUse)
    assert "\n" not in refused.value.reason
