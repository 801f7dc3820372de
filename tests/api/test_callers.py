"""Who needs no key: who calls from this machine, means this service, and came through no proxy."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.embedding import Embedder
from app.settings import Settings
from tests.api.serving import Api, read_problem, serving

LISTED = "api, Memory.Example.,[fd00::8],my_name"
MEMORY = {"user_id": "ada", "content": "kettle"}


async def is_served(api: Api, **headers: str) -> bool:
    """Whether a caller with these headers may read and delete; the same for both."""
    read = await api.client.get("/v1/memories?user_id=ada", headers=headers)
    deleted = await api.client.delete("/v1/users/ada/memories", headers=headers)
    assert read.status_code == deleted.status_code
    if read.status_code == 403:
        read_problem(read, 403, "forbidden")
        return False
    return read.status_code == 200


FORWARDING = [
    "Forwarded",
    "Via",
    "X-Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Server",
    "X-Forwarded-Prefix",
    "X-Forwarded-Client-Cert",
    "X_Forwarded_For",
    "Forwarded-For",
    "X-Real-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Remote-IP",
    "X-Remote-Addr",
    "X-Originating-IP",
    "X-ProxyUser-Ip",
    "Client-IP",
    "True-Client-IP",
    "WL-Proxy-Client-IP",
    "Proxy-Connection",
    "Proxy-Authorization",
    "X-Host",
    "X-Original-URL",
    "X-Original-Host",
    "X-Original-Forwarded-For",
    "X-Rewrite-URL",
    "X-Scheme",
    "Front-End-Https",
    "CDN-Loop",
    "CF-Connecting-IP",
    "CF-Ray",
    "Fastly-Client-IP",
    "Fly-Client-IP",
    "DO-Connecting-IP",
    "X-Amzn-Trace-Id",
    "X-Amz-Cf-Id",
    "X-AppEngine-User-IP",
    "X-ARR-LOG-ID",
    "X-Azure-ClientIP",
    "X-Azure-SocketIP",
    "X-Cloud-Trace-Context",
    "X-Envoy-External-Address",
]
ORDINARY = {
    "User-Agent": "curl/8.5.0",
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "close",
    "Cache-Control": "no-cache",
    "Referer": "http://localhost:8000/docs",
    "Origin": "http://localhost:8000",
    "Sec-Fetch-Site": "same-origin",
    "X-Request-ID": "mine",
    "X-Requested-With": "XMLHttpRequest",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "DNT": "1",
    "X-Chip": "1",
    "Description": "a tool",
}


@pytest.mark.parametrize("name", FORWARDING)
@pytest.mark.parametrize("value", ["127.0.0.1", "203.0.113.9", ""])
async def test_without_keys_what_a_proxy_passed_on_is_refused(
    embedder: Embedder, name: str, value: str
) -> None:
    async with serving(embedder) as api:
        assert not await is_served(api, **{name: value})


async def test_without_keys_a_tool_of_this_machine_is_served(embedder: Embedder) -> None:
    async with serving(embedder) as api:
        assert await is_served(api, **ORDINARY)


@pytest.mark.parametrize("name", ["Via", "X-Forwarded-For", "X-Real-IP"])
async def test_a_proxy_is_no_hindrance_where_other_machines_are_served_or_a_key_is_sent(
    embedder: Embedder, name: str
) -> None:
    async with serving(embedder, peer="203.0.113.9", allow_anonymous=True) as api:
        stored = await api.client.post("/v1/memories", json=MEMORY, headers={name: "1.1 p"})
        assert stored.status_code == 201
    async with serving(embedder, peer="203.0.113.9", api_keys="key") as api:
        headers = {name: "1.1 p", "Authorization": "Bearer key"}
        stored = await api.client.post("/v1/memories", json=MEMORY, headers=headers)
        assert stored.status_code == 201


REBOUND = [
    "rebind.example",
    "rebind.example:8000",
    "localhost.rebind.example",
    "127.0.0.1.rebind.example",
    "192.168.1.5.rebind.example",
    "api.rebind.example",
    "xapi",
    "api:8000:8000",
    "api:x",
    "a@api",
    "api/",
    "api..",
    "localhost,api",
    "127.1",
    "0x7f.0.0.1",
    "2130706433",
    "[rebind.example]",
    "[192.168.1.5]",
    "[::1",
    "*",
    ".",
    ":8000",
    "",
]


@pytest.mark.parametrize("host", REBOUND)
@pytest.mark.parametrize("peer", ["127.0.0.1", "203.0.113.9"])
async def test_anonymous_callers_are_not_served_by_a_rebound_name(
    embedder: Embedder, host: str, peer: str
) -> None:
    async with serving(embedder, peer=peer, allow_anonymous=True, allowed_hosts=LISTED) as api:
        assert not await is_served(api, Host=host, Origin=f"http://{host}")
        problem = (await api.client.get("/v1/memories", headers={"Host": host})).json()
        assert "MEMORY_ALLOWED_HOSTS" in problem["detail"]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "localhost:",
        "127.0.0.1:8000",
        "[::1]:8000",
        "[0:0::1]",
        # Nobody can rebind an address.
        "192.168.1.5:8000",
        "203.0.113.7",
        "[fd00::1]:8000",
    ],
)
@pytest.mark.parametrize("listed", ["", LISTED])
async def test_anonymous_callers_are_served_by_this_machines_name_and_by_any_address(
    embedder: Embedder, host: str, listed: str
) -> None:
    async with serving(
        embedder, peer="203.0.113.9", allow_anonymous=True, allowed_hosts=listed
    ) as api:
        assert await is_served(api, Host=host)


@pytest.mark.parametrize(
    "host",
    ["api", "API:8000", "api.:80", "memory.example", "MEMORY.example.:1", "my_name", "[FD00:0::8]"],
)
async def test_a_listed_name_is_served_also_where_only_this_machine_is(
    embedder: Embedder, host: str
) -> None:
    for anybody in (True, False):
        async with serving(embedder, allow_anonymous=anybody, allowed_hosts=LISTED) as api:
            assert await is_served(api, Host=host)
    async with serving(embedder) as api:
        assert not await is_served(api, Host=host)
    async with serving(embedder, peer="203.0.113.9", allowed_hosts=LISTED) as api:
        assert not await is_served(api, Host=host)


async def test_whoever_sends_a_key_may_call_the_service_anything(embedder: Embedder) -> None:
    async with serving(embedder, api_keys="key", allow_anonymous=True) as api:
        for host in REBOUND:
            assert await is_served(api, Host=host, Authorization="Bearer key")


@pytest.mark.parametrize(
    "listed",
    [
        "*",
        "*.example",
        "http://api",
        "api:8000",
        "api,bücher.example",
        "a b",
        "::1",
        "api,..",
        ",",
        "[api]",
    ],
)
def test_a_list_of_hosts_that_is_none_is_refused_by_its_entry(listed: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(allowed_hosts=listed)
    message = refused.value.errors()[0]["msg"]
    assert re.search(r"has no name|entry [12]: must be the name of a host, such as api", message)


@pytest.mark.parametrize("file", ["docker-compose.yml", "Dockerfile"])
@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("api:8000", True),
        ("rebind.example:8000", False),
        ("db:8000", False),
    ],
)
async def test_the_container_is_called_by_its_service_and_this_machine_and_by_no_rebound_name(
    embedder: Embedder, root: Path, file: str, host: str, served: bool
) -> None:
    found = re.findall(r"MEMORY_ALLOWED_HOSTS[:=] *(\S+)", (root / file).read_text())
    assert len(found) == 1
    # As docker's own proxy, from its network.
    async with serving(
        embedder, peer="172.18.0.1", host=host, allow_anonymous=True, allowed_hosts=found[0]
    ) as api:
        assert await is_served(api) is served
