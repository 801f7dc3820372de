"""The process: how it starts, stops, and starts again."""

from tests.service.service import Service


def test_a_stored_memory_is_recalled_over_http(service: Service) -> None:
    with service.client() as client:
        stored = client.post(
            "/v1/memories", json={"user_id": "first", "content": "The kettle is copper."}
        )
        assert stored.status_code == 201
        found = client.post(
            "/v1/memories/recall", json={"user_id": "first", "query": "What is the kettle made of?"}
        ).json()
    assert [memory["memory_id"] for memory in found["memories"]] == [stored.json()["memory_id"]]
    assert found["driver"] == "pgvector"
