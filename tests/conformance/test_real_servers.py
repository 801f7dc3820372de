"""A server that the suite is pointed at has nothing left of a test, and all that it had before."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.drivers.pinecone import PineconeDriver
from app.drivers.weaviate import WeaviateDriver
from app.settings import Limits, PineconeSettings, WeaviateSettings
from tests.conformance.makers import Maker, Surroundings, pinecone, weaviate
from tests.drivers import pinecone_fake, weaviate_fake

Kept: TypeAlias = Callable[[], dict[str, list[str]]]


@asynccontextmanager
async def _pinecone(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RecordDriver, Kept]]:
    async with pinecone_fake.running(around.embedder.dimension) as fake:
        monkeypatch.setenv("TEST_PINECONE_HOST", fake.url)
        monkeypatch.setenv("TEST_PINECONE_API_KEY", pinecone_fake.KEY)
        settings = PineconeSettings(host=fake.url, api_key=SecretStr(pinecone_fake.KEY))
        async with PineconeDriver(settings, around.embedder, Limits()) as theirs:
            yield theirs, lambda: {name: [*space.now] for name, space in fake.spaces.items()}


@asynccontextmanager
async def _weaviate(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RecordDriver, Kept]]:
    async with weaviate_fake.running() as fake:
        monkeypatch.setenv("TEST_WEAVIATE_URL", fake.url)
        monkeypatch.setenv("TEST_WEAVIATE_API_KEY", weaviate_fake.KEY)
        settings = WeaviateSettings(url=fake.url, api_key=SecretStr(weaviate_fake.KEY))
        async with WeaviateDriver(settings, around.embedder, Limits()) as theirs:
            yield theirs, lambda: {name: [*one.objects] for name, one in fake.collections.items()}


async def _fill(driver: RecordDriver) -> None:
    await driver.store("ada", "a kettle " * 3_000, "kitchen", ["copper"])
    await driver.store("bob", "a pan")
    await driver.store_global_knowledge("Copper conducts.", "metals")
    await driver.put_document("d", category="c", pieces=["tin", "zinc"])


@pytest.mark.parametrize(
    ("server", "maker"),
    [(_pinecone, pinecone), (_weaviate, weaviate)],
    ids=["pinecone", "weaviate"],
)
async def test_nothing_is_left_of_a_test_and_nothing_of_others_is_touched(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch, server: Any, maker: Maker
) -> None:
    async with server(around, monkeypatch) as (theirs, kept):
        await _fill(theirs)
        before = kept()
        async with maker(around) as driver:
            await _fill(driver)
            assert len((await driver.list_users()).users) == 2
            assert kept().keys() > before.keys()
        assert kept() == before
        assert len(await theirs.recall("ada")) == 1
