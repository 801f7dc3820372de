"""The manager: how a name becomes a driver."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from app.core.memory import get_memory_driver, set_memory_driver
from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth
from app.core.memory.manager import MemoryDriverManager
from app.drivers.automem import AutomemDriver
from app.drivers.inmemory import InMemoryDriver
from app.errors import ConfigurationError, DriverNotFound
from app.settings import Settings


class CustomDriver(InMemoryDriver):
    """A driver of somebody else; it counts how many were built."""

    built = 0

    @classmethod
    def from_context(cls, context: DriverContext) -> "CustomDriver":
        cls.built += 1
        return cls(context.embedder, context.settings.limits)


CUSTOM = f"{__name__}:CustomDriver"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing registered, and no shared manager, before and after."""
    MemoryDriverManager.reset_cache()
    CustomDriver.built = 0
    yield
    MemoryDriverManager.reset_cache()


@pytest.fixture
def manager() -> MemoryDriverManager:
    """A manager of the `inmemory` driver."""
    return MemoryDriverManager(Settings(driver="inmemory"))


def install(folder: Path, name: str, value: str) -> None:
    """Make `folder` hold a package with one entry point of the group `memory_drivers`."""
    info = folder / "somebodys_driver-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-driver\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[memory_drivers]\n{name} = {value}\n")
    (folder / "somebodys_driver.py").write_text(
        "from app.drivers.inmemory import InMemoryDriver\nclass Driver(InMemoryDriver): ...\n"
    )


