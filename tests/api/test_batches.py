"""A batch with bad entries names every one of them, up to twenty, and stores nothing."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.embedding import Embedder
from tests.api.serving import Api, read_places, serving

PAST = "2020-01-01T00:00:00Z"
MEMORY: dict[str, Any] = {"user_id": "ada", "content": "The kettle is copper."}
KNOWLEDGE: dict[str, Any] = {"content": "Descale with lemon.", "category": "kitchen"}

BATCHES = pytest.mark.parametrize(
    ("batch", "entry"), [("memories", MEMORY), ("knowledge", KNOWLEDGE)]
)
PADDING = pytest.mark.parametrize("padding", ["", "x" * 30_000], ids=["small", "large"])
"""A large body is parsed in a thread."""


@pytest.fixture
async def api(embedder: Embedder) -> AsyncIterator[Api]:
    """An application that stays empty."""
    async with serving(embedder) as api:
        yield api
        assert await api.records() == 0


async def refused(api: Api, batch: str, entries: list[Any]) -> list[list[str | int]]:
    """The places within the batch that the answer names."""
    places = read_places(await api.post(f"/v1/{batch}/batch", {batch: entries}))
    assert all(place[:2] == ["body", batch] for place in places)
    return [place[2:] for place in places]


@BATCHES
@PADDING
async def test_what_the_model_and_what_the_driver_refuses_is_named_in_one_answer(
    api: Api, batch: str, entry: dict[str, Any], padding: str
) -> None:
    if padding:
        entry = {**entry, "content": padding}
    entries = [
        entry,
        {**entry, "content": 1},
        {**entry, "expires_at": PAST},
        entry,
        {**entry, "metadata": {"a": ["\x00"]}},
        {**entry, "expires_at": "2100-01-01T00:00:00Z", "ttl": 60},
        {**entry, "colour": "red"},
        None,
    ]
    assert await refused(api, batch, entries) == [
        [1, "content"],
        [2, "expires_at"],
        [4, "metadata", "a", 0],
        [5, "ttl"],
        [6, "colour"],
        [7],
    ]


@BATCHES
@PADDING
async def test_what_only_the_driver_refuses_is_all_named(
    api: Api, batch: str, entry: dict[str, Any], padding: str
) -> None:
    if padding:
        entry = {**entry, "content": padding}
    entries = [{**entry, "expires_at": PAST} if n % 2 else entry for n in range(8)]
    assert await refused(api, batch, entries) == [[n, "expires_at"] for n in (1, 3, 5, 7)]


async def test_users_that_are_a_tenants_are_named_beside_the_rest(api: Api) -> None:
    entries = [{**MEMORY, "user_id": "\x1facme\x1fada"}, {**MEMORY, "user_id": ""}]
    assert await refused(api, "memories", entries) == [[0, "user_id"], [1, "user_id"]]


@BATCHES
@pytest.mark.parametrize("bad", [{"content": ""}, {"expires_at": PAST}], ids=["model", "driver"])
async def test_twenty_are_named_and_no_more(
    api: Api, batch: str, entry: dict[str, Any], bad: dict[str, Any]
) -> None:
    (field,) = bad
    entries = [entry, *[{**entry, **bad}] * 30]
    assert await refused(api, batch, entries) == [[n, field] for n in range(1, 21)]


async def test_further_errors_of_an_entry_take_no_other_entrys_place(api: Api) -> None:
    bad = {"user_id": "", "content": "", "tags": 1, "metadata": 1, "ttl": 0}
    few = await refused(api, "memories", [bad, bad, {**MEMORY, "expires_at": PAST}])
    assert len(few) == 11
    assert few[-1] == [2, "expires_at"]
    many = await refused(api, "memories", [*[bad] * 18, {**MEMORY, "expires_at": PAST}])
    assert len(many) == 20
    assert {place[0] for place in many} == set(range(19))
    assert many == sorted(many, key=lambda place: place[0])


async def test_a_batch_that_is_none_is_one_error(api: Api) -> None:
    bodies: list[Any] = [
        {"memories": []},
        {"memories": {}},
        {"memories": [{}] * 1_001},
        {"memories": None},
        {},
    ]
    for body in bodies:
        response = await api.post("/v1/memories/batch", body)
        assert read_places(response) == [["body", "memories"]]
