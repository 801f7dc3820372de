"""API keys: who has one is served, who has none is told so, and nobody sees them."""

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from tests.service.service import Service, assert_problem

PLAIN = "copper-kettle-1"
HASHED = "copper-kettle-2"
DIGEST = hashlib.sha256(HASHED.encode()).hexdigest()
BODY = {"user_id": "ada", "query": "kettle"}


@pytest.fixture(scope="module")
def keyed() -> Iterator[Service]:
    """A service with two keys; the driver does not matter."""
    settings = {
        "MEMORY_DRIVER": "tests.service.six_verbs:SixVerbs",
        "MEMORY_API_KEYS": f"{PLAIN}, sha256:{DIGEST}",
        "MEMORY_LOG_LEVEL": "debug",
    }
    with Service(settings) as service:
        yield service


def recall(service: Service, authorization: str | None) -> httpx.Response:
    with service.client({"Authorization": authorization} if authorization else None) as client:
        return client.post("/v1/memories/recall", json=BODY)


@pytest.mark.parametrize("key", [PLAIN, HASHED])
def test_either_key_opens(keyed: Service, key: str) -> None:
    assert recall(keyed, f"Bearer {key}").status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer",
        "Bearer wrong",
        f"Bearer {PLAIN}x",
        f"Bearer {PLAIN}, sha256:{DIGEST}",
        f"Bearer sha256:{DIGEST}",
        f"Bearer {DIGEST}",
        f"Basic {PLAIN}",
        PLAIN,
    ],
)
def test_anything_else_is_unauthorized(keyed: Service, authorization: str | None) -> None:
    response = recall(keyed, authorization)
    assert_problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_every_route_but_health_and_metrics_needs_a_key(keyed: Service) -> None:
    with keyed.client() as client:
        for path, methods in client.get("/openapi.json").json()["paths"].items():
            for method in methods:
                response = client.request(method, path)
                if path.startswith(("/health", "/metrics")):
                    assert response.status_code == 200
                else:
                    assert_problem(response, 401, "unauthorized")


def test_keys_are_never_shown(keyed: Service) -> None:
    answers = [recall(keyed, f"Bearer {key}x").text for key in (PLAIN, HASHED)]
    with keyed.client() as client:
        answers.append(client.get("/health").text)
    for secret in (PLAIN, HASHED, DIGEST):
        assert secret not in "".join(answers)
        assert secret not in keyed.output
