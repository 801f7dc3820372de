"""The fake Pinecone, driven by Pinecone's own client: nobody here wrote what reads its answers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pinecone import (
    ApiError,
    AsyncPinecone,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PineconeError,
    RateLimitError,
    UnauthorizedError,
)
from pydantic import SecretStr

from app.drivers.pinecone import PineconeDriver
from app.embedding import Embedder
from app.settings import Limits, PineconeSettings
from tests.drivers import pinecone_fake
from tests.drivers.pinecone_fake import KEY, FakePinecone

DIMENSION = 4
ONE = [1.0, 0.0, 0.0, 0.0]


@pytest.fixture
async def fake() -> AsyncIterator[FakePinecone]:
    """An empty index of few dimensions."""
    async with pinecone_fake.running(DIMENSION) as fake:
        yield fake


@pytest.fixture
async def index(fake: FakePinecone) -> AsyncIterator[Any]:
    """The index, as the official client has it."""
    async with AsyncPinecone(api_key=KEY) as client, await client.index(host=fake.url) as index:
        yield index


def vector(one: str, values: list[float] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"id": one, "values": values or ONE, "metadata": metadata}


async def found(index: Any, **asked: Any) -> list[str]:
    """The ids that a query gives."""
    answer = await index.query(vector=ONE, top_k=10_000, namespace="one", **asked)
    return sorted(match.id for match in answer.matches)


async def test_what_is_stored_is_found_and_fetched(index: Any) -> None:
    kept = await index.upsert(
        vectors=[vector("a", n=10, t=["x"], u="é"), vector("b", [0, 1, 0, 0], n=2.5, t=[], u="")],
        namespace="one",
    )
    assert kept.upserted_count == 2
    answer = await index.query(
        vector=[1, 0.1, 0, 0], top_k=2, namespace="one", include_metadata=True, include_values=True
    )
    by_id = {match.id: match for match in answer.matches}
    assert by_id["a"].score == pytest.approx(0.995, abs=0.002)
    assert by_id["a"].metadata == {"n": 10.0, "t": ["x"], "u": "é"}
    assert [*by_id["b"].values] == [0, 1, 0, 0]
    bare = (await index.query(vector=ONE, top_k=1, namespace="one")).matches[0]
    assert not bare.values
    assert not bare.metadata
    fetched = await index.fetch(ids=["a", "nobody"], namespace="one")
    assert [*fetched.vectors] == ["a"]
    assert fetched.vectors["a"].metadata == {"n": 10.0, "t": ["x"], "u": "é"}
    assert await found(index, filter={"u": {"$eq": "é"}}) == ["a"]


async def test_an_absent_namespace_is_empty_and_can_t_be_deleted_from(index: Any) -> None:
    assert await found(index) == []
    assert not (await index.fetch(ids=["a"], namespace="one")).vectors
    assert [page async for page in index.list(namespace="one")] == []
    with pytest.raises(NotFoundError, match="Namespace not found"):
        await index.delete(ids=["a"], namespace="one")
    with pytest.raises(NotFoundError):
        await index.delete(delete_all=True, namespace="one")


async def test_a_list_is_sorted_and_paged(index: Any) -> None:
    ids = [f"{kind}{n:03}" for kind in "bA" for n in range(120)]
    await index.upsert(vectors=[vector(one) for one in ids], namespace="one")
    pages = [page async for page in index.list(namespace="one")]
    listed = [each.id for page in pages for each in page.vectors]
    assert [len(page.vectors) for page in pages] == [100, 100, 40]
    assert listed == sorted(ids)
    page = await index.list_paginated(prefix="A", limit=50, namespace="one")
    assert [each.id for each in page.vectors] == sorted(ids)[:50]
    following = page.pagination.next
    other = await index.list_paginated(prefix="b", pagination_token=following, namespace="one")
    assert len(other.vectors) == 100  # of a token of another list nobody says a word


async def test_namespaces_are_listed_described_and_deleted(index: Any, fake: FakePinecone) -> None:
    for name in ("two", "one", "other"):
        await index.upsert(vectors=[vector("a")], namespace=name)
    await index.upsert(vectors=[vector("a")])
    names = [each.name async for page in index.list_namespaces() for each in page.namespaces]
    assert names == ["__default__", "one", "other", "two"]
    page = await index.list_namespaces_paginated(prefix="o", limit=1)
    assert [each.name for each in page.namespaces] == ["one"]
    assert (await index.describe_namespace(name="one")).record_count == 1
    with pytest.raises(ConflictError):
        await index.create_namespace(name="one")
    await index.delete_namespace(name="one")
    with pytest.raises(NotFoundError):
        await index.describe_namespace(name="one")
    stats = await index.describe_index_stats()
    assert (stats.dimension, stats.total_vector_count) == (DIMENSION, 3)


REFUSED: list[tuple[dict[str, Any], str]] = [
    (vector("é"), "ASCII"),
    (vector("x" * 513), "512"),
    (vector("a", [0, 0, 0, 0]), "at least one non-zero"),
    (vector("a", [1, 0]), "does not match the dimension"),
    (vector("a", m="x" * 40_960), "exceeds the limit of 40960 bytes"),
    (vector("a", m={"usd": 10}), "string, number, boolean or list of strings"),
    (vector("a", m=[1, 2]), "list of strings"),
    ({"id": "a", "values": ONE, "metadata": {"$x": 1}}, "cannot start with"),
]


@pytest.mark.parametrize(("bad", "said"), REFUSED, ids=[said for _, said in REFUSED])
async def test_a_bad_vector_is_refused_with_all_others(
    index: Any, bad: dict[str, Any], said: str
) -> None:
    with pytest.raises(PineconeError, match=said):
        await index.upsert(vectors=[vector("good"), bad], namespace="one")
    assert await found(index) == []


async def test_too_much_at_once_is_refused(index: Any) -> None:
    many = [vector(f"{n}") for n in range(1_001)]
    with pytest.raises(PineconeError):
        await index._http.post("/vectors/upsert", json={"vectors": many, "namespace": "one"})
    large = [vector(f"{n}", m="x" * 40_000) for n in range(60)]
    with pytest.raises(ApiError, match="2MB"):
        await index.upsert(vectors=large, namespace="one")
    await index.upsert(vectors=[vector(f"{n}", m="x" * 40_000) for n in range(50)], namespace="one")
    await index.upsert(
        vectors=[vector(f"{n}", m="x" * 40_000) for n in range(50, 100)], namespace="one"
    )
    await index.upsert(
        vectors=[vector(f"{n}", m="x" * 40_000) for n in range(100, 110)], namespace="one"
    )
    with pytest.raises(ApiError, match="message length too large"):
        await found(index, include_metadata=True)
    assert len(await found(index)) == 110


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["a", "b", "c"]),
    ({"t": {}}, ["a", "b", "c"]),
    ({"t": {"$in": []}}, []),
    ({"t": {"$in": ["x", "z"]}}, ["a", "b"]),
    ({"t": {"$nin": ["x"]}}, ["b"]),
    ({"t": {"$ne": "x"}}, ["b"]),
    ({"n": {"$gte": 2}}, ["b"]),
    ({"n": {"$lt": 2}}, ["a"]),
    ({"$and": [{"n": {"$gte": 0}}, {"t": {"$eq": "y"}}]}, ["a"]),
    ({"$or": [{"n": {"$eq": 2}}, {"t": {"$eq": "y"}}]}, ["a", "b"]),
    ({"n": {"$exists": False}}, ["c"]),
]


@pytest.mark.parametrize(("given", "wanted"), FILTERS, ids=[str(given) for given, _ in FILTERS])
async def test_a_filter_means_what_it_means_there(
    index: Any, given: dict[str, Any], wanted: list[str]
) -> None:
    some = [vector("a", n=1, t=["x", "y"]), vector("b", n=2, t=["z"]), vector("c")]
    await index.upsert(vectors=some, namespace="one")
    assert await found(index, filter=given) == wanted


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"t": ["x"]}, "must be followed by"),
        ({"t": {"$eq": None}}, "got null"),
        ({"t": {"$contains": "x"}}, "is not a valid operator"),
        ({"$not": [{"t": "x"}]}, "is not a valid operator"),
        ({"t": {"$in": ["x", 1]}}, "list of strings or a list of numbers"),
        ({"t": {"$gt": "x"}}, "number"),
    ],
)
async def test_a_bad_filter_is_refused(index: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiError) as refusal:
        await found(index, filter=given)
    assert said in str(refusal.value)


async def test_a_delete_tells_nothing_and_a_filter_outranks_ids(
    index: Any, fake: FakePinecone
) -> None:
    await index.upsert(vectors=[vector("a", n=1), vector("b", n=2)], namespace="one")
    assert await index.delete(ids=["nobody"], namespace="one") is None
    answer = await index._http.post(
        "/vectors/delete",
        json={"ids": ["a"], "filter": {"n": {"$eq": 2}}, "namespace": "one"},
    )
    assert answer.json() == {}
    assert await found(index) == ["a"]
    with pytest.raises(ApiError, match="empty metadata filter"):
        await index._http.post("/vectors/delete", json={"filter": {}, "namespace": "one"})


async def test_fetches_by_metadata_have_any_order_and_a_rate(index: Any) -> None:
    await index.upsert(vectors=[vector(f"{n}", k="x") for n in range(20)], namespace="one")
    orders = []
    for _ in range(5):
        answer = await index.fetch_by_metadata(filter={"k": {"$eq": "x"}}, namespace="one")
        orders.append([*answer.vectors])
    assert len({*map(tuple, orders)}) > 1
    with pytest.raises(RateLimitError):
        await index.fetch_by_metadata(filter={"k": {"$eq": "x"}}, namespace="one")
    with pytest.raises(ApiError):
        await index._http.post(
            "/vectors/fetch_by_metadata", json={"filter": {}, "namespace": "one"}
        )


async def test_matches_are_unsorted_and_a_score_may_be_above_1(index: Any) -> None:
    some = [vector(f"{n}", [1, n / 100, 0, 0]) for n in range(50)]
    await index.upsert(vectors=some, namespace="one")
    answer = await index.query(vector=ONE, top_k=50, namespace="one")
    scores = [match.score for match in answer.matches]
    assert scores != sorted(scores, reverse=True)
    assert max(scores) > 1
    for top_k in (0, 10_001):
        with pytest.raises(PineconeError):
            await index._http.post(
                "/query", json={"vector": ONE, "topK": top_k, "namespace": "one"}
            )


async def test_reads_show_a_write_each_in_its_time(index: Any, fake: FakePinecone) -> None:
    fake.delays.update(query=2.0, fetch=3.0, list=1.0, namespaces=4.0)
    await index.upsert(vectors=[vector("a")], namespace="one")

    async def shown() -> list[bool]:
        listed = [each.id async for page in index.list(namespace="one") for each in page.vectors]
        names = [each.name async for page in index.list_namespaces() for each in page.namespaces]
        fetched = await index.fetch(ids=["a"], namespace="one")
        return [listed == ["a"], await found(index) == ["a"], bool(fetched.vectors), names != []]

    for _ in range(5):
        count = int(fake.time)
        assert await shown() == [True] * count + [False] * (4 - count)
        fake.time += 1
    await index.delete(ids=["a"], namespace="one")
    assert await shown() == [True] * 4


async def test_answers_tell_how_far_the_log_goes_that_they_show(
    index: Any, fake: FakePinecone
) -> None:
    async def told(call: Callable[..., Awaitable[Any]], **asked: Any) -> dict[str, str]:
        answer = await call(namespace="one", **asked)
        headers = answer.response_info.raw_headers
        return {name: value for name, value in headers.items() if name.endswith("-lsn")}

    some: list[dict[str, Any]] = [vector("a")]
    assert await told(index.upsert, vectors=some) == {"x-pinecone-request-lsn": "1"}
    assert await told(index.upsert, vectors=some) == {"x-pinecone-request-lsn": "2"}
    indexed = "x-pinecone-max-indexed-lsn"
    assert await told(index.query, vector=ONE, top_k=1) == {indexed: "2"}
    assert await told(index.fetch, ids=["a"]) == {}
    fake.lags = [0.0, 5.0]
    answers = [await told(index.query, vector=ONE, top_k=1) for _ in range(2)]
    assert sorted(answer[indexed] for answer in answers) == ["0", "2"]
    fake.tells_lsn = False
    assert await told(index.query, vector=ONE, top_k=1) == {}


async def test_an_index_of_documents_takes_no_vectors_and_shows_none(
    index: Any, fake: FakePinecone
) -> None:
    fake.has_documents = True
    with pytest.raises(ApiError, match="document schema"):
        await index.upsert(vectors=[vector("a")], namespace="one")
    assert await found(index) == []


async def test_the_plan_s_namespaces_are_bounded(index: Any, fake: FakePinecone) -> None:
    fake.most_namespaces = 1
    await index.upsert(vectors=[vector("a")], namespace="one")
    with pytest.raises(ForbiddenError, match="max namespaces"):
        await index.upsert(vectors=[vector("a")], namespace="two")


async def test_a_key_that_is_not_known_is_refused(fake: FakePinecone) -> None:
    async with AsyncPinecone(api_key="other") as client, await client.index(host=fake.url) as index:
        with pytest.raises(UnauthorizedError):
            await index.query(vector=ONE, top_k=1, namespace="one")


async def test_an_index_is_described_as_each_version_has_it(fake: FakePinecone) -> None:
    fake.initializing = 1
    async with AsyncPinecone(api_key=KEY, host=fake.url) as client:
        first = await client.indexes.describe(pinecone_fake.NAME)
        second = await client.indexes.describe(pinecone_fake.NAME)
    assert (first.status.ready, second.status.ready) == (False, True)
    assert (second.host or "").removeprefix("https://") == fake.url.removeprefix("http://")
    assert [getattr(each, "dimension", None) for each in second.schema.fields.values()] == [
        DIMENSION
    ]
    assert fake.without_version == 0


async def test_the_client_sees_what_the_driver_stored(embedder: Embedder) -> None:
    async with pinecone_fake.running(embedder.dimension) as fake:
        settings = PineconeSettings(api_key=SecretStr(KEY), host=fake.url, namespace="ours")
        async with PineconeDriver(settings, embedder, Limits()) as driver:
            stored = await driver.store("ada", "a copper kettle", tags=["home"])
        async with (
            AsyncPinecone(api_key=KEY) as client,
            await client.index(host=fake.url) as index,
        ):
            [name] = [
                each.name
                async for page in index.list_namespaces(prefix="ours-u-")
                for each in page.namespaces
            ]
            [kept] = (
                await index.query(
                    vector=[*map(float, await embedder.embed_query("a copper kettle"))],
                    top_k=5,
                    namespace=name,
                    filter={"k": {"$eq": "m"}},
                )
            ).matches
    assert kept.id == f"m{stored.memory_id.replace('-', '')}"
    assert kept.score == pytest.approx(1, abs=0.002)
