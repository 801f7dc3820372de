"""Who is served: holders of a key, or, without any key, this machine."""

import hashlib

import pytest

from app.embedding import Embedder
from tests.api.serving import Api, read_problem, serving

PATH = "/v1/memories?user_id=ada"
HASHED = "sha256:" + hashlib.sha256(b"hashed-key").hexdigest()
KEYS = f" plain-key , {HASHED},schlüssel,with space ,"


async def status(api: Api, *authorization: bytes) -> int:
    """The status of a request with these Authorization headers."""
    headers = [(b"Authorization", value) for value in authorization]
    response = await api.client.get(PATH, headers=headers)
    if response.status_code == 401:
        read_problem(response, 401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
    return response.status_code


@pytest.mark.parametrize(
    "authorization",
    [
        b"Bearer plain-key",
        b"bearer plain-key",
        b"BEARER plain-key",
        b"Bearer   plain-key  ",
        b"Bearer hashed-key",
        "Bearer schlüssel".encode(),
        b"Bearer with space",
    ],
)
async def test_each_key_opens_from_anywhere(embedder: Embedder, authorization: bytes) -> None:
    async with serving(embedder, peer="203.0.113.9", host="memory.example", api_keys=KEYS) as api:
        assert await status(api, authorization) == 200


@pytest.mark.parametrize(
    "authorization",
    [
        [],
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [b"Bearer  "],
        [b"Bearer ,"],
        [b"Bearer wrong"],
        [b"Bearer plain-ke"],
        [b"Bearer plain-keyy"],
        [b"Bearer PLAIN-KEY"],
        [b"Bearer plain-key,hashed-key"],
        [b"Bearer " + HASHED.encode()],
        [b"Bearer " + HASHED.removeprefix("sha256:").encode()],
        ["Bearer schlüssel".encode("latin-1")],
        [b"Bearer \xff\xfe"],
        [b"Bearer\tplain-key"],
        [b"Basic plain-key"],
        [b"Basic OnBsYWluLWtleQ=="],
        [b"Token plain-key"],
        [b"plain-key"],
        [b"Bearer wrong", b"Bearer plain-key"],
        [b"Bearer plain-key", b"Bearer wrong"],
        [b"Bearer plain-key", b"Bearer plain-key"],
    ],
)
async def test_anything_but_one_key_is_refused_from_this_machine_too(
    embedder: Embedder, authorization: list[bytes]
) -> None:
    async with serving(embedder, api_keys=KEYS) as api:
        assert await status(api, *authorization) == 401


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "203.0.113.9"])
async def test_health_needs_no_key(embedder: Embedder, path: str, peer: str) -> None:
    async with serving(embedder, peer=peer, api_keys=KEYS) as api:
        assert (await api.client.get(path)).status_code == 200


async def test_a_caller_without_a_key_learns_nothing_of_its_input(embedder: Embedder) -> None:
    async with serving(embedder, api_keys=KEYS) as api:
        for path in ("/v1/memories", "/v1/memories?user_id=%ff", "/v1/memories/x?user_id=a&b=c"):
            read_problem(await api.client.get(path), 401, "unauthorized")
        read_problem(await api.client.post("/v1/memories", content=b"{"), 401, "unauthorized")


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "localhost:8000"),
        ("127.0.0.1", "LOCALHOST:8000"),
        ("127.0.0.1", "127.0.0.1:8000"),
        ("127.8.9.1", "127.0.0.1"),
        ("::1", "[::1]:8000"),
        ("::1", "localhost"),
    ],
)
async def test_without_keys_this_machine_is_served(
    embedder: Embedder, peer: str, host: str
) -> None:
    async with serving(embedder, peer=peer, host=host) as api:
        assert await status(api) == 200


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("203.0.113.9", "localhost"),
        ("10.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "localhost"),
        ("fe80::1", "localhost"),
        ("testclient", "localhost"),
        ("", "localhost"),
        ("127.0.0.1", "rebound.example"),
        ("127.0.0.1", "rebound.example:8000"),
        ("127.0.0.1", "localhost.rebound.example"),
        ("127.0.0.1", "127.0.0.1.rebound.example"),
        ("127.0.0.1", "xlocalhost"),
        ("127.0.0.1", "10.0.0.5"),
    ],
)
async def test_without_keys_no_other_machine_and_no_rebound_name_is_served(
    embedder: Embedder, peer: str, host: str
) -> None:
    async with serving(embedder, peer=peer, host=host) as api:
        read_problem(await api.client.get(PATH), 403, "forbidden")
        read_problem(await api.client.delete("/v1/users/ada/memories"), 403, "forbidden")


async def test_without_a_host_nobody_is_served(embedder: Embedder) -> None:
    async with serving(embedder) as api:
        read_problem(await api.client.get(PATH, headers={"Host": ""}), 403, "forbidden")


async def test_every_machine_is_served_when_the_settings_say_so(embedder: Embedder) -> None:
    async with serving(
        embedder, peer="203.0.113.9", host="memory.example", allow_anonymous=True
    ) as api:
        assert await status(api) == 200


async def test_a_key_is_needed_even_when_anonymous_is_allowed(embedder: Embedder) -> None:
    async with serving(embedder, allow_anonymous=True, api_keys="key") as api:
        assert await status(api) == 401
        assert await status(api, b"Bearer key") == 200
