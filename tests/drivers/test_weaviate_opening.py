"""The collections: as the official client would make them, and refused where they are others."""

import json
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from weaviate.classes.config import (
    Configure,
    DataType,
    Property,
    ReplicationDeletionStrategy,
    StopwordsPreset,
    Tokenization,
    VectorDistances,
)
from weaviate.collections.classes.config import _CollectionConfigCreate

from app.core.memory.records import NewKnowledge
from app.drivers.weaviate.layout import Names
from app.drivers.weaviate.schema import CUTOFF, Class, classes
from app.embedding import Embedder, Vector
from app.errors import ConfigurationError, DriverError
from app.settings import RecallSettings
from tests.drivers.weaviate_drivers import OpenWeaviate, open_weaviate, server, weaviate
from tests.drivers.weaviate_fake import KEY, FakeWeaviate

__all__ = ["open_weaviate", "server", "weaviate"]


def as_the_client_makes_it(ours: Class) -> dict[str, Any]:
    """The same collection by the official client."""
    properties = []
    for each in ours["properties"]:
        is_text = each["dataType"] == ["text"]
        properties.append(
            Property(
                name=each["name"],
                data_type=DataType.TEXT if is_text else DataType.NUMBER,
                tokenization=Tokenization.FIELD if is_text else None,
                index_filterable=each["indexFilterable"],
                index_searchable=each["indexSearchable"],
                index_range_filters=each.get("indexRangeFilters"),
            )
        )
    index = Configure.VectorIndex.hnsw(
        distance_metric=VectorDistances.COSINE,
        flat_search_cutoff=CUTOFF,
        quantizer=Configure.VectorIndex.Quantizer.none(),
    )
    made: dict[str, Any] = _CollectionConfigCreate(
        name=ours["class"],
        description=ours["description"],
        properties=properties,
        vectorizer_config=Configure.Vectorizer.none(),
        vector_index_config=index,
        inverted_index_config=Configure.inverted_index(stopwords_preset=StopwordsPreset.NONE),
        replication_config=Configure.replication(
            factor=2, deletion_strategy=ReplicationDeletionStrategy.TIME_BASED_RESOLUTION
        ),
        multi_tenancy_config=Configure.multi_tenancy(enabled=False),
    )._to_dict()
    return made


def test_the_official_client_would_make_the_same_collections() -> None:
    for ours in classes(Names("Mds"), "of ours", 2):
        theirs = as_the_client_makes_it(ours)
        theirs["properties"].sort(key=lambda each: each["name"])
        made = json.loads(json.dumps(ours))
        made["properties"].sort(key=lambda each: each["name"])
        # The client can leave an index out, too, but then not say more of it.
        assert made["vectorIndexConfig"].pop("skip") is not ours["class"].endswith("Knowledge")
        if not ours["class"].endswith("Knowledge"):
            assert made.pop("vectorIndexConfig") == {"distance": "cosine"}
            del theirs["vectorIndexConfig"]
        assert made == theirs


async def test_opening_twice_finds_what_was_made(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    first = await open_weaviate()
    assert first.identity() is not None
    await first.open()
    stored = await first.store("ada", "kettle")
    second = await open_weaviate()
    assert second.identity() == first.identity()
    assert await second.recall("ada") == [stored]
    another = await open_weaviate(prefix="Another")
    assert another.identity() != first.identity()
    assert await another.recall("ada") == []


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("owner", {"tokenization": "word"}),
    ("owner", {"tokenization": "whitespace"}),
    ("key", {"indexFilterable": False}),
    ("at", {"dataType": ["int"]}),
    ("at", {"indexRangeFilters": False}),
    ("record", {"indexSearchable": True}),
]


@pytest.mark.parametrize(("name", "change"), CHANGES, ids=str)
async def test_a_property_that_is_compared_otherwise_is_refused(
    open_weaviate: OpenWeaviate, server: FakeWeaviate, name: str, change: dict[str, Any]
) -> None:
    await open_weaviate()
    server.of("Memory").properties[name].update(change)
    with pytest.raises(ConfigurationError, match=f"WEAVIATE_PREFIX.*MdsMemory.*{name}"):
        await open_weaviate()


