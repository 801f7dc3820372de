"""Deleting by conversation, filter and age, and the list of users, over HTTP."""

from typing import Any

import pytest

from app.embedding import Embedder
from tests.api.serving import Api, read_places, read_problem, serving
from tests.api.test_tenants import Holder


async def store(api: Api, user_id: str, **more: Any) -> dict[str, Any]:
    response = await api.post("/v1/memories", {"user_id": user_id, "content": "kettle", **more})
    assert response.status_code == 201, response.text
    stored: dict[str, Any] = response.json()
    return stored


async def deleted(api: Api, **body: Any) -> int:
    response = await api.post("/v1/memories/delete", body)
    assert response.status_code == 200, response.text
    count: int = response.json()["deleted"]
    assert response.json() == {"deleted": count}
    return count


async def test_a_conversation_a_filter_and_an_age_are_deleted(api: Api) -> None:
    await store(api, "ada", conversation_id="a", tags=["x"])
    await store(api, "ada", conversation_id="b", tags=["x"])
    late = await store(api, "ada", conversation_id="b", tags=["y"])
    await store(api, "bob", conversation_id="a", tags=["x"])
    assert await deleted(api, user_id="ada", conversation_id="a", dry_run=True) == 1
    assert await api.records() == 4
    assert await deleted(api, user_id="ada", conversation_id="a") == 1
    assert await deleted(api, user_id="ada", filter={"tags": {"any": ["x"]}}) == 1
    assert await deleted(api, user_id="ada", before="2000-01-01T00:00:00") == 0
    assert await deleted(api, user_id="ada", before=late["created_at"]) == 0
    assert await deleted(api, user_id="ada", before="2100-01-01T00:00:00+02:00") == 1
    assert await api.records() == 1


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, ["body", "user_id"]),
        ({"user_id": ""}, ["body", "user_id"]),
        ({"user_id": "a\x00", "conversation_id": "a"}, ["body", "user_id"]),
        ({"user_id": "ada"}, ["body"]),
        ({"user_id": "ada", "filter": {}}, ["body"]),
        ({"user_id": "ada", "filter": {"tags": {"none": []}}}, ["body"]),
        ({"user_id": "ada", "filter": {"metadata": {"state": {"nin": []}}}}, ["body"]),
        ({"user_id": "ada", "dry_run": True}, ["body"]),
        ({"user_id": "ada", "filter": {"tag": "x"}}, ["body", "filter", "tag"]),
        ({"user_id": "ada", "before": "yesterday"}, ["body", "before"]),
        ({"user_id": "ada", "before": 20240513}, ["body", "before"]),
        ({"user_id": "ada", "conversation_id": ""}, ["body", "conversation_id"]),
        ({"user_id": "ada", "conversation_id": "a", "dry_run": "yes"}, ["body", "dry_run"]),
        ({"user_id": "ada", "conversation_id": "a", "tags": ["x"]}, ["body", "tags"]),
    ],
)
async def test_what_is_refused_deletes_nothing(
    api: Api, body: dict[str, Any], place: list[str]
) -> None:
    await store(api, "ada", conversation_id="a")
    response = await api.post("/v1/memories/delete", body)
    assert read_places(response)[0] == place
    assert await api.records() == 1


async def test_users_are_listed_in_pages(api: Api) -> None:
    for user_id in ("b", "\U0001f600", "é", "b", "org//team"):
        await store(api, user_id)
    first = (await api.client.get("/v1/users", params={"limit": 2})).json()
    cursor = first["next_cursor"]
    rest = (await api.client.get("/v1/users", params={"cursor": cursor})).json()
    assert first["users"] == [
        {"user_id": "b", "memories": 2},
        {"user_id": "org//team", "memories": 1},
    ]
    assert rest == {
        "users": [
            {"user_id": "é", "memories": 1},
            {"user_id": "\U0001f600", "memories": 1},
        ],
        "next_cursor": None,
    }
    for query in ("cursor=x", "cursor=", "limit=0", "limit=101", "limit=x", "user_id=ada"):
        response = await api.client.get(f"/v1/users?{query}")
        assert read_places(response) == [["query", query.partition("=")[0]]]


async def test_who_may_list_which_users(embedder: Embedder) -> None:
    keys = "all,r;scopes=read,a;scopes=admin,t;tenant=acme,w;tenant=acme;scopes=write,o;tenant=b"
    async with serving(embedder, api_keys=keys) as api:
        for key, user_id in (("all", "ada"), ("t", "ada"), ("t", "tom"), ("o", "ada")):
            await Holder(api, key).store(user_id, "kettle")
        await Holder(api, "t").teach("kettle", "kitchen")
        for key, names in {"all": ["ada"], "a": ["ada"], "t": ["ada", "tom"], "o": ["ada"]}.items():
            page = (await Holder(api, key).send("GET", "/v1/users")).json()
            assert page == {
                "users": [{"user_id": name, "memories": 1} for name in names],
                "next_cursor": None,
            }
        page = (await Holder(api, "t").send("GET", "/v1/users?limit=1")).json()
        cursor = page["next_cursor"]
        for key, names in {"all": [], "t": ["tom"], "o": []}.items():
            rest = (await Holder(api, key).send("GET", f"/v1/users?cursor={cursor}")).json()
            assert [each["user_id"] for each in rest["users"]] == names
        for key in ("r", "w"):
            response = await Holder(api, key).send("GET", "/v1/users")
            read_problem(response, 403, "forbidden")


async def test_a_tenant_deletes_its_own_alone(embedder: Embedder) -> None:
    async with serving(embedder, api_keys="all,t;tenant=acme") as api:
        for key in ("all", "t"):
            await Holder(api, key).store("ada", "kettle", conversation_id="kitchen")
        await Holder(api, "t").teach("kettle", "kitchen")  # of a conversation, inside
        body = {"user_id": "ada", "conversation_id": "kitchen"}
        for key, left in (("t", 2), ("all", 1)):
            response = await Holder(api, key).post("/v1/memories/delete", body)
            assert response.json() == {"deleted": 1}
            assert await api.records() == left
        imitation = {"user_id": "\x1facme", "conversation_id": "kitchen"}
        response = await Holder(api, "all").post("/v1/memories/delete", imitation)
        assert read_places(response) == [["body", "user_id"]]
