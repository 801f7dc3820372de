"""Words on AutoMem: scored by this service, in the configured language."""

import pytest
from pydantic import SecretStr

from app.core.memory.records import NewMemory
from app.drivers.automem import AutomemDriver
from app.errors import ConfigurationError
from app.settings import AutomemSettings, Limits
from tests.drivers import automem_fake
from tests.drivers.automem_fake import FakeAutomem


def settings_of(fake: FakeAutomem) -> AutomemSettings:
    return AutomemSettings(url=fake.url, api_token=SecretStr(automem_fake.TOKEN))


@pytest.mark.parametrize(("language", "found"), [("german", 1), ("english", 0)])
async def test_words_have_the_stems_of_the_configured_language(
    fake: FakeAutomem, language: str, found: int
) -> None:
    async with AutomemDriver(settings_of(fake), Limits(), language=language) as driver:
        await driver.store("ada", "Die Häuser am See")
        assert len(await driver.recall("ada", query="Haus", use_vector=False)) == found


async def test_a_language_without_words_is_refused(fake: FakeAutomem) -> None:
    with pytest.raises(ConfigurationError, match="MEMORY_RECALL_LANGUAGE: 'klingon'"):
        AutomemDriver(settings_of(fake), Limits(), language="klingon")


async def test_a_word_of_memories_on_other_pages_is_as_common(automem: AutomemDriver) -> None:
    await automem.store_many(
        [NewMemory(user_id="ada", content=f"kettle {n}") for n in range(450)]
        + [NewMemory(user_id="ada", content="zither")]
    )
    best, second = await automem.recall("ada", query="kettle zither", top_k=2, use_vector=False)
    assert (best.content, second.content) == ("zither", "kettle 449")
    assert best.score == pytest.approx(0.9998, abs=1e-3)


async def test_a_short_query_by_meaning_finds_those_without_its_words_too(
    automem: AutomemDriver,
) -> None:
    for content in ("kettle", "no Ω", "Ω", "?!"):
        await automem.store("ada", content)
    for query, best in (("Ω", "Ω"), ("?!", "?!")):
        found = await automem.recall("ada", query=query)
        assert len(found) == 4
        assert (found[0].content, found[0].score) == (best, 1)
