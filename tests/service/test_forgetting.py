"""Users are forgotten whatever their ids are, over a real connection."""

import httpx
import pytest

from tests.service.conftest import KEY
from tests.service.service import Service

IDS = [
    ".",
    "..",
    "org//team",
    "a%2Fb",
    "a/b",
    "%2e",
    " ",
    " ada",
    "ada ",
    "\n",
    "a\\b",
    "é",
    "\U0001f600",
]
"""Each is another user; of some a path or a proxy makes one of the others."""
HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def client(service: Service) -> httpx.Client:
    return httpx.Client(base_url=service.url, headers=HEADERS, timeout=30)


def test_every_id_is_forgotten_by_itself(client: httpx.Client) -> None:
    for user_id in IDS:
        new = {"memories": [{"user_id": user_id, "content": "A kettle."}] * 2}
        assert client.post("/v1/memories/batch", json=new).status_code == 201
    for n, user_id in enumerate(IDS):
        forgotten = client.post("/v1/users/forget", json={"user_id": user_id})
        assert forgotten.json() == {"deleted": 2}
        users = client.get("/v1/users", params={"limit": 100}).json()["users"]
        listed = {each["user_id"]: each["memories"] for each in users}
        assert {each: listed.get(each) for each in IDS} == {
            **dict.fromkeys(IDS[: n + 1]),
            **dict.fromkeys(IDS[n + 1 :], 2),
        }
        assert client.post("/v1/users/forget", json={"user_id": user_id}).json() == {"deleted": 0}


def test_an_id_with_a_nul_is_refused(client: httpx.Client) -> None:
    for body in ({"user_id": "a\x00"}, {"user_id": "\x00"}):
        assert client.post("/v1/users/forget", json=body).status_code == 422
