"""A driver of six verbs from a user's own module, served as it is."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service import six_verbs
from tests.service.service import Service, assert_problem

NAME = "jars:SixVerbs"
NO_ID = "01a2041e-3795-7337-a045-ffd936bf1f5e"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service on the driver, whose module only PYTHONPATH leads to."""
    folder = tmp_path_factory.mktemp("custom")
    shutil.copy(Path(six_verbs.__file__), folder / "jars.py")
    with (
        Service({"MEMORY_DRIVER": NAME, "PYTHONPATH": str(folder)}) as service,
        service.client() as client,
    ):
        yield client


def test_the_six_verbs_of_a_custom_driver_are_served(client: httpx.Client) -> None:
    memory = {"user_id": "ada", "content": "The kettle is copper.", "tags": ["home"]}
    stored = client.post("/v1/memories", json=memory)
    assert stored.status_code == 201
    memory_id = stored.json()["memory_id"]
    found = client.post("/v1/memories/recall", json={"user_id": "ada", "query": "copper"}).json()
    assert [found["memories"][0][name] for name in memory] == list(memory.values())
    assert (found["driver"], found["degraded"], found["cached"]) == (NAME, False, False)
    path, owner = f"/v1/memories/{memory_id}", {"user_id": "ada"}
    assert_problem(client.delete(path, params={"user_id": "eve"}), 404, "not_found")
    assert client.delete(path, params=owner).status_code == 204
    assert_problem(client.delete(path, params=owner), 404, "not_found")

    knowledge = {"content": "Descale with lemon.", "category": "kitchen"}
    assert client.post("/v1/knowledge", json=knowledge).status_code == 201
    recalled = client.post("/v1/knowledge/recall", json={"query": "lemon"}).json()
    assert [k["content"] for k in recalled["knowledge"]] == ["Descale with lemon."]

    health = client.get("/health").json()
    assert (health["status"], health["capabilities"]) == ("ok", [])
    assert client.get("/health/ready").status_code == 200


def test_what_a_custom_driver_can_not_do_is_a_named_problem(client: httpx.Client) -> None:
    memory = {"user_id": "ada", "content": "The kettle is copper."}
    knowledge = {"content": "Descale with lemon.", "category": "kitchen"}
    for response in (
        client.get("/v1/memories", params={"user_id": "ada"}),
        client.get(f"/v1/memories/{NO_ID}", params={"user_id": "ada"}),
        client.post("/v1/memories/batch", json={"memories": [memory]}),
        client.delete("/v1/users/ada/memories"),
        client.get(f"/v1/knowledge/{NO_ID}"),
        client.patch(f"/v1/memories/{NO_ID}", params={"user_id": "ada"}, json={"tags": ["home"]}),
        client.patch(f"/v1/knowledge/{NO_ID}", json={"title": "Care"}),
        client.delete(f"/v1/knowledge/{NO_ID}"),
        client.post("/v1/knowledge/batch", json={"knowledge": [knowledge]}),
    ):
        assert_problem(response, 501, "capability_missing")
        assert NAME in response.json()["detail"]
