"""One record for one request: a caller's id, or the header Idempotency-Key."""

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.embedding import Embedder
from tests.api.serving import Api, read_places, read_problem, serving

ONE = "00000000-0000-4000-8000-0000000000a1"
TWO = "00000000-0000-4000-8000-0000000000a2"
KETTLE = {"user_id": "ada", "content": "A copper kettle."}
CARE = {"content": "Descale it.", "category": "kitchen"}

STORES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("/v1/memories", "memory_id", KETTLE, {"content": "A pan."}),
    ("/v1/knowledge", "knowledge_id", CARE, {"title": "Care"}),
]
stores = pytest.mark.parametrize(("path", "name", "body", "change"), STORES)
BATCHES: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("/v1/memories/batch", "memories", "memory_id", KETTLE, {"content": "A pan."}),
    ("/v1/knowledge/batch", "knowledge", "knowledge_id", CARE, {"title": "Care"}),
]
batches = pytest.mark.parametrize(("path", "many", "name", "body", "change"), BATCHES)


async def send(api: Api, path: str, body: object, *keys: str, **named: str) -> httpx.Response:
    headers = [("Content-Type", "application/json"), *named.items()]
    headers += [("Idempotency-Key", key) for key in keys]
    return await api.client.post(path, content=json.dumps(body).encode(), headers=headers)


@stores
async def test_the_same_again_answers_200_with_the_record_as_it_is_now(
    api: Api, path: str, name: str, body: dict[str, Any], change: dict[str, Any]
) -> None:
    body = {**body, name: ONE}
    first = await send(api, path, body)
    assert first.status_code == 201
    assert first.json()[name] == ONE
    again = await send(api, path, body)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["etag"] == first.headers["etag"]
    patched = await api.client.patch(
        f"{path}/{ONE}", params={"user_id": "ada"} if "user_id" in body else {}, json=change
    )
    now = await send(api, path, body)
    assert (now.status_code, now.json()) == (200, patched.json())
    assert now.headers["etag"] == patched.headers["etag"]
    problem = read_problem(await send(api, path, {**body, **change}), 409, "conflict")
    assert ONE in problem["detail"]
    assert [place["loc"] for place in problem["errors"]] == [["body"]]
    assert await api.records() == 1


@stores
async def test_a_key_is_an_id(
    api: Api, path: str, name: str, body: dict[str, Any], change: dict[str, Any]
) -> None:
    first = await send(api, path, body, "request-1")
    assert first.status_code == 201
    assert UUID(first.json()[name]).version == 5
    again = await send(api, path, body, "request-1")
    assert (again.status_code, again.json()) == (200, first.json())
    other = await send(api, path, body, "request-2")
    assert (other.status_code, await api.records()) == (201, 2)
    problem = read_problem(await send(api, path, {**body, **change}, "request-1"), 409, "conflict")
    assert first.json()[name] in problem["detail"]
    assert (await send(api, path, body)).status_code == 201
    assert await api.records() == 3


@batches
async def test_of_a_batch_each_entry_is_stored_once(
    api: Api, path: str, many: str, name: str, body: dict[str, Any], change: dict[str, Any]
) -> None:
    one, two = {**body, name: ONE}, {**body, **change, name: TWO}
    assert (await send(api, path, {many: [one]})).status_code == 201
    both = await send(api, path, {many: [two, one]})
    assert both.status_code == 201
    assert [record[name] for record in both.json()[many]] == [TWO, ONE]
    again = await send(api, path, {many: [two, one, one]})
    assert (again.status_code, again.json()[many][:2]) == (200, both.json()[many])
    new = {**body, name: "00000000-0000-4000-8000-0000000000a3"}
    answer = await send(api, path, {many: [new, one, {**one, **change}]})
    problem = read_problem(answer, 409, "conflict")
    assert ONE in problem["detail"]
    assert [place["loc"] for place in problem["errors"]] == [["body", many, 2]]
    assert await api.records() == 2


@batches
async def test_a_key_of_a_batch_counts_with_the_place(
    api: Api, path: str, many: str, name: str, body: dict[str, Any], change: dict[str, Any]
) -> None:
    first = await send(api, path, {many: [body, body]}, "k")
    assert (first.status_code, await api.records()) == (201, 2)
    again = await send(api, path, {many: [body, body]}, "k")
    assert (again.status_code, again.json()) == (200, first.json())
    problem = read_problem(
        await send(api, path, {many: [body, {**body, **change}]}, "k"), 409, "conflict"
    )
    assert [place["loc"] for place in problem["errors"]] == [["body", many, 1]]
    single = await send(api, path.removesuffix("/batch"), body, "k")
    assert (single.status_code, await api.records()) == (201, 3)


