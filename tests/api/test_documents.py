"""Documents and the list of knowledge over HTTP."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.api.serving import Api, read_places, read_problem
from tests.api.test_routes import HOSTILE_USERS, REWRITABLE_USERS

DOCUMENT = {"category": "kitchen", "pieces": [{"content": "Fill it."}, {"content": "Boil it."}]}


async def put(api: Api, doc_id: str, **document: Any) -> list[dict[str, Any]]:
    """Put a document by its path; its records."""
    response = await api.client.put(f"/v1/knowledge/documents/{doc_id}", json=document or DOCUMENT)
    assert response.status_code == 200, response.text
    kept: list[dict[str, Any]] = response.json()["knowledge"]
    return kept


async def listed(api: Api, **parameters: Any) -> list[dict[str, Any]]:
    """The list of knowledge, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        response = await api.client.get("/v1/knowledge", params={"limit": 3, **parameters})
        assert response.status_code == 200, response.text
        page = response.json()
        found += page["knowledge"]
        if page["next_cursor"] is None:
            return found
        parameters["cursor"] = page["next_cursor"]


async def test_a_document_is_put_listed_replaced_and_deleted(api: Api) -> None:
    kept = await put(api, "manual")
    assert [each["position"] for each in kept] == [0, 1]
    assert [each["content"] for each in kept] == ["Fill it.", "Boil it."]
    assert await listed(api, doc_id="manual") == kept
    got = await api.client.get(f"/v1/knowledge/{kept[0]['knowledge_id']}")
    assert got.json() == kept[0]
    again = await put(api, "manual", category="kitchen", text="Pour it.\n", title="Manual", ttl=60)
    assert [(each["content"], each["title"]) for each in again] == [("Pour it.", "Manual")]
    assert await listed(api, doc_id="manual") == again
    deleted = await api.client.delete("/v1/knowledge/documents/manual")
    assert (deleted.status_code, deleted.json()) == (200, {"deleted": 1})
    assert await api.records() == 0
    deleted = await api.client.delete("/v1/knowledge/documents/manual")
    assert (deleted.status_code, deleted.json()) == (200, {"deleted": 0})


async def test_a_text_is_cut_as_the_request_says(api: Api) -> None:
    text = " ".join(f"Sentence {n} is here." for n in range(40))
    kept = await put(api, "m", category="c", text=text, piece_chars=200, overlap=0)
    assert "".join(each["content"] for each in kept).replace(" ", "") == text.replace(" ", "")
    assert all(len(each["content"]) <= 200 for each in kept)
    assert all(each["content"].endswith(".") for each in kept)


@pytest.mark.parametrize("way", ["path", "body"])
async def test_a_document_is_put_and_deleted_whatever_its_id(api: Api, way: str) -> None:
    ids = HOSTILE_USERS if way == "path" else [*HOSTILE_USERS, *REWRITABLE_USERS]
    for doc_id in ids:
        if way == "path":
            await put(api, quote(doc_id, safe="").replace(".", "%2E"))
        else:
            body = {"doc_id": doc_id, **DOCUMENT}
            assert (await api.post("/v1/knowledge/documents", body)).status_code == 200
    for left, doc_id in reversed(list(enumerate(ids))):
        assert len(await listed(api, doc_id=doc_id)) == 2
        if way == "path":
            path = quote(doc_id, safe="").replace(".", "%2E")
            response = await api.client.delete(f"/v1/knowledge/documents/{path}")
        else:
            response = await api.post("/v1/knowledge/documents/delete", {"doc_id": doc_id})
        assert response.json() == {"deleted": 2}, doc_id
        assert await api.records() == 2 * left


@pytest.mark.parametrize("doc_id", REWRITABLE_USERS)
async def test_an_id_that_a_proxy_may_rewrite_is_refused_in_a_path(api: Api, doc_id: str) -> None:
    path = f"/v1/knowledge/documents/{quote(doc_id, safe='').replace('.', '%2E')}"
    response = await api.client.put(path, json=DOCUMENT)
    assert read_places(response) == [["path", "doc_id"]]
    assert "POST /v1/knowledge/documents takes" in response.json()["detail"]
    response = await api.client.delete(path)
    assert read_places(response) == [["path", "doc_id"]]
    assert "POST /v1/knowledge/documents/delete takes" in response.json()["detail"]
    assert await api.records() == 0


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"pieces": []}, ["pieces"]),
        ({"pieces": [{"content": "x"}, {"content": ""}]}, ["pieces", 1, "content"]),
        ({"pieces": [{"content": "x", "position": 3}]}, ["pieces", 0, "position"]),
        ({"pieces": ["x"]}, ["pieces", 0]),
        ({"pieces": None}, ["pieces"]),
        ({"text": "x"}, ["pieces"]),
        ({"pieces": None, "text": " "}, ["text"]),
        ({"pieces": None, "text": "a\x00"}, ["text"]),
        ({"pieces": None, "text": "x", "piece_chars": 99}, ["piece_chars"]),
        ({"pieces": None, "text": "x", "overlap": -1}, ["overlap"]),
        ({"pieces": None, "text": "x", "overlap": 501}, ["overlap"]),
        ({"category": ""}, ["category"]),
        ({"ttl": 0}, ["ttl"]),
        ({"doc_id": "other"}, ["doc_id"]),
    ],
)
async def test_what_is_no_document_is_refused_at_its_place(
    api: Api, change: dict[str, Any], place: list[str | int]
) -> None:
    response = await api.client.put("/v1/knowledge/documents/manual", json={**DOCUMENT, **change})
    assert read_places(response) == [["body", *place]]
    assert await api.records() == 0


async def test_knowledge_is_listed_by_category_document_and_filter(api: Api) -> None:
    for n in range(5):
        body = {"content": f"{n}", "category": f"c{n % 2}", "metadata": {"n": n}}
        await api.post("/v1/knowledge", body)
    assert [each["content"] for each in await listed(api)] == ["4", "3", "2", "1", "0"]
    assert [each["content"] for each in await listed(api, category="c1")] == ["3", "1"]
    wanted = '{"metadata": {"n": {"gte": 3}}}'
    assert [each["content"] for each in await listed(api, filter=wanted)] == ["4", "3"]
    for bad in ({"limit": 0}, {"cursor": "x"}, {"filter": "{"}, {"category": ""}, {"doc": "x"}):
        response = await api.client.get("/v1/knowledge", params=bad)
        read_problem(response, 422, "invalid_input")
