"""Who is served, and with what: holders of a key, or, without any key, this machine."""

import hashlib
import json

import pytest
from fastapi import APIRouter

from app.api.auth import needs, scope_of
from app.api.dependencies import WholeDriverDep
from app.api.route import ApiRoute
from app.embedding import Embedder
from tests.api.serving import Api, build_app, read_problem, serving

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
        embedder, peer="203.0.113.9", host="localhost:8000", allow_anonymous=True
    ) as api:
        assert await status(api) == 200


async def test_a_key_is_needed_even_when_anonymous_is_allowed(embedder: Embedder) -> None:
    async with serving(embedder, allow_anonymous=True, api_keys="key") as api:
        assert await status(api) == 401
        assert await status(api, b"Bearer key") == 200


SCOPES = {
    "store": "write",
    "store_many": "write",
    "recall": "read",
    "list_memories": "read",
    "get_memory": "read",
    "update": "write",
    "delete": "write",
    "delete_user": "write",
    "delete_many": "write",
    "forget_user": "write",
    "list_users": "admin",
    "store_knowledge": "write",
    "store_knowledge_many": "write",
    "recall_knowledge": "read",
    "list_knowledge": "read",
    "get_knowledge": "read",
    "put_document": "write",
    "put_any_document": "write",
    "delete_document": "write",
    "delete_any_document": "write",
    "update_knowledge": "write",
    "delete_knowledge": "write",
    "export": "read",
    "import": "admin",
    "repair": "admin",
    "reembed": "admin",
    "call_off_reembed": "admin",
}
VERBS = {"read": "read", "write": "write", "admin": "administer the service"}
SCOPED_KEYS = "r;scopes=read,w;scopes=write,a;scopes=admin,all,t;tenant=acme"
GRANTED = {"r": {"read"}, "w": {"write"}, "a": {"admin"}, "all": {"read", "write", "admin"}}


def test_every_route_says_what_a_key_must_be_allowed(embedder: Embedder) -> None:
    scopes = {}
    for route in build_app(embedder).routes:
        path = getattr(route, "path", "")
        if isinstance(route, ApiRoute):
            assert path.startswith("/v1/")
            scopes[route.operation_id] = scope_of(route.endpoint)
        else:
            assert path.startswith(
                ("/health", "/metrics", "/docs", "/openapi.json", "/static-offline-docs")
            )
    assert scopes == SCOPES


def test_a_route_that_does_not_say_it_can_not_be_made() -> None:
    router = APIRouter(route_class=ApiRoute)
    with pytest.raises(TypeError, match="lacks @needs"):

        @router.get("/v1/anything")
        async def anything() -> None: ...


@pytest.mark.parametrize("key", GRANTED)
async def test_a_key_may_do_what_its_scopes_say_and_nothing_else(
    embedder: Embedder, key: str
) -> None:
    async with serving(embedder, api_keys=SCOPED_KEYS) as api:
        document = api.app.openapi()
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if path.startswith(("/health", "/metrics")):
                    continue
                needed = SCOPES[operation["operationId"]]
                whose = {"user_id": "ada"} if operation["operationId"] == "export" else None
                response = await api.client.request(
                    method, path, params=whose, headers={"Authorization": f"Bearer {key}"}
                )
                if needed in GRANTED[key]:  # these requests lack all that the routes ask for
                    assert response.status_code in {404, 415, 422, 200}, operation["operationId"]
                else:
                    problem = read_problem(response, 403, "forbidden")
                    assert problem["detail"] == f"This API key may not {VERBS[needed]}."


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        ("a", None),
        ("all", None),
        ("r", "This API key may not administer the service."),
        ("t", "This API key may not administer the service: it is a tenant's."),
    ],
)
async def test_the_service_is_administered_with_the_scope_admin_by_no_tenant(
    embedder: Embedder, key: str, detail: str | None
) -> None:
    router = APIRouter(route_class=ApiRoute)

    @router.post("/v1/admin/look")
    @needs("admin")
    async def look(driver: WholeDriverDep) -> str:
        return driver.name

    async with serving(embedder, api_keys=SCOPED_KEYS) as api:
        api.app.include_router(router)
        response = await api.client.post(
            "/v1/admin/look", headers={"Authorization": f"Bearer {key}"}
        )
    if detail is None:
        assert (response.status_code, response.json()) == (200, "inmemory")
    else:
        assert read_problem(response, 403, "forbidden")["detail"] == detail


async def test_the_log_tells_a_keys_name_and_never_the_key(
    embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")
    keys = "copper-kettle;name=crm;scopes=read,steel-kettle;name=etl,iron-kettle"
    async with serving(embedder, api_keys=keys) as api:
        for key in ("copper-kettle", "steel-kettle", "iron-kettle", "wrong"):
            for method in ("GET", "DELETE"):
                path = PATH if method == "GET" else "/v1/users/ada/memories"
                await api.client.request(method, path, headers={"Authorization": f"Bearer {key}"})
    ends = [r.msg for r in caplog.records if isinstance(r.msg, dict) and "status" in r.msg]
    assert [(end.get("api_key"), end["status"]) for end in ends] == [
        ("crm", 200),
        ("crm", 403),
        ("etl", 200),
        ("etl", 200),
        (None, 200),
        (None, 200),
        (None, 401),
        (None, 401),
    ]
    assert "kettle" not in json.dumps([str(record.msg) for record in caplog.records])