@pytest.mark.parametrize("key", ["a", "!" * 255, '"quoted"', "~:/?#[]@", "8e03978e-40d5"])
async def test_a_key_is_any_visible_text(api: Api, key: str) -> None:
    assert (await send(api, "/v1/memories", KETTLE, key)).status_code == 201
    assert (await send(api, "/v1/memories", KETTLE, key)).status_code == 200


@pytest.mark.parametrize(
    "keys", [[""], ["!" * 256], ["a b"], ["a\tb"], ["caf\xe9"], ["a", "a"], ["a", "b"]]
)
@pytest.mark.parametrize("path", ["/v1/memories", "/v1/memories/batch"])
async def test_any_other_key_is_refused(api: Api, path: str, keys: list[str]) -> None:
    body = {"memories": [KETTLE]} if path.endswith("batch") else KETTLE
    headers = [("Content-Type", "application/json")]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    raw += [(b"Idempotency-Key", key.encode("latin-1")) for key in keys]
    answer = await api.client.post(path, content=json.dumps(body).encode(), headers=raw)
    assert read_places(answer) == [["header", "Idempotency-Key"]]
    assert await api.records() == 0


@stores
async def test_a_key_and_an_id_at_once_are_refused(
    api: Api, path: str, name: str, body: dict[str, Any], change: dict[str, Any]
) -> None:
    answer = await send(api, path, {**body, name: ONE}, "k")
    assert read_places(answer) == [["header", "Idempotency-Key"]]
    many = "memories" if name == "memory_id" else "knowledge"
    answer = await send(api, f"{path}/batch", {many: [body, {**body, name: ONE}]}, "k")
    assert read_places(answer) == [["header", "Idempotency-Key"]]
    assert await api.records() == 0


@pytest.mark.parametrize("given", ["", "1", f"{ONE}0", 7, [ONE]])
async def test_an_id_that_is_no_uuid_is_refused(api: Api, given: object) -> None:
    answer = await send(api, "/v1/memories", {**KETTLE, "memory_id": given})
    assert read_places(answer) == [["body", "memory_id"]]
    batch = {"knowledge": [CARE, {**CARE, "knowledge_id": given}]}
    answer = await send(api, "/v1/knowledge/batch", batch)
    assert read_places(answer) == [["body", "knowledge", 1, "knowledge_id"]]
    assert await api.records() == 0


async def test_sixteen_at_once_make_one_record(api: Api) -> None:
    answers = await asyncio.gather(*(send(api, "/v1/memories", KETTLE, "k") for _ in range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    assert len({answer.text for answer in answers}) == 1
    assert await api.records() == 1


async def test_keys_of_two_users_never_meet(api: Api) -> None:
    ids = set()
    for user in ("ada", "bob", "ada\x1f", 'ada", "k', "k"):
        answer = await send(api, "/v1/memories", {**KETTLE, "user_id": user}, "k")
        assert answer.status_code == 201
        ids.add(answer.json()["memory_id"])
    assert (await send(api, "/v1/knowledge", CARE, "k")).status_code == 201
    assert (len(ids), await api.records()) == (5, 6)


async def test_keys_and_ids_of_two_tenants_never_meet(embedder: Embedder) -> None:
    keys = "acme-key;tenant=acme,globex-key;tenant=globex,acme-2;tenant=acme,free-key"
    async with serving(embedder, api_keys=keys) as api:

        async def store(holder: str, path: str, body: object, *key: str) -> httpx.Response:
            return await send(api, path, body, *key, Authorization=f"Bearer {holder}")

        for path, name, body, _ in STORES:
            mine = await store("acme-key", path, body, "k")
            same = await store("acme-2", path, body, "k")
            assert (mine.status_code, same.status_code) == (201, 200)
            assert same.json() == mine.json()
            theirs = [await store(one, path, body, "k") for one in ("globex-key", "free-key")]
            assert [answer.status_code for answer in theirs] == [201, 201]
            ids = {answer.json()[name] for answer in (mine, *theirs)}
            assert len(ids) == 3
            for holder in ("acme-key", "globex-key", "free-key"):
                answer = await store(holder, path, {**body, name: ONE})
                assert answer.status_code == 201
