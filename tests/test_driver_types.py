"""The types of driver: a row says all about one, and what it says is so."""

import importlib
import tomllib
from pathlib import Path

import pytest

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.manager import MemoryDriverManager
from app.settings import TYPES, DriverType, Settings, load_settings


@pytest.mark.parametrize("name", TYPES)
def test_a_row_leads_to_a_driver_of_its_name(name: str) -> None:
    module, _, attribute = TYPES[name].path.partition(":")
    driver = getattr(importlib.import_module(module), attribute)
    assert issubclass(driver, BaseMemoryDriver)
    assert driver.name == name


@pytest.mark.parametrize("name", TYPES)
def test_an_extra_is_one_that_can_be_installed(name: str, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extra = TYPES[name].extra
    assert extra is None or extra in project["optional-dependencies"]


@pytest.mark.parametrize("name", TYPES)
def test_the_options_of_a_named_driver_are_what_its_row_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_DRIVERS__A__TYPE", name)
    monkeypatch.setenv("MEMORY_DRIVERS__A__NONESUCH", "1")
    with pytest.raises(ValueError, match=r"^drivers\.a\.nonesuch: .* no such option") as said:
        load_settings().of("a")
    options = TYPES[name].settings
    for option in options.model_fields if options is not None else ():
        assert option in str(said.value)


def test_a_row_is_all_that_a_new_type_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    row = DriverType(path="app.drivers.inmemory:InMemoryDriver")
    monkeypatch.setitem(TYPES, "another", row)
    assert MemoryDriverManager(Settings(driver="another")).driver().name == "another"
