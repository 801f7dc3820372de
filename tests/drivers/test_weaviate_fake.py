"""The fake of Weaviate has the traps that it is there for, and writes as the official types do."""

from typing import Any

import httpx
import numpy as np
import pytest
from google.protobuf import json_format

from app.drivers.weaviate import WeaviateDriver, bodies
from app.drivers.weaviate.bodies import Filter, Thing
from tests.drivers import weaviate_fake
from tests.drivers.weaviate_drivers import open_weaviate, server, weaviate
from tests.drivers.weaviate_fake import KEY, FakeWeaviate
from tests.drivers.weaviate_messages import REPLIES, result, unknown_fields, written

__all__ = ["open_weaviate", "server", "weaviate"]

ENTIRE: list[tuple[str, Any]] = [
    (
        "Search",
        bodies.search(
            "Mds",
            bodies.every(
                bodies.equal("a", "b"),
                bodies.any_of("a", ["b", "c"]),
                bodies.above("n", 1),
                bodies.at_least("n", 1),
                bodies.at_most("n", 1),
                bodies.number_is("n", 1),
                bodies.before("a", "b"),
                bodies.after("a", "b"),
                bodies.from_on("a", "b"),
            ),
            ["a"],
            3,
            sort=("a", True),
            near=np.ones(3, np.float32),
            vectors=True,
        ),
    ),
    (
        "BatchObjects",
        bodies.batch(
            [Thing("Mds", "x", {"a": "b", "n": 1.0}, np.ones(3, np.float32))],
            "CONSISTENCY_LEVEL_ALL",
        ),
    ),
    ("BatchDelete", bodies.deletion("Mds", bodies.equal("a", "b"), "CONSISTENCY_LEVEL_ALL")),
    ("Aggregate", bodies.count("Mds", bodies.equal("a", "b"))),
]


@pytest.mark.parametrize(("method", "body"), ENTIRE)
def test_every_field_that_can_be_sent_is_an_official_one(method: str, body: Any) -> None:
    assert unknown_fields(method, body) is None
    assert unknown_fields(method, {**body, "filterz": {}}) is not None


def test_what_a_search_finds_is_written_as_the_official_types_write_it() -> None:
    fields = {
        "a": {"textValue": "x"},
        "b": {"numberValue": 7.5},
        "c": {"numberValue": 0.0},
        "d": {"nullValue": None},
    }
    quick = {"results": [result(fields, id="x", distance=0.5, distancePresent=True)]}
    official = json_format.ParseDict(quick, REPLIES["Search"]())
    assert written(official)["results"] == quick["results"]
    assert official.results[0].metadata.distance == 0.5


async def ask(server: FakeWeaviate, method: str, body: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {KEY}", "Connect-Protocol-Version": "1"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        return await client.post(f"/v1/grpc-web/weaviate.v1.Weaviate/{method}", json=body)


async def test_a_misspelt_filter_is_a_search_over_everybody_and_fails_the_test_that_sent_it(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    for user in ("ada", "bob"):
        await weaviate.store(user, "kettle")
    body: dict[str, Any] = {
        "collection": "MdsMemory",
        "limit": 10,
        "metadata": {"uuid": True},
        "filterz": bodies.equal("owner", "nobody"),
    }
    assert len((await ask(server, "Search", body)).json()["results"]) == 2
    assert server.unknown
    assert "filterz" in server.unknown.pop()
    body["filters"] = body.pop("filterz")
    assert (await ask(server, "Search", body)).json()["results"] == []
    with pytest.raises(AssertionError, match="filterz"):
        async with weaviate_fake.running() as another:
            await ask(another, "Search", {"filterz": {}})


NOTHING: Filter = {"operator": "OPERATOR_AND", "filters": []}
REFUSED: list[dict[str, Any]] = [
    {"filters": NOTHING},
    {"filters": {"operator": "OPERATOR_NOT", "filters": [bodies.equal("owner", "x")] * 2}},
    {"filters": {**bodies.any_of("owner", ["x"]), "valueTextArray": {"values": []}}},
    {"filters": bodies.equal("nonesuch", "x")},
    {"filters": bodies.equal("record", "x")},
    {"filters": bodies.number_is("owner", 1)},
    {"filters": bodies.equal("at", "x")},
    {"limit": 10_001},
    {"limit": 5, "offset": 9_999},
    {"properties": {"nonRefProperties": ["nonesuch"]}},
    {"after": "x", "sortBy": [{"path": ["place"], "ascending": True}]},
    {"after": "x", "filters": bodies.equal("owner", "x")},
    {
        "nearVector": {"vectors": [{"vectorBytes": "", "type": "VECTOR_TYPE_SINGLE_FP32"}]},
        "sortBy": [{"path": ["place"], "ascending": True}],
    },
    {"collection": "Nonesuch"},
]


@pytest.mark.parametrize("change", REFUSED, ids=str)
async def test_what_weaviate_does_not_do_it_refuses_as_unknown(
    weaviate: WeaviateDriver, server: FakeWeaviate, change: dict[str, Any]
) -> None:
    answer = await ask(server, "Search", {"collection": "MdsKnowledge", "limit": 3, **change})
    assert (answer.status_code, answer.json()["code"]) == (500, "unknown")


async def test_what_is_written_to_no_collection_makes_one_that_takes_texts_apart(
    server: FakeWeaviate,
) -> None:
    values = {"kind": "erp_system The"}
    thing = {"uuid": "0" * 8 + "-0000-4000-8000-" + "0" * 12, "collection": "Others"}
    body = {"objects": [{**thing, "properties": {"nonRefProperties": values}}]}
    assert (await ask(server, "BatchObjects", body)).json()["errors"] == []
    for wanted in ("erp", "ERP", "system"):
        search = {"collection": "Others", "filters": bodies.equal("kind", wanted)}
        assert len((await ask(server, "Search", search)).json()["results"]) == 1
    search = {"collection": "Others", "filters": bodies.equal("kind", "the")}
    assert (await ask(server, "Search", search)).status_code == 500  # a stop word alone


async def test_counts_are_text_and_objects_without_a_limit_are_ten(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    for n in range(12):
        await weaviate.store("ada", f"{n}")
    body: dict[str, Any] = {"collection": "MdsMemory", "filters": bodies.above("at", 0)}
    assert len((await ask(server, "Search", body)).json()["results"]) == 10
    counted = (await ask(server, "Aggregate", {**body, "objectsCount": True})).json()
    assert counted["singleResult"]["objectsCount"] == "12"
    tried = (await ask(server, "BatchDelete", {**body, "dryRun": True})).json()
    assert (tried["matches"], tried["successful"], tried["failed"]) == ("12", "12", "0")
    assert len(server.of("Memory").objects) == 12
