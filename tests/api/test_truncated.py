"""The answer to a write tells where parts of its text are found by their words alone."""

from typing import Any

from tests.api.serving import Api

LONG = "漢字" * 16_384
"""More windows than a text may have."""
WHOLE = "The kettle is copper. " * 100
"""Several windows."""


async def post(api: Api, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await api.post(path, body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_store_tells_that_its_text_is_truncated(api: Api) -> None:
    memories, knowledge = "/v1/memories", "/v1/knowledge"
    long = await post(api, memories, {"user_id": "ada", "content": LONG})
    assert long["truncated"] is True
    assert "truncated" not in await post(api, memories, {"user_id": "ada", "content": WHOLE})
    named = {"user_id": "ada", "content": LONG, "metadata": {"speaker": "Ada"}}
    assert (await post(api, memories, named))["truncated"] is True
    told = await post(api, knowledge, {"category": "c", "content": LONG})
    assert told["truncated"] is True
    assert "truncated" not in await post(api, knowledge, {"category": "c", "content": WHOLE})
    read = await api.client.get(f"/v1/memories/{long['memory_id']}", params={"user_id": "ada"})
    assert "truncated" not in read.json()


async def test_a_batch_tells_which_texts_are_truncated(api: Api) -> None:
    contents = ["short", LONG, WHOLE]
    stored = await post(
        api,
        "/v1/memories/batch",
        {"memories": [{"user_id": "ada", "content": content} for content in contents]},
    )
    assert ["truncated" in memory for memory in stored["memories"]] == [False, True, False]
    stored = await post(
        api,
        "/v1/knowledge/batch",
        {"knowledge": [{"category": "c", "content": content} for content in contents]},
    )
    assert ["truncated" in record for record in stored["knowledge"]] == [False, True, False]


async def test_an_update_tells_that_its_text_is_truncated(api: Api) -> None:
    memory = await post(api, "/v1/memories", {"user_id": "ada", "content": "short"})
    record = await post(api, "/v1/knowledge", {"category": "c", "content": "short"})
    for path, params in (
        (f"/v1/memories/{memory['memory_id']}", {"user_id": "ada"}),
        (f"/v1/knowledge/{record['knowledge_id']}", {}),
    ):
        for content, truncated in ((LONG, True), (WHOLE, False)):
            changed = await api.client.patch(path, params=params, json={"content": content})
            assert changed.status_code == 200, changed.text
            assert ("truncated" in changed.json()) == truncated
