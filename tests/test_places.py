"""Drivers and a journal that can't live where the configuration puts them are refused."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.core.memory.manager import MemoryDriverManager
from app.errors import ConfigurationError
from app.journal.journal import Journal
from app.settings import (
    DatabaseSettings,
    JournalSettings,
    NamedDriver,
    Settings,
    load_settings,
)

SAFE = {"safe": NamedDriver(type="failover", inner=("inmemory",))}
DEFAULT = Path("/nonexistent/default")


def pgvector(**options: str) -> NamedDriver:
    return NamedDriver(type="pgvector", options=options)


def holding(kind: str, *inner: str) -> NamedDriver:
    return NamedDriver(type=kind, inner=inner)


def settings(
    named: Mapping[str, NamedDriver] = {},
    *,
    driver: str = "inmemory",
    journal: Path = Path("/nonexistent/journal"),
    data_dir: Path = DEFAULT,
) -> Settings:
    return Settings(
        driver=driver,
        named=named,
        database=DatabaseSettings(data_dir=data_dir),
        journal=JournalSettings(path=journal),
    )


def refusal(settings: Settings) -> str:
    """What the manager says when it is asked for the selected driver."""
    with pytest.raises(ConfigurationError) as refused:
        MemoryDriverManager(settings).driver()
    assert "\n" not in refused.value.reason
    assert "hunter2" not in refused.value.reason
    return refused.value.reason


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("default/postgresql", {}),
        ("default/postgresql/journal", {}),
        ("default/postgresql.unfinished", {}),
        ("default/postgresql.restoring", {}),
        ("default/other/../postgresql", {}),
        ("link/postgresql/journal", {}),
        ("cluster/journal", {}),
        ("own/postgresql", {"a": "own"}),
        ("link/postgresql", {"a": "default"}),
    ],
)
def test_a_journal_in_a_clusters_folder_is_refused_before_anything_is_made(
    tmp_path: Path, path: str, named: dict[str, str]
) -> None:
    (tmp_path / "default").mkdir()
    (tmp_path / "link").symlink_to("default")
    if path.startswith("cluster"):
        (tmp_path / "default" / "postgresql").symlink_to(tmp_path / "cluster")
    before = sorted(tmp_path.rglob("*"))
    drivers = {name: pgvector(data_dir=f"{tmp_path}/{folder}") for name, folder in named.items()}
    data_dir = DEFAULT if named else tmp_path / "default"
    said = refusal(settings({**SAFE, **drivers}, journal=tmp_path / path, data_dir=data_dir))
    assert said.startswith(f"MEMORY_JOURNAL_PATH: {(tmp_path / path).resolve()} is in the embedded")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", ["default", "default/journal", "default/postgresqls"])
def test_a_journal_beside_a_cluster_is_accepted(tmp_path: Path, path: str) -> None:
    data_dir = tmp_path / "default"
    chosen = settings(SAFE, driver="safe", journal=tmp_path / path, data_dir=data_dir)
    MemoryDriverManager(chosen).driver()


def test_no_journal_and_no_embedded_server_need_no_room() -> None:
    inside = DEFAULT / "postgresql"
    MemoryDriverManager(settings(journal=inside)).driver()
    url = SecretStr("postgresql://h/d")
    for group, changed in (
        ("journal", JournalSettings(path=inside, url=url)),
        ("database", DatabaseSettings(data_dir=DEFAULT, url=url)),
    ):
        chosen = settings(SAFE, journal=inside).model_copy(update={group: changed})
        MemoryDriverManager(chosen).driver()


async def test_a_journals_path_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, what in (("file", "file is a file: name a folder"), ("file/x", "Not a directory")):
        journal = Journal(JournalSettings(path=tmp_path / path), "main")
        with pytest.raises(ConfigurationError, match=f"^MEMORY_JOURNAL_PATH: .*{what}") as said:
            await journal.open(["first"])
        assert "\n" not in said.value.reason


@pytest.mark.parametrize("variable", ["MEMORY_JOURNAL_PATH", "MEMORY_DATA_DIR"])
def test_a_folder_that_can_not_be_is_told(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("~nobody-of-that-name/x", str(tmp_path / "loop" / "x")):
        (tmp_path / "loop").unlink(missing_ok=True)
        (tmp_path / "loop").symlink_to("loop")
        monkeypatch.setenv(variable, path)
        with pytest.raises(ConfigurationError, match=f"^{variable}: must be the path of a folder"):
            load_settings()


@pytest.mark.parametrize(
    ("named", "driver", "first", "second"),
    [
        ({"a": pgvector(), "b": pgvector()}, "inmemory", "drivers.a", "drivers.b"),
        (
            {"a": pgvector(data_dir="/x/y"), "b": pgvector(data_dir="/x/z/../y")},
            "inmemory",
            "drivers.a",
            "drivers.b",
        ),
        ({"a": pgvector(), "pgvector": pgvector()}, "a", "drivers.a", "drivers.pgvector"),
        ({"a": pgvector()}, "pgvector", "drivers.a", None),
        (
            {"a": pgvector(data_dir=str(DEFAULT)), "c": holding("cached", "pgvector")},
            "inmemory",
            "drivers.a",
            None,
        ),
    ],
)
def test_two_embedded_servers_on_one_folder_are_refused(
    named: dict[str, NamedDriver], driver: str, first: str, second: str | None
) -> None:
    both = f"{first}.data_dir and {f'{second}.data_dir' if second else 'MEMORY_DATA_DIR'}"
    assert refusal(settings(named, driver=driver)).startswith(f"{both} are the same folder, /")


def test_folders_that_differ_and_one_that_nobody_uses_are_accepted() -> None:
    apart = {"a": pgvector(), "b": pgvector(data_dir="/x")}
    MemoryDriverManager(settings(apart, driver="a")).driver()
    alone = {"a": pgvector(), "c": holding("cached", "a")}
    MemoryDriverManager(settings(alone, driver="c")).driver()
