"""One tenant's key can't starve the others, whatever texts come with it."""

import asyncio
from pathlib import Path

import httpx

from tests.service.service import Service

HOSTILE = [("e@1" * 2_731)[:8_192], "a_" * 4_096, "/~" * 4_096, "\u0315\u0300" * 4_096]
AT_ONCE = 24
KEYS = "rude-key;tenant=rude,kind-key;tenant=kind"


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_a_tenant_is_served_beside_24_costly_requests_of_another(tmp_path: Path) -> None:
    settings = {
        "MEMORY_DRIVER": "pgvector",
        "MEMORY_DATA_DIR": str(tmp_path),
        "MEMORY_API_KEYS": KEYS,
    }
    with Service(settings) as service:
        async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
            stored = {"user_id": "ada", "content": "Ada has a kettle of copper."}
            for key in ("kind-key", "rude-key"):
                answer = await client.post("/v1/memories", json=stored, headers=headers(key))
                assert answer.status_code == 201
            over = asyncio.Event()

            async def rude(n: int) -> None:
                while not over.is_set():
                    query = HOSTILE[n % len(HOSTILE)]
                    await client.post(
                        "/v1/memories/recall",
                        json={"user_id": "ada", "query": query, "use_vector": n % 2 == 0},
                        headers=headers("rude-key"),
                    )

            async with asyncio.timeout(120), asyncio.TaskGroup() as group:
                for n in range(AT_ONCE):
                    group.create_task(rude(n))
                await asyncio.sleep(0.5)
                for n in range(20):
                    found = await client.post(
                        "/v1/memories/recall",
                        json={"user_id": "ada", "query": f"Which kettle is it, {n}?"},
                        headers=headers("kind-key"),
                    )
                    assert found.status_code == 200, found.text
                    assert len(found.json()["memories"]) == 1
                over.set()
