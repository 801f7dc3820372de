"""The default driver: with an AutoMem, and without."""

import asyncio
import socket

from app.embedding import Embedder
from tests.drivers import automem_fake
from tests.service.service import Service


async def test_the_default_driver_serves_what_automem_keeps(embedder: Embedder) -> None:
    async with automem_fake.running(embedder) as fake:
        await asyncio.to_thread(converse, fake.url)


def converse(url: str) -> None:
    settings = {
        "AUTOMEM_URL": url,
        "AUTOMEM_API_TOKEN": automem_fake.TOKEN,
        "AUTOMEM_TAG_SECRET": "of this test",
    }
    with Service(settings) as service, service.client() as client:
        assert client.get("/health/ready").status_code == 200
        memory = {"user_id": "ada", "content": "Ada has a kettle of copper.", "tags": ["home"]}
        stored = client.post("/v1/memories", json=memory).raise_for_status().json()
        for user, contents in (("ada", [memory["content"]]), ("bob", [])):
            query = {"user_id": user, "query": "What does she boil water in?"}
            found = client.post("/v1/memories/recall", json=query).raise_for_status().json()
            assert [memory["content"] for memory in found["memories"]] == contents
            assert found["driver"] == "automem"
        path = f"/v1/memories/{stored['memory_id']}"
        assert client.delete(path, params={"user_id": "bob"}).status_code == 404
        assert client.delete(path, params={"user_id": "ada"}).status_code == 204
        assert automem_fake.TOKEN not in service.output


def test_without_automem_it_says_so_lives_and_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with Service({"AUTOMEM_URL": nobody}) as service, service.client() as client:
        assert "driver_unavailable_at_start" in service.output
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
        memory = {"user_id": "ada", "content": "Ada has a kettle of copper."}
        refused = client.post("/v1/memories", json=memory)
        assert refused.status_code == 503
        assert "Retry-After" in refused.headers
        assert refused.json()["code"] == "driver_unavailable"
