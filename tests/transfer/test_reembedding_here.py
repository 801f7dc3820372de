"""A re-embedding that a service does itself: what whoever asks for it is told."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app.drivers.inmemory import InMemoryDriver
from app.errors import ConfigurationError, InvalidInput
from app.settings import Limits
from app.transfer.reembedding_here import ReembeddingsHere
from tests.drivers.two_models import FIRST, SECOND, Words


class Slow(Words):
    """A model that is loaded when the test says so, or can't be."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__("slow", 16)
        self.loaded = asyncio.Event()
        self._fails = fails

    async def open(self) -> None:
        await self.loaded.wait()
        if self._fails:
            raise ConfigurationError("there is no such model")


@pytest.fixture
async def driver() -> InMemoryDriver:
    driver = InMemoryDriver(FIRST, Limits())
    await driver.open()
    await driver.store("ada", "A kettle of copper.")
    return driver


async def test_a_model_that_loads_for_long_is_not_waited_for(
    driver: InMemoryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.transfer.reembedding_here._BEGIN_SECONDS", 0.05)
    here, model = ReembeddingsHere(), Slow()
    told = await here.start(driver, model, force=False)
    assert told.step == "begin"
    assert await here.start(driver, model, force=False) is told
    model.loaded.set()
    async with asyncio.timeout(30):
        while told.step != "over":
            await asyncio.sleep(0.01)
    own = await driver.model()
    assert own is not None
    assert own.name == "slow"
    await here.close()


async def test_a_model_that_can_not_be_used_is_told_at_once_or_in_the_log(
    driver: InMemoryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, model = ReembeddingsHere(), Slow(fails=True)
    monkeypatch.setattr("app.transfer.reembedding_here._BEGIN_SECONDS", 0.05)
    await here.start(driver, model, force=False)
    with capture_logs() as logs:
        model.loaded.set()
        async with asyncio.timeout(30):
            while not logs:
                await asyncio.sleep(0.01)
    assert [(log["event"], log["reason"]) for log in logs] == [
        ("reembedding_failed", "there is no such model")
    ]
    with pytest.raises(InvalidInput, match="there is no such model"):
        await here.start(driver, model, force=False)
    told = await here.start(driver, SECOND, force=False)
    async with asyncio.timeout(30):
        while told.step != "over":
            await asyncio.sleep(0.01)
    await here.close()
