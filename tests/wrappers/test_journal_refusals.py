"""A journal that can't be: refused at the start in one line, waited for while the service runs."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from app.drivers.pgvector.connecting import connect
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.errors import ConfigurationError, JournalUnavailable
from app.journal.journal import Journal
from app.settings import DatabaseSettings, JournalSettings
from tests.conftest import database_url

PASSWORD = "hunter2"  # noqa: S105 - to be looked for in what is told


def journal(url: str) -> Journal:
    return Journal(JournalSettings(url=SecretStr(url), timeout=5), "main")


async def refusal(url: str) -> str:
    """What the start says, without a password."""
    with pytest.raises(ConfigurationError) as refused:
        await journal(url).open(["first"])
    said = refused.value.reason
    assert "\n" not in said
    assert PASSWORD not in said
    assert said.startswith("MEMORY_JOURNAL_URL: ")
    return said


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL that asks the role `journal` for its password, and nobody else."""
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    rules = tmp_path / "postgresql" / "pg_hba.conf"
    rules.write_text(f"local all journal scram-sha-256\n{rules.read_text()}")
    admin = await asyncpg.connect(server.admin_dsn)
    await admin.execute(f"create role journal login password '{PASSWORD}'")
    await admin.execute("create database journal owner journal")
    await admin.execute("select pg_reload_conf()")
    await admin.close()
    yield server
    await server.close()


def url_of(server: EmbeddedPostgres, password: str) -> str:
    return database_url(server, "journal").replace("memory@", f"journal:{password}@")


async def test_a_role_or_a_database_that_is_not_there_is_refused(
    postgres: EmbeddedPostgres,
) -> None:
    nobody = postgres.admin_dsn.replace("memory@", f"nobody_of_that_name:{PASSWORD}@")
    assert "does not let this user in" in await refusal(nobody)
    assert "no such database" in await refusal(database_url(postgres, "never_made"))


async def test_a_role_that_may_not_make_tables_is_refused(postgres: EmbeddedPostgres) -> None:
    admin = await asyncpg.connect(postgres.admin_dsn)
    await admin.execute("create role only_reads login")
    await admin.execute("create database of_another")
    url = database_url(postgres, "of_another").replace("memory@", f"only_reads:{PASSWORD}@")
    assert "may not make tables" in await refusal(url)
    await admin.execute("drop database of_another with (force)")
    await admin.execute("drop role only_reads")
    await admin.close()


async def test_a_url_that_the_client_does_not_understand_is_refused(
    postgres: EmbeddedPostgres,
) -> None:
    said = await refusal(f"postgresql://u:{PASSWORD}@localhost/d?sslmode=sometimes")
    assert "sslmode" in said


@pytest.mark.parametrize("option", ["foo=bar", "statement_timeout=soon", "shared_buffers=1GB"])
async def test_an_option_that_the_server_does_not_take_is_refused(
    postgres: EmbeddedPostgres, option: str
) -> None:
    name = option.partition("=")[0]
    url = f"{postgres.admin_dsn.replace('memory@', f'memory:{PASSWORD}@')}&{option}"
    assert f"PostgreSQL does not take the option {name} (" in await refusal(url)
    with pytest.raises(ConfigurationError) as refused:
        await connect(DatabaseSettings(url=SecretStr(url)), url)
    said = refused.value.reason
    assert said.startswith(f"DATABASE_URL: PostgreSQL does not take the option {name} (")
    assert PASSWORD not in said


async def test_a_name_whose_addresses_all_refuse_is_no_silent_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()

    async def both(*_: object, **__: object) -> list[object]:
        """What a machine answers that has `localhost` in both ways of the Internet."""
        tcp = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *tcp, ("::1", 1, 0, 0)),
            (socket.AF_INET, *tcp, ("127.0.0.1", 1)),
        ]

    monkeypatch.setattr(loop, "getaddrinfo", both)
    away = journal(f"postgresql://u:{PASSWORD}@localhost:1/d")
    for _ in range(2):
        with pytest.raises(JournalUnavailable) as told:
            await away.open(["first"])
        assert told.value.reason == (
            "MEMORY_JOURNAL_URL: PostgreSQL at localhost:1 can't be reached (OSError)"
        )
    await away.close()


async def test_a_wrong_password_is_refused_at_the_start(strict: EmbeddedPostgres) -> None:
    assert "does not let this user in" in await refusal(url_of(strict, f"not-{PASSWORD}"))
    right = journal(url_of(strict, PASSWORD))
    await right.open(["first"])
    assert await right.lag() == {}
    await right.close()


async def test_a_password_that_changes_while_it_runs_makes_it_unavailable_until_it_is_back(
    strict: EmbeddedPostgres,
) -> None:
    admin = await asyncpg.connect(strict.admin_dsn)
    running, late = (journal(url_of(strict, PASSWORD)) for _ in range(2))
    await running.open(["first"])
    await admin.execute("alter database journal allow_connections false")
    with pytest.raises(JournalUnavailable):  # it is not the URL that is wrong
        await late.open(["first"])
    await admin.execute("alter database journal allow_connections true")
    await admin.execute("alter role journal password 'another'")
    await admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", "journal"
    )
    for each in (running, late):
        with pytest.raises(JournalUnavailable) as told:
            await each.lag()
        assert PASSWORD not in told.value.reason
    await admin.execute(f"alter role journal password '{PASSWORD}'")
    for each in (running, late):
        assert await each.lag() == {}
        await each.close()
    await admin.close()
