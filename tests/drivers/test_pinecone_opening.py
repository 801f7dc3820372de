"""What is checked when an index is opened, and which one is refused."""

from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from starlette.responses import JSONResponse

from app.drivers.pinecone import PineconeDriver
from app.embedding import Embedder
from app.errors import ConfigurationError, DriverUnavailable
from app.settings import Limits, PineconeSettings, RecallSettings
from tests.drivers.conftest import OpenPinecone
from tests.drivers.pinecone_fake import KEY, FakePinecone
from tests.drivers.resident import Chance


def driver(index: FakePinecone, embedder: Embedder, **given: Any) -> PineconeDriver:
    settings = PineconeSettings(**{"host": index.url, "api_key": SecretStr(KEY), **given})
    return PineconeDriver(settings, embedder, Limits())


async def refused(opening: PineconeDriver, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        async with opening:
            pass


async def test_an_index_of_another_dimension_is_refused(
    index: FakePinecone, embedder: Embedder
) -> None:
    index.dimension = 3
    await refused(driver(index, embedder), "PINECONE_HOST: the index has 3 dimensions.* 384")
    assert index.spaces == {}


@pytest.mark.parametrize("metric", ["dotproduct", "euclidean"])
async def test_an_index_of_another_metric_is_refused(
    index: FakePinecone, embedder: Embedder, metric: str
) -> None:
    index.metric = metric
    await refused(driver(index, embedder), "PINECONE_HOST.*cosine")


async def test_an_index_of_documents_is_refused_before_it_shows_nothing(
    index: FakePinecone, embedder: Embedder
) -> None:
    index.has_documents = True
    await refused(driver(index, embedder), "PINECONE_HOST.*documents")


async def test_an_index_that_turns_out_to_be_of_documents_is_refused_by_its_first_write(
    index: FakePinecone, embedder: Embedder
) -> None:
    index.has_documents = True
    stats = {"dimension": index.dimension, "metric": "cosine", "namespaces": {}}
    index.fail("/describe_index_stats", JSONResponse(stats))
    await refused(driver(index, embedder), "document schema")


async def test_records_of_another_model_are_refused(
    open_pinecone: OpenPinecone, index: FakePinecone, embedder: Embedder
) -> None:
    await open_pinecone()
    other = Chance(embedder.dimension)
    await refused(driver(index, other), "MEMORY_EMBEDDING_MODEL.*PINECONE_NAMESPACE")
    async with driver(index, other, namespace="other"):  # a namespace of its own is empty
        pass


async def test_words_of_another_language_are_refused_where_there_are_users(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    first = await open_pinecone()
    german = await open_pinecone(recall=RecallSettings(language="german"))
    await german.store("ada", "Ein Kessel.")
    with pytest.raises(ConfigurationError, match=r"MEMORY_RECALL_LANGUAGE.*german"):
        await open_pinecone()
    assert (await first.health_check()).status == "ok"


async def test_another_layout_is_refused(
    open_pinecone: OpenPinecone,
    index: FakePinecone,
    embedder: Embedder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await open_pinecone()
    monkeypatch.setattr("app.drivers.pinecone.database.LAYOUT", 2)
    await refused(driver(index, embedder), "PINECONE_NAMESPACE.*another version")


async def test_a_wrong_key_is_refused_with_the_setting_s_name(
    index: FakePinecone, embedder: Embedder
) -> None:
    wrong = driver(index, embedder, api_key=SecretStr("hunter3"))
    await refused(wrong, "PINECONE_API_KEY")
    health = await wrong.health_check()
    assert (health.status, "hunter3" in str(health)) == ("unavailable", False)


async def test_an_index_that_is_away_may_be_opened_later(
    embedder: Embedder,
) -> None:
    settings = PineconeSettings(host="http://127.0.0.1:9", api_key=SecretStr(KEY), timeout=2)
    away = PineconeDriver(settings, embedder, Limits())
    with pytest.raises(DriverUnavailable):
        await away.open()
    await away.close()


async def test_every_request_names_the_version_and_a_namespace(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    memory = await pinecone.store("ada", "a kettle", "c", ["t"], expires_at=None)
    await pinecone.recall("ada", query="kettle", exclude_tags=["x"])
    await pinecone.list_memories("ada")
    await pinecone.put_document("d", category="c", pieces=["one"])
    await pinecone.recall_global_knowledge("one")
    await pinecone.delete(memory.memory_id)
    for asked in index.asked:
        assert asked.headers["x-pinecone-api-version"] == "2026-04"
        if asked.path != "/namespaces":
            named = asked.body.get("namespace") or dict(asked.query)["namespace"]
            assert named.startswith("memory-")
    owner = next(name for name in index.spaces if "-u-" in name).removeprefix("memory-u-")
    for asked in index.calls("/query"):
        conditions = asked.body["filter"]["$and"]
        assert all(len(each) == 1 and all(each.values()) for each in conditions)
        assert {"u": {"$eq": owner}} in conditions or {"u": {"$eq": "k"}} in conditions


async def test_only_the_fields_that_the_guide_names_have_to_be_indexed(
    index: FakePinecone, open_pinecone: OpenPinecone, root: Any
) -> None:
    guide = (root / "docs/drivers/pinecone.md").read_text()
    fields = "cdkortuwx"
    assert all(f'"{field}": {{"filterable": true}}' in guide for field in fields)
    index.schema = frozenset(fields)
    driver = await open_pinecone()
    memory = await driver.store("ada", "a kettle", "c", ["t"], ttl=1_000)
    wanted = {"tags": {"any": ["t"], "none": ["u"]}, "created": {"from": "2020-01-01T00:00:00Z"}}
    assert await driver.recall("ada", "c", filter=wanted) == [memory]
    index.time += 200
    assert await driver.recall("ada", "c", filter=wanted) == [memory]
    assert len(await driver.recall("ada", "c", "kettle", filter=wanted)) == 1


async def test_a_vector_that_no_search_may_meet_is_never_sent(
    open_pinecone: OpenPinecone, index: FakePinecone, embedder: Embedder
) -> None:
    class Odd(Chance):
        odd = np.zeros(1)

        async def embed(self, texts: Any) -> Any:
            vectors = await super().embed(texts)
            return np.array(
                [
                    self.odd[0] * one if t == "odd" else one
                    for one, t in zip(vectors, texts, strict=True)
                ],
                np.float32,
            )

    quick = Odd(embedder.dimension)
    driver = await open_pinecone(instead=quick)
    for factor in (0.0, float("nan"), float("inf")):
        quick.odd = np.array([factor])
        index.asked.clear()
        with pytest.raises(Exception, match="backend refused"):
            await driver.store("ada", "odd")
        assert index.calls("/vectors/upsert") == []
