"""Reranking by the settings: from the variables to a recall."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.memory.manager import MemoryDriverManager
from app.core.memory.record_driver import RecordDriver
from app.errors import ConfigurationError
from app.settings import load_settings
from tests.reranking.endpoint import Endpoint, copper

SECRET = "hunter2"  # noqa: S105
URL = "http://reranker.internal:8080"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """No shared manager, before and after."""
    MemoryDriverManager.reset_cache()
    yield
    MemoryDriverManager.reset_cache()


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"MEMORY_RERANK_URL": URL}, 0.5),
        ({"MEMORY_RERANK_MODEL": "some/model"}, 2.0),
        ({"MEMORY_RERANK_URL": URL, "MEMORY_RERANK_TIMEOUT": "3"}, 3.0),
        ({"MEMORY_RERANK_MODEL": "some/model", "MEMORY_RERANK_TIMEOUT": "0.1"}, 0.1),
        (
            {
                "MEMORY_RERANK_URL": URL,
                "MEMORY_RERANK_FORM": "cohere",
                "MEMORY_RERANK_NAME": "rerank-v3.5",
                "MEMORY_RERANK_API_KEY": SECRET,
            },
            0.5,
        ),
    ],
)
def test_what_fits_together_is_taken(
    variables: dict[str, str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, variables)
    settings = load_settings()
    assert settings.rerank.seconds == seconds
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"MEMORY_RERANK_URL": URL, "MEMORY_RERANK_MODEL": "some/model"},
            "MEMORY_RERANK_MODEL: must be unset with MEMORY_RERANK_URL: one of them reranks",
        ),
        (
            {"MEMORY_RERANK_URL": URL, "MEMORY_RERANK_FORM": "jina"},
            "MEMORY_RERANK_NAME: must be set with MEMORY_RERANK_FORM=jina",
        ),
        (
            {"MEMORY_RERANK_URL": URL, "MEMORY_RERANK_FORM": "cohere"},
            "MEMORY_RERANK_NAME: must be set with MEMORY_RERANK_FORM=cohere",
        ),
        (
            {"MEMORY_RERANK_URL": URL, "MEMORY_RERANK_NAME": "some-model"},
            "MEMORY_RERANK_NAME: must be unset with MEMORY_RERANK_FORM=tei, which has one model",
        ),
        ({"MEMORY_RERANK_URL": "reranker:8080"}, "MEMORY_RERANK_URL: must look like http"),
        (
            {"MEMORY_RERANK_URL": f"http://u:{SECRET}@reranker:8080"},
            "MEMORY_RERANK_URL: must look like http",
        ),
        (
            {"MEMORY_RERANK_URL": URL, "MEMORY_RERANK_API_KEY": f"{SECRET}\n"},
            "MEMORY_RERANK_API_KEY: must be visible ASCII characters",
        ),
        ({"MEMORY_RERANK_FORM": "voyage"}, "MEMORY_RERANK_FORM: "),
        ({"MEMORY_RERANK_TIMEOUT": "0"}, "MEMORY_RERANK_TIMEOUT: "),
        ({"MEMORY_RERANK_TIMEOUT": "nan"}, "MEMORY_RERANK_TIMEOUT: "),
        ({"MEMORY_RERANK_TIMEOUT": "61"}, "MEMORY_RERANK_TIMEOUT: "),
        ({"MEMORY_RERANKER_URL": URL}, "did you mean MEMORY_RERANK_URL"),
    ],
)
def test_what_does_not_fit_together_ends_the_start_in_one_line(
    variables: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, variables)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


async def recalled(manager: MemoryDriverManager) -> list[str]:
    """Two texts, the one with copper last by what they say; the manager is closed after it."""
    driver = manager.driver()
    assert isinstance(driver, RecordDriver)
    await driver.open()
    for text in ("a kettle", "copper"):
        await driver.store("ada", text)
    found = await driver.recall("ada", query="a kettle")
    await manager.close()
    return [memory.content for memory in found]


async def test_the_endpoint_of_the_settings_reranks(
    reranker: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_RERANK_URL", reranker.url)
    monkeypatch.setenv("MEMORY_RERANK_TIMEOUT", "5")
    manager = MemoryDriverManager(load_settings(driver="inmemory"))
    assert await recalled(manager) == ["copper", "a kettle"]
    while reranker.connections:  # the manager has closed them
        await asyncio.sleep(0.01)


async def test_the_model_of_the_settings_reranks(
    copper_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_RERANK_MODEL", str(copper_model))
    monkeypatch.setenv("MEMORY_RERANK_TIMEOUT", "30")
    assert await recalled(MemoryDriverManager(load_settings(driver="inmemory"))) == [
        "copper",
        "a kettle",
    ]


async def test_a_model_that_is_not_there_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_RERANK_MODEL", str(tmp_path / "nowhere"))
    manager = MemoryDriverManager(load_settings(driver="inmemory"))
    with pytest.raises(ConfigurationError, match="MEMORY_RERANK_MODEL: there is no folder"):
        await manager.driver().open()
    await manager.close()


async def test_without_the_settings_nothing_is_reranked() -> None:
    assert await recalled(MemoryDriverManager(load_settings(driver="inmemory"))) == [
        "a kettle",
        "copper",
    ]


NEST = """
driver = "main"
drivers.main = {type = "failover", inner = ["scoped", "second"]}
drivers.scoped = {type = "scoped", tenant = "acme", inner = ["cached"]}
drivers.cached = {type = "cached", inner = ["first"]}
drivers.first = {type = "inmemory"}
drivers.second = {type = "inmemory"}
"""


async def test_a_nest_reranks_once_and_its_health_tells_the_outage(
    reranker: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nest.toml").write_text(NEST)
    monkeypatch.setenv("MEMORY_CONFIG", str(tmp_path / "nest.toml"))
    monkeypatch.setenv("MEMORY_JOURNAL_PATH", str(tmp_path / "journal"))
    monkeypatch.setenv("MEMORY_RERANK_URL", reranker.url)
    monkeypatch.setenv("MEMORY_RERANK_TIMEOUT", "5")
    manager = MemoryDriverManager(load_settings())
    driver = manager.driver()
    assert isinstance(driver, RecordDriver)
    async with driver:
        for text in ("a kettle", "copper"):
            await driver.store("ada", text)
        best = [(await driver.recall("ada", query="kettle"))[0] for _ in range(2)]
        assert [memory.content for memory in best] == ["copper"] * 2
        assert [memory.score for memory in best] == [round(copper("copper"), 6)] * 2
        assert len(reranker.bodies) == 1
        assert (await driver.health_check()).status == "ok"
        reranker.always = None
        for n in range(3):
            found: Any = await driver.recall("ada", query=f"kettle {n}")
            assert (found.degraded, len(found)) == (True, 2)
        health = await driver.health_check()
        assert health.status == "degraded"
        assert "recalls are not reranked" in (health.detail or "")
    await manager.close()
