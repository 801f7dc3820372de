"""Through a real nginx: nobody's memories are deleted for another's, and nobody is this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import pytest

from tests.service.nginx import BINARY, LOCATIONS, UNTOLD, Nginx, passing_on
from tests.service.service import Service, assert_problem

pytestmark = pytest.mark.skipif(BINARY is None, reason="there is no nginx on this machine")

KEY = "the-key-of-nginx"
VICTIMS = ("victim", "org/team")
HOSTILE = [
    "x/../victim",
    "/victim",
    "victim/",
    "./victim",
    "x/./../victim",
    "org//team",
    "../users/victim",
    "x%2F..%2Fvictim",
    "x\\..\\victim",
    "victim",
    "victim/memories#",
    "victim/memories?",
]
"""Ids of a user who would like another's memories to be deleted; also the other's own."""


@dataclass(frozen=True)
class Behind:
    """A service, and the nginx in front of it."""

    service: Service
    nginx: Nginx

    def fill(self) -> None:
        """Give each victim the one memory."""
        with self.service.client() as client:
            for user_id in VICTIMS:
                page = client.get("/v1/memories", params={"user_id": user_id}).json()
                for memory in page["memories"]:
                    path = f"/v1/memories/{memory['memory_id']}"
                    client.delete(path, params={"user_id": user_id}).raise_for_status()
                self.service.store(user_id, "kettle")

    def left(self) -> dict[str, int]:
        """How many memories each victim has."""
        with self.service.client() as client:
            pages = {
                user_id: client.get("/v1/memories", params={"user_id": user_id}).json()
                for user_id in VICTIMS
            }
        return {user_id: len(page["memories"]) for user_id, page in pages.items()}


UNTOUCHED = dict.fromkeys(VICTIMS, 1)


@pytest.fixture(scope="module")
def keyed() -> Iterator[Behind]:
    with Service({"MEMORY_DRIVER": "inmemory"}, KEY) as service, passing_on(service.url) as nginx:
        yield Behind(service, nginx)


@pytest.fixture(scope="module")
def keyless() -> Iterator[Behind]:
    with Service({"MEMORY_DRIVER": "inmemory"}) as service, passing_on(service.url) as nginx:
        yield Behind(service, nginx)


@pytest.fixture
def client(keyed: Behind, way: str) -> Iterator[httpx.Client]:
    """A client of the service with a key, through nginx in this way."""
    with keyed.nginx.client(way, {"Authorization": f"Bearer {KEY}"}) as client:
        yield client


@pytest.mark.parametrize("way", LOCATIONS)
def test_nobodys_memories_are_deleted_by_a_path_that_nginx_rewrites(
    keyed: Behind, client: httpx.Client
) -> None:
    keyed.fill()
    for user_id in HOSTILE:
        path = quote(user_id, safe="").replace(".", "%2E")
        response = client.delete(f"/v1/users/{path}/memories")
        assert keyed.left() == UNTOUCHED, user_id
        if response.status_code != 404:  # nginx itself knows no such place
            assert_problem(response, 422, "invalid_input")
            assert "POST /v1/users/forget" in response.json()["detail"]


@pytest.mark.parametrize("way", LOCATIONS)
def test_a_path_to_a_record_never_becomes_one_to_a_user(
    keyed: Behind, client: httpx.Client
) -> None:
    keyed.fill()
    for path in (
        "/v1/knowledge/..%2Fusers%2Fvictim%2Fmemories",
        "/v1/memories/..%2Fusers%2Fvictim%2Fmemories",
        "/v1/memories/..%2Fusers%2Fvictim%2Fmemories?user_id=eve",
    ):
        assert client.delete(path).status_code in {404, 422}
        assert keyed.left() == UNTOUCHED


@pytest.mark.parametrize("way", [*LOCATIONS, UNTOLD])
def test_any_user_is_forgotten_through_nginx_by_the_id_in_the_body(
    keyed: Behind, client: httpx.Client
) -> None:
    keyed.fill()
    for user_id in HOSTILE:
        if user_id not in VICTIMS:
            keyed.service.store(user_id, "kettle")
            forgotten = client.post("/v1/users/forget", json={"user_id": user_id})
            assert forgotten.json() == {"deleted": 1}, user_id
            assert keyed.left() == UNTOUCHED
    forgotten = client.post("/v1/users/forget", json={"user_id": "victim"})
    assert forgotten.json() == {"deleted": 1}
    assert keyed.left() == {"victim": 0, "org/team": 1}


@pytest.mark.parametrize("way", LOCATIONS)
def test_without_a_key_nobody_behind_nginx_is_this_machine(keyless: Behind, way: str) -> None:
    keyless.fill()
    with keyless.nginx.client(way) as client:
        memory = {"user_id": "eve", "content": "kettle"}
        for response in (
            client.post("/v1/memories", json=memory),
            client.post("/v1/memories/recall", json={"user_id": "victim"}),
            client.get("/v1/memories", params={"user_id": "victim"}),
            client.delete("/v1/users/victim/memories"),
            client.post("/v1/users/forget", json={"user_id": "victim"}),
        ):
            assert_problem(response, 403, "forbidden")
        health = client.get("/health").json()
    assert (health["status"], health["driver"]["facts"]) == ("ok", {})
    assert keyless.left() == UNTOUCHED
