"""Two tenants' keys on one service: whatever one sends, it never meets the other."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from app.drivers.inmemory import InMemoryDriver
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from app.wrappers.scoped import ScopedDriver
from tests.api.serving import Api, Maker, read_places, read_problem, serving
from tests.conftest import NewDatabase
from tests.service.six_verbs import SixVerbs

KEYS = "acme-key;tenant=acme;name=a,globex-key;tenant=globex,acme-2;tenant=acme,free-key"
IMITATIONS = [
    "\x1f",
    "\x1facme",
    "\x1facme\x1f",
    "\x1facme\x1fada",
    "\x1fglobex\x1fada",
    "\x1f\x1f",
]


@dataclass
class Holder:
    """Whoever holds a key."""

    api: Api
    key: str

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        return await self.api.client.request(method, path, headers=headers, **options)

    async def post(self, path: str, body: object) -> httpx.Response:
        return await self.send("POST", path, json=body)

    async def store(self, user_id: str, content: str, **more: Any) -> str:
        response = await self.post("/v1/memories", {"user_id": user_id, "content": content, **more})
        assert response.status_code == 201, response.text
        assert response.json()["user_id"] == user_id
        return str(response.json()["memory_id"])

    async def teach(self, content: str, category: str) -> str:
        response = await self.post("/v1/knowledge", {"content": content, "category": category})
        assert response.status_code == 201, response.text
        assert response.json()["category"] == category
        return str(response.json()["knowledge_id"])

    async def recalled(self, user_id: str, **more: Any) -> list[str]:
        response = await self.post("/v1/memories/recall", {"user_id": user_id, **more})
        assert response.status_code == 200, response.text
        memories = response.json()["memories"]
        assert {memory["user_id"] for memory in memories} <= {user_id}
        return [memory["content"] for memory in memories]

    async def known(self, query: str = "kettle", **more: Any) -> list[str]:
        response = await self.post("/v1/knowledge/recall", {"query": query, **more})
        assert response.status_code == 200, response.text
        return [record["content"] for record in response.json()["knowledge"]]


@dataclass
class Tenants:
    api: Api
    acme: Holder
    globex: Holder
    free: Holder


async def holders(api: Api) -> Tenants:
    keys = ("acme-key", "globex-key", "free-key")
    return Tenants(api, *(Holder(api, key) for key in keys))


@pytest.fixture(params=["inmemory", "pgvector"])
async def tenants(
    request: pytest.FixtureRequest, embedder: Embedder, new_database: NewDatabase
) -> AsyncIterator[Tenants]:
    """The holders of keys of a service with nothing stored."""
    maker: Maker | None = None
    if request.param == "pgvector":
        database = DatabaseSettings(url=SecretStr(await new_database()))

        def make(context: Any) -> PgvectorDriver:
            return PgvectorDriver(database, embedder, context.settings.limits)

        maker = make
    async with serving(embedder, maker, api_keys=KEYS) as api:
        yield await holders(api)


async def test_the_same_user_and_category_of_two_tenants_are_two(tenants: Tenants) -> None:
    everyone = {"acme": tenants.acme, "globex": tenants.globex, "free": tenants.free}
    for name, holder in everyone.items():
        await holder.store("ada", f"{name} kettle", conversation_id="c", tags=["t"])
        await holder.teach(f"{name} kettle", "kitchen")
    for name, holder in everyone.items():
        mine = [f"{name} kettle"]
        for how in ({}, {"query": "kettle"}, {"query": "kettle", "use_vector": False}):
            assert await holder.recalled("ada", top_k=100, **how) == mine
            assert await holder.recalled("ada", conversation_id="c", **how) == mine
        assert await holder.known(top_k=100) == mine
        assert await holder.known(category="kitchen") == mine
        assert await holder.known(category="\x1facme") == []
        listed = (await holder.send("GET", "/v1/memories?user_id=ada")).json()
        assert [memory["content"] for memory in listed["memories"]] == mine
    assert await Holder(tenants.api, "acme-2").recalled("ada") == ["acme kettle"]


async def test_anothers_ids_find_nothing_and_delete_nothing(tenants: Tenants) -> None:
    acme = tenants.acme
    memory, knowledge = await acme.store("ada", "kettle"), await acme.teach("kettle", "c")
    users = ["ada", "acme", *IMITATIONS]
    methods: list[tuple[str, dict[str, Any]]] = [
        ("GET", {}),
        ("PATCH", {"json": {"content": "theirs"}}),
        ("DELETE", {}),
    ]
    for holder in (tenants.globex, tenants.free):
        for record in (memory, knowledge):
            for user in users:
                url = f"/v1/memories/{record}?user_id={quote(user)}"
                for method, options in methods:
                    status = (await holder.send(method, url, **options)).status_code
                    refused = holder is tenants.free and user.startswith("\x1f")
                    assert status == (422 if refused else 404), (holder.key, method, user)
            for method, options in methods:
                response = await holder.send(method, f"/v1/knowledge/{record}", **options)
                read_problem(response, 404, "not_found")
        for user in users:
            response = await holder.send("DELETE", f"/v1/users/{quote(user, safe='')}/memories")
            assert response.status_code in {200, 422}
            assert response.json().get("deleted", 0) == 0
    for method, options in methods:  # nor does a tenant take the one kind for the other
        assert (await acme.send(method, f"/v1/knowledge/{memory}", **options)).status_code == 404
        url = f"/v1/memories/{knowledge}?user_id={quote(chr(31) + 'acme')}"
        assert (await acme.send(method, url, **options)).status_code == 404
    assert await acme.recalled("ada") == await acme.known() == ["kettle"]
    assert (await acme.send("DELETE", f"/v1/knowledge/{knowledge}")).status_code == 204
    assert (await acme.send("DELETE", f"/v1/memories/{memory}?user_id=ada")).status_code == 204


async def test_a_tenant_updates_its_own_records_alone(tenants: Tenants) -> None:
    everyone = {"acme": tenants.acme, "globex": tenants.globex, "free": tenants.free}
    urls = {}
    for name, holder in everyone.items():
        memory, knowledge = await holder.store("ada", "kettle"), await holder.teach("kettle", "c")
        urls[name] = f"/v1/memories/{memory}?user_id=ada", f"/v1/knowledge/{knowledge}"
    for name, holder in everyone.items():
        for url in urls[name]:
            stored = await holder.send("GET", url)
            content = f"{name} kettle"
            answer = await holder.send("PATCH", url, json={"content": content})
            assert answer.json() == {
                **stored.json(),
                "content": content,
                "updated_at": answer.json()["updated_at"],
            }
            assert answer.headers["ETag"] != stored.headers["ETag"]
            got = await holder.send("GET", url)
            assert (got.json(), got.headers["ETag"]) == (answer.json(), answer.headers["ETag"])
    for name, holder in everyone.items():
        assert await holder.recalled("ada") == await holder.known() == [f"{name} kettle"]


async def test_anothers_cursor_shows_nothing_of_theirs(tenants: Tenants) -> None:
    for n in range(3):
        await tenants.acme.store("ada", f"acme {n}")
        await tenants.globex.store("ada", f"globex {n}")
    first = await tenants.acme.send("GET", "/v1/memories?user_id=ada&limit=1")
    url = f"/v1/memories?user_id=ada&cursor={quote(first.json()['next_cursor'])}"
    found = (await tenants.globex.send("GET", url)).json()["memories"]
    assert {memory["content"] for memory in found} <= {"globex 0", "globex 1", "globex 2"}
    assert (await tenants.free.send("GET", url)).json()["memories"] == []


async def test_batches_with_several_users_stay_in_their_tenant(tenants: Tenants) -> None:
    users = ["ada", "bob", "\x1facme\x1fada", "\x1facme"]
    memories = [{"user_id": user, "content": f"globex {user!r}"} for user in users]
    stored = await tenants.globex.post("/v1/memories/batch", {"memories": memories})
    assert [memory["user_id"] for memory in stored.json()["memories"]] == users
    knowledge = [{"content": f"globex {n}", "category": f"\x1facme{n}"} for n in range(2)]
    assert (await tenants.globex.post("/v1/knowledge/batch", {"knowledge": knowledge})).is_success
    for user in users:
        assert await tenants.globex.recalled(user) == [f"globex {user!r}"]
        assert await tenants.acme.recalled(user) == []
    assert await tenants.acme.known("globex") == await tenants.free.known("globex") == []
    assert len(await tenants.globex.known("globex")) == 2
    free = await tenants.free.post("/v1/memories/batch", {"memories": memories})
    assert read_places(free) == [["body", "memories", n, "user_id"] for n in (2, 3)]
    assert await tenants.free.recalled("ada") == []


@pytest.mark.parametrize("user_id", IMITATIONS)
async def test_without_a_tenant_no_tenants_user_can_be_named_anywhere(
    tenants: Tenants, user_id: str
) -> None:
    some_id, quoted = await tenants.acme.store("ada", "kettle"), quote(user_id, safe="")
    await tenants.acme.teach("kettle", "c")
    free = tenants.free
    body = {"user_id": user_id, "content": "a"}
    recall = {"user_id": user_id, "query": "kettle"}
    places = [
        (await free.post("/v1/memories", body), ["body", "user_id"]),
        (
            await free.post("/v1/memories/batch", {"memories": [body]}),
            ["body", "memories", 0, "user_id"],
        ),
        (await free.post("/v1/memories/recall", recall), ["body", "user_id"]),
        (await free.send("GET", f"/v1/memories?user_id={quoted}"), ["query", "user_id"]),
        (await free.send("GET", f"/v1/memories/{some_id}?user_id={quoted}"), ["query", "user_id"]),
        (
            await free.send("DELETE", f"/v1/memories/{some_id}?user_id={quoted}"),
            ["query", "user_id"],
        ),
        (
            await free.send("PATCH", f"/v1/memories/{some_id}?user_id={quoted}", json={}),
            ["query", "user_id"],
        ),
        (await free.send("DELETE", f"/v1/users/{quoted}/memories"), ["path", "user_id"]),
    ]
    for response, place in places:
        assert read_places(response) == [place]
    assert await tenants.acme.recalled("ada") == await tenants.acme.known() == ["kettle"]


@pytest.mark.parametrize("user_id", IMITATIONS)
async def test_a_tenants_own_users_may_be_called_anything(tenants: Tenants, user_id: str) -> None:
    await tenants.acme.store("ada", "acme")
    memory = await tenants.globex.store(user_id, "globex")
    assert await tenants.globex.recalled(user_id) == ["globex"]
    for other in ("ada", user_id):
        assert "globex" not in await tenants.acme.recalled(other)
        url = f"/v1/memories/{memory}?user_id={quote(other)}"
        assert (await tenants.acme.send("GET", url)).status_code == 404
    deleted = await tenants.globex.send("DELETE", f"/v1/users/{quote(user_id, safe='')}/memories")
    assert deleted.json() == {"deleted": 1}
    assert await tenants.acme.recalled("ada") == ["acme"]


@pytest.mark.parametrize("holder", ["acme", "free"])
async def test_a_request_can_not_name_a_tenant(tenants: Tenants, holder: str) -> None:
    sender: Holder = getattr(tenants, holder)
    memory = {"user_id": "ada", "content": "a"}
    for path, body in (
        ("/v1/memories", memory),
        ("/v1/memories/recall", {"user_id": "ada"}),
        ("/v1/knowledge", {"content": "a", "category": "c"}),
        ("/v1/knowledge/recall", {"query": "a"}),
    ):
        response = await sender.post(path, {**body, "tenant": "globex"})
        assert read_places(response) == [["body", "tenant"]]
    batch = await sender.post("/v1/memories/batch", {"memories": [{**memory, "tenant": "globex"}]})
    assert read_places(batch) == [["body", "memories", 0, "tenant"]]
    for path in ("/v1/memories?user_id=ada&tenant=globex", "/v1/users/ada/memories?tenant=globex"):
        method = "GET" if "?user_id" in path else "DELETE"
        assert read_places(await sender.send(method, path)) == [["query", "tenant"]]


async def test_a_tenants_answers_look_like_anybodys(tenants: Tenants) -> None:
    """The driver's name, the places of errors, 404 and explanations are as without tenants."""
    acme, free = tenants.acme, tenants.free
    for holder in (acme, free):
        await holder.store("ada", "a copper kettle")
    recall = {"user_id": "ada", "query": "kettle", "explain": True}
    answers = [await holder.post("/v1/memories/recall", recall) for holder in (acme, free)]
    assert answers[0].status_code == answers[1].status_code
    if answers[0].is_success:
        one, other = (answer.json() for answer in answers)
        assert one["driver"] == other["driver"] == "inmemory"
        assert one["memories"][0]["explanation"] == other["memories"][0]["explanation"]
    else:
        assert answers[0].json()["detail"] == answers[1].json()["detail"]
    for user in ("", "x" * 257, "\x00"):
        refused = [
            await holder.post("/v1/memories/recall", {"user_id": user}) for holder in (acme, free)
        ]
        assert refused[0].json()["errors"] == refused[1].json()["errors"]
    longest = "🦊" * Limits().user_id_chars
    await acme.store(longest, "kettle", conversation_id=longest)
    assert await acme.recalled(longest, conversation_id=longest) == ["kettle"]


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("free-key", True),
        ("reader", True),
        ("operator", True),
        ("writer", False),
        ("acme-key", False),
        ("wrong", False),
        ("", False),
    ],
)
async def test_how_many_records_there_are_is_told_to_who_may_read_all_of_them(
    embedder: Embedder, key: str, shown: bool
) -> None:
    keys = f"{KEYS},reader;scopes=read,writer;scopes=write,operator;scopes=admin"

    async with serving(embedder, api_keys=keys) as api:
        await Holder(api, "acme-key").store("ada", "kettle")
        health = await Holder(api, key).send("GET", "/health")
        assert health.status_code == 200
        assert health.json()["status"] == health.json()["driver"]["status"] == "ok"
        facts = {"memories": 1, "knowledge": 0} if shown else {}
        assert health.json()["driver"]["facts"] == facts