def printed_by(code: str, root: Path, cwd: Path | None = None) -> str:
    """What a fresh Python prints that runs `code`."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=cwd or root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_driver_is_built_once_and_knows_its_name(manager: MemoryDriverManager) -> None:
    driver = manager.driver()
    assert isinstance(driver, InMemoryDriver)
    assert driver.name == "inmemory"
    assert manager.driver() is driver
    assert manager.driver("inmemory") is driver


def test_drivers_share_one_embedder(manager: MemoryDriverManager) -> None:
    seen = []

    def maker(context: DriverContext) -> BaseMemoryDriver:
        seen.append(context.embedder)
        return InMemoryDriver(context.embedder, context.settings.limits)

    MemoryDriverManager.register_driver("one", maker)
    MemoryDriverManager.register_driver("two", maker)
    assert manager.driver("one") is not manager.driver("two")
    assert seen[0] is seen[1]


def test_many_threads_get_one_driver(manager: MemoryDriverManager) -> None:
    MemoryDriverManager.register_driver("custom", CustomDriver)
    ready = threading.Barrier(32)
    found: list[BaseMemoryDriver] = []

    def get() -> None:
        ready.wait()
        found.append(manager.driver("custom"))

    threads = [threading.Thread(target=get) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 32
    assert len(set(map(id, found))) == 1
    assert CustomDriver.built == 1


def test_many_threads_get_one_shared_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_DRIVER", "inmemory")
    ready = threading.Barrier(32)
    found: list[BaseMemoryDriver] = []

    def get() -> None:
        ready.wait()
        found.append(get_memory_driver())

    threads = [threading.Thread(target=get) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_the_short_way_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_DRIVER", "inmemory")
    driver = get_memory_driver()
    assert get_memory_driver() is driver
    MemoryDriverManager.register_driver("custom", CustomDriver)
    custom = set_memory_driver("custom")
    assert isinstance(custom, CustomDriver)
    assert get_memory_driver() is custom
    assert get_memory_driver("inmemory") is driver
    MemoryDriverManager.reset_cache()
    assert get_memory_driver() is not driver
    with pytest.raises(DriverNotFound):
        get_memory_driver("custom")


def test_a_switch_to_what_is_not_there_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_DRIVER", "inmemory")
    driver = get_memory_driver()
    with pytest.raises(DriverNotFound):
        set_memory_driver("xyz")
    assert get_memory_driver() is driver


def test_a_registered_driver_comes_before_a_built_in_one(manager: MemoryDriverManager) -> None:
    MemoryDriverManager.register_driver("inmemory", CustomDriver)
    assert isinstance(manager.driver(), CustomDriver)


def test_a_driver_registered_anew_replaces_the_built_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_DRIVER", "inmemory")
    get_memory_driver()
    MemoryDriverManager.register_driver("inmemory", CustomDriver)
    assert isinstance(get_memory_driver(), CustomDriver)


def test_an_installed_entry_point_is_found(
    manager: MemoryDriverManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "somebodys", "somebodys_driver:Driver")
    monkeypatch.syspath_prepend(str(tmp_path))
    driver = manager.driver("somebodys")
    assert type(driver).__module__ == "somebodys_driver"
    assert driver.name == "somebodys"
    with pytest.raises(DriverNotFound, match="somebodys"):
        manager.driver("xyz")


def test_a_built_in_driver_comes_before_an_entry_point(
    manager: MemoryDriverManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "inmemory", "somebodys_driver:Driver")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(manager.driver("inmemory")) is InMemoryDriver


def test_a_dotted_path_is_found(manager: MemoryDriverManager) -> None:
    driver = manager.driver(CUSTOM)
    assert type(driver).__name__ == "CustomDriver"
    assert driver.name == CUSTOM


@pytest.mark.parametrize("name", ["xyz", "InMemory", " inmemory", "in memory", "os.path", "../x"])
def test_an_unknown_name_is_told_with_the_available_ones(
    manager: MemoryDriverManager, name: str
) -> None:
    MemoryDriverManager.register_driver("custom", CustomDriver)
    with pytest.raises(ValueError, match="not found") as caught:
        manager.driver(name)
    message = str(caught.value)
    assert message.startswith(f"Memory driver '{name}' not found")
    assert "automem, custom, inmemory, pgvector" in message
    assert "\n" not in message


def test_the_default_is_automem() -> None:
    assert isinstance(MemoryDriverManager(Settings()).driver(), AutomemDriver)


@pytest.mark.parametrize(
    "name",
    [
        "no_such_module:Driver",
        "app.core.memory.base:NoSuchClass",
        "app.nowhere.at_all:Driver",
        ":Driver",
        "app.core.memory.base:",
        "..app:Driver",
        ":",
    ],
)
def test_a_dotted_path_that_leads_nowhere_is_not_found(
    manager: MemoryDriverManager, name: str
) -> None:
    with pytest.raises(DriverNotFound) as caught:
        manager.driver(name)
    assert str(caught.value).startswith(f"Memory driver '{name}' not found: ")


@pytest.mark.parametrize("name", ["builtins:dict", "builtins:print", "os:sep", "json:JSONDecoder"])
def test_what_is_not_a_driver_is_refused(manager: MemoryDriverManager, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        manager.driver(name)


def test_a_driver_without_every_verb_is_refused(manager: MemoryDriverManager) -> None:
    class Incomplete(BaseMemoryDriver):
        async def health_check(self) -> DriverHealth:
            return DriverHealth(driver=self.name, status="ok")

    MemoryDriverManager.register_driver("incomplete", Incomplete)
    with pytest.raises(ConfigurationError, match="incomplete"):
        manager.driver("incomplete")


def test_a_driver_that_could_not_be_built_is_tried_again(manager: MemoryDriverManager) -> None:
    with pytest.raises(DriverNotFound):
        manager.driver("later")
    MemoryDriverManager.register_driver("later", CustomDriver)
    assert isinstance(manager.driver("later"), CustomDriver)


@pytest.mark.parametrize(
    ("missing", "driver"),
    [
        ("asyncpg", "pgvector"),
        ("pgvector", "pgvector"),
        ("redis", "redis"),
        ("httpx", "pinecone"),
        ("stamina", "pinecone"),
        ("httpx", "weaviate"),
    ],
)
def test_an_absent_extra_is_named(missing: str, driver: str, root: Path) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from app.core.memory.manager import MemoryDriverManager\n"
        "from app.settings import Settings\n"
        "MemoryDriverManager(Settings(driver='inmemory')).driver()\n"
        f"try: MemoryDriverManager(Settings(driver={driver!r})).driver()\n"
        "except ValueError as error: print(error)"
    )
    said = printed_by(code, root)
    assert said.startswith(f"Memory driver {driver!r} needs ")
    assert missing in said
    assert f"pip install 'memory-driver-service[{driver}]'" in said


def test_a_driver_that_is_not_selected_costs_no_import(root: Path) -> None:
    code = (
        "import sys\n"
        "from app.core.memory.manager import MemoryDriverManager\n"
        "from app.main import create_app\n"
        "from app.settings import Settings\n"
        "create_app(MemoryDriverManager(Settings(driver='inmemory')))\n"
        "extras = {'asyncpg', 'pgvector', 'alembic', 'redis', 'hiredis', 'httpx', 'stamina'}\n"
        "print(*(extras | {'torch'}) & set(sys.modules))"
    )
    said = printed_by(code, root)
    assert said.split() == []


@pytest.mark.parametrize("driver", ["pgvector", "pinecone", "redis", "weaviate"])
def test_building_a_driver_does_no_io(driver: str, root: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        f"import app.drivers.{driver}\n"
        "os.environ |= {'PINECONE_API_KEY': 'x', 'PINECONE_HOST': 'memory.invalid'}\n"
        "os.environ |= {'REDIS_URL': 'rediss://memory.invalid'}\n"
        "from app.core.memory.manager import MemoryDriverManager\n"
        "from app.settings import Settings\n"
        f"manager = MemoryDriverManager(Settings(driver={driver!r}))\n"
        "events = []\n"
        "sys.addaudithook(lambda event, _: events.append(event))\n"
        "manager.driver()\n"
        "print(*(e for e in events if e.startswith(('open', 'os.mkdir', 'socket', 'subprocess'))))"
    )
    assert printed_by(code, root, cwd=tmp_path).split() == []
    assert list(tmp_path.iterdir()) == []


async def test_closing_closes_every_driver_even_when_one_fails(
    manager: MemoryDriverManager,
) -> None:
    closed: list[str] = []

    class Closing(CustomDriver):
        async def close(self) -> None:
            closed.append(self.name)
            if self.name == "two":
                raise RuntimeError(self.name)

    MemoryDriverManager.register_driver("one", Closing)
    MemoryDriverManager.register_driver("two", Closing)
    kept = manager.driver("one")
    manager.driver("two")
    with pytest.raises(RuntimeError, match="two"):
        await manager.close()
    assert sorted(closed) == ["one", "two"]
    assert manager.driver("one") is kept


def test_a_driver_that_fails_to_build_is_told_in_one_line(manager: MemoryDriverManager) -> None:
    class Broken(CustomDriver):
        @classmethod
        def from_context(cls, context: DriverContext) -> Self:
            raise TypeError("no such argument")

    MemoryDriverManager.register_driver("broken", Broken)
    with pytest.raises(ConfigurationError, match="'broken' can't build a driver: no such argument"):
        manager.driver("broken")
