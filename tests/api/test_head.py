"""HEAD: wherever there is a GET, and its answer but for the body."""

import httpx
import pytest

from app.embedding import Embedder
from tests.api.serving import Api, build_app, listening, serving

MEMORY = {"user_id": "ada", "content": "kettle"}
PATHS = [
    "/health",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/docs",
    "/docs/oauth2-redirect",
    "/openapi.json",
    "/static-offline-docs/favicon.png",
    "/v1/memories?user_id=ada",
    "/v1/memories",
    "/v1/memories?user_id=ada&limit=x",
    "/v1/memories/01a2041e-3795-7337-a045-ffd936bf1f5e?user_id=ada",
    "/v1/knowledge/01a2041e-3795-7337-a045-ffd936bf1f5e",
    "/v1/export?user_id=ada",
    "/nope",
    "/v1/users/ada/memories",
]


@pytest.mark.parametrize("path", PATHS)
async def test_head_answers_what_get_answers_without_the_body(api: Api, path: str) -> None:
    headers = {"X-Request-ID": "mine"}
    got = await api.client.get(path, headers=headers)
    told = await api.client.head(path, headers=headers)
    assert (told.status_code, told.content) == (got.status_code, b"")
    if path != "/metrics":  # it counts on
        assert told.headers == got.headers


async def test_every_path_of_the_document_has_a_head_where_it_has_a_get(api: Api) -> None:
    for path, operations in api.app.openapi()["paths"].items():
        assert "head" not in operations
        told, got = await api.client.head(path), await api.client.get(path)
        assert (told.status_code, told.content) == (got.status_code, b"")
        assert ("HEAD" in told.headers.get("Allow", "")) == ("GET" in got.headers.get("Allow", ""))
        if "get" in operations:
            assert told.status_code != 405


async def test_head_finds_a_memory_and_needs_a_key_as_get_does(embedder: Embedder) -> None:
    async with serving(embedder, api_keys="r;scopes=read,w;scopes=write") as api:
        reader, writer = {"Authorization": "Bearer r"}, {"Authorization": "Bearer w"}
        stored = await api.client.post("/v1/memories", json=MEMORY, headers=writer)
        path = f"/v1/memories/{stored.json()['memory_id']}?user_id=ada"
        assert (await api.client.head(path, headers=reader)).status_code == 200
        assert (await api.client.head(path, headers=writer)).status_code == 403
        assert (await api.client.head(path)).status_code == 401


async def test_the_log_tells_a_head_as_such_with_its_route(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")
    await api.client.head("/v1/memories?user_id=ada")
    ends = [r.msg for r in caplog.records if isinstance(r.msg, dict) and "route" in r.msg]
    assert [(end["method"], end["route"]) for end in ends] == [("HEAD", "/v1/memories")]


def test_a_connection_goes_on_after_a_head(embedder: Embedder) -> None:
    with (
        listening(build_app(embedder)) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        for path in PATHS:
            told, got = client.head(path), client.get(path)
            assert (told.status_code, told.content) == (got.status_code, b"")
            if path != "/metrics" and "Content-Length" in got.headers:
                assert int(told.headers["Content-Length"]) == len(got.content)