@pytest.mark.parametrize(
    ("host", "headers", "shown"),
    [
        ("localhost", {}, True),
        ("rebind.example", {}, False),
        ("localhost", {"Via": "1.1 proxy"}, False),
    ],
)
async def test_without_keys_it_is_told_to_who_would_be_served(
    embedder: Embedder, host: str, headers: dict[str, str], shown: bool
) -> None:
    async with serving(embedder, host=host) as api:
        health = (await api.client.get("/health", headers=headers)).json()
    assert (health["status"], bool(health["driver"]["facts"])) == ("ok", shown)


async def test_health_shows_the_whole_service_to_everybody(embedder: Embedder) -> None:
    async with serving(embedder, api_keys=KEYS) as api:
        for key in ("acme-key", "free-key", "none"):
            health = (await Holder(api, key).send("GET", "/health")).json()
            assert health["driver"]["driver"] == "inmemory"
            assert health["driver"]["drivers"] == []


@pytest.mark.parametrize("keys", ["", "free-key;name=f;scopes=read+write"])
async def test_a_tenants_users_stay_out_of_reach_when_no_key_has_a_tenant_any_more(
    embedder: Embedder, keys: str
) -> None:
    kept = InMemoryDriver(embedder, Limits().widened())
    async with serving(embedder, lambda _: kept, api_keys=KEYS) as api:
        await Holder(api, "acme-key").store("ada", "kettle")
        await Holder(api, "acme-key").teach("kettle", "kitchen")
    async with serving(embedder, lambda _: kept, api_keys=keys) as api:
        free = Holder(api, "free-key")
        await free.store("ada", "a kettle of mine")
        for user_id in IMITATIONS:
            places = [["body", "user_id"]]
            asked = {"user_id": user_id, "query": "kettle"}
            assert read_places(await free.post("/v1/memories/recall", asked)) == places
            stored = {"user_id": user_id, "content": "kettle"}
            assert read_places(await free.post("/v1/memories", stored)) == places
            quoted = quote(user_id, safe="")
            forgotten = await free.send("DELETE", f"/v1/users/{quoted}/memories")
            assert read_places(forgotten) == [["path", "user_id"]]
        assert await free.recalled("ada") == ["a kettle of mine"]
        assert await free.known() == []
    async with serving(embedder, lambda _: kept, api_keys=KEYS) as api:
        assert await Holder(api, "acme-key").recalled("ada") == ["kettle"]
        assert await Holder(api, "acme-key").known() == ["kettle"]