@pytest.mark.parametrize(
    "change",
    [
        {"vectorizer": "text2vec-openai"},
        {"vectorIndexConfig": {"distance": "dot", "skip": False}},
        {"multiTenancyConfig": {"enabled": True}},
        {"invertedIndexConfig": {"stopwords": {"preset": "en"}}},
        {"properties": []},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_collection_that_is_another_is_refused(
    open_weaviate: OpenWeaviate, server: FakeWeaviate, change: dict[str, Any]
) -> None:
    await open_weaviate()
    server.of("Knowledge").definition.update(change)
    with pytest.raises(ConfigurationError, match=r"WEAVIATE_PREFIX.*MdsKnowledge"):
        await open_weaviate()


async def test_a_collection_of_somebody_else_is_refused(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        await client.post("/v1/schema", json={"class": "MdsMemory"})
        with pytest.raises(ConfigurationError, match="WEAVIATE_PREFIX"):
            await open_weaviate()
        await client.delete("/v1/schema/MdsMemory")
        for description in ("theirs", "{}", "[1]", '{"layout": 99}'):
            made = classes(Names("Mds"), description, 1)[0]
            await client.post("/v1/schema", json=made)
            with pytest.raises(ConfigurationError, match="WEAVIATE_PREFIX"):
                await open_weaviate()
            await client.delete("/v1/schema/MdsMemory")
    await open_weaviate()


async def test_more_copies_than_there_are_nodes_are_refused(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    with pytest.raises(ConfigurationError, match=r"WEAVIATE_REPLICAS.* 4 copies"):
        await open_weaviate(replicas=4)
    assert not server.collections


async def test_an_operator_may_change_how_much_is_compared(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    await open_weaviate()
    server.of("Knowledge").definition["vectorIndexConfig"]["flatSearchCutoff"] = 10
    server.of("Knowledge").definition["vectorIndexConfig"]["ef"] = 200
    await open_weaviate()


class Vectors(Embedder):
    """Gives the same vector for every text, whatever it is."""

    def __init__(self, vector: Vector, dimension: int = 8) -> None:
        self.name, self.dimension, self.max_tokens = "made", dimension, 8
        self.vector = vector

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return self.vector

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.stack([self.vector] * len(texts))


GOOD = np.full(8, 8**-0.5, np.float32)


async def test_another_model_is_refused_and_the_same_under_another_name_is_not(
    open_weaviate: OpenWeaviate,
) -> None:
    await open_weaviate(instead=Vectors(GOOD))
    same = Vectors(GOOD)
    same.name = "renamed"
    await open_weaviate(instead=same)
    other = Vectors(np.where(np.arange(8) % 2, GOOD, -GOOD).astype(np.float32))
    with pytest.raises(ConfigurationError, match=r"^MEMORY_EMBEDDING_MODEL: 'made' \(8 dim"):
        await open_weaviate(instead=other)
    wider = Vectors(np.full(16, 0.25, np.float32), 16)
    with pytest.raises(ConfigurationError, match="8 dimensions"):
        await open_weaviate(instead=wider)
    await open_weaviate(instead=wider, prefix="Another")


async def test_words_of_another_language_are_refused(open_weaviate: OpenWeaviate) -> None:
    await open_weaviate()
    with pytest.raises(ConfigurationError, match=r"^MEMORY_RECALL_LANGUAGE.*english"):
        await open_weaviate(recall=RecallSettings(language="german"))
    await open_weaviate(recall=RecallSettings(language="german"), prefix="Another")


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD[:7],
        np.append(GOOD, np.float32(0)),
        np.zeros(8, np.float32),
        np.where(np.arange(8) == 3, np.float32("nan"), GOOD),
        np.where(np.arange(8) == 3, np.float32("inf"), GOOD),
    ],
    ids=["short", "long", "zero", "nan", "infinite"],
)
async def test_a_vector_that_is_none_never_reaches_weaviate(
    open_weaviate: OpenWeaviate, server: FakeWeaviate, wrong: Vector
) -> None:
    """The first object of a collection fixes the length for all."""
    embedder = Vectors(GOOD)
    driver = await open_weaviate(instead=embedder)
    embedder.vector = wrong
    with pytest.raises(DriverError):
        await driver.store("ada", "kettle")
    with pytest.raises(DriverError):
        await driver.store_knowledge_many([NewKnowledge(content="kettle", category="c")])
    with pytest.raises(DriverError):
        await driver.recall_global_knowledge("kettle")
    assert not any(each.objects for each in server.collections.values())