async def test_a_tenants_users_below_a_scoped_driver_stay_out_of_reach_too(
    embedder: Embedder,
) -> None:
    kept = InMemoryDriver(embedder, Limits().widened().widened())
    scoped = ScopedDriver(kept, "outer", Limits().widened())
    async with serving(embedder, lambda _: scoped, api_keys=KEYS) as api:
        await Holder(api, "acme-key").store("ada", "kettle")
    async with serving(embedder, lambda _: scoped) as api:
        asked = {"user_id": "\x1facme\x1fada"}
        refused = await Holder(api, "").api.post("/v1/memories/recall", asked)
        assert read_places(refused) == [["body", "user_id"]]


async def test_what_the_driver_can_do_and_says_of_itself_is_the_drivers_own(
    embedder: Embedder,
) -> None:
    async with serving(embedder) as api:
        part, whole = api.app.state.tenants.part(None), api.app.state.driver
        assert part.capabilities() == whole.capabilities()
        assert await part.health_check() == await api.driver.health_check()
        health = (await api.client.get("/health")).json()
        assert health["capabilities"] == sorted(whole.capabilities())
        found = await api.post("/v1/memories/recall", {"user_id": "ada"})
        assert found.json()["driver"] == "inmemory"


async def test_tenants_of_a_driver_of_six_verbs_never_meet(embedder: Embedder) -> None:
    async with serving(embedder, lambda _: SixVerbs(), api_keys=KEYS) as api:
        tenants = await holders(api)
        ids = {}
        for holder in (tenants.acme, tenants.globex, tenants.free):
            ids[holder.key] = await holder.store("ada", f"{holder.key} kettle")
            await holder.teach(f"{holder.key} kettle", "c")
        for holder in (tenants.acme, tenants.globex, tenants.free):
            assert await holder.recalled("ada") == [f"{holder.key} kettle"]
            assert await holder.known() == [f"{holder.key} kettle"]
            for key, record in ids.items():
                url = f"/v1/memories/{record}?user_id=ada"
                if key != holder.key:
                    assert (await holder.send("DELETE", url)).status_code == 404
            read_problem(
                await holder.send("GET", f"/v1/memories/{ids[holder.key]}?user_id=ada"),
                501,
                "capability_missing",
            )
