"""Every route does what its name says, and what comes back is what was stored."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from fastapi import APIRouter

from app import __version__
from app.api.auth import needs
from app.api.route import ApiRoute
from app.core.memory.records import Knowledge, Memory, Recalled
from app.core.memory.requests import Recall, RecallKnowledge
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.ranking import Explanation
from app.settings import Limits
from tests.api.serving import Api, read_places, serving

MEMORY_FIELDS = [
    "memory_id",
    "user_id",
    "conversation_id",
    "content",
    "tags",
    "metadata",
    "created_at",
    "updated_at",
    "occurred_at",
    "expires_at",
]
KNOWLEDGE_FIELDS = [
    "knowledge_id",
    "category",
    "content",
    "title",
    "doc_id",
    "metadata",
    "created_at",
    "updated_at",
    "expires_at",
    "position",
]


async def store(api: Api, user_id: str, content: str, **more: Any) -> dict[str, Any]:
    """Store a memory; the answer."""
    response = await api.post("/v1/memories", {"user_id": user_id, "content": content, **more})
    assert response.status_code == 201, response.text
    stored: dict[str, Any] = response.json()
    return stored


async def test_a_memory_is_stored_got_listed_recalled_and_deleted(api: Api) -> None:
    stored = await store(
        api, "ada", "The kettle is copper.", conversation_id="c", tags=["t"], metadata={"a": 1}
    )
    assert list(stored) == MEMORY_FIELDS
    assert UUID(stored["memory_id"]).version == 7
    age = datetime.now(UTC) - datetime.fromisoformat(stored["created_at"])
    assert stored["created_at"].endswith("Z")
    assert abs(age.total_seconds()) < 10

    url = f"/v1/memories/{stored['memory_id']}?user_id=ada"
    got = await api.client.get(url)
    assert (got.status_code, got.json()) == (200, stored)

    listed = await api.client.get("/v1/memories?user_id=ada")
    assert (listed.status_code, listed.json()) == (200, {"memories": [stored], "next_cursor": None})

    recalled = await api.post("/v1/memories/recall", {"user_id": "ada", "query": "kettle"})
    assert recalled.status_code == 200
    answer = recalled.json()
    assert set(answer) == {"memories", "driver", "degraded", "cached"}
    assert (answer["driver"], answer["degraded"], answer["cached"]) == ("inmemory", False, False)
    (found,) = answer["memories"]
    assert list(found) == [*MEMORY_FIELDS, "score"]
    assert 0.5 < found.pop("score") <= 1
    assert found == stored

    deleted = await api.client.delete(url)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await api.client.delete(url)).status_code == 404
    assert (await api.client.get(url)).status_code == 404


async def test_knowledge_is_stored_got_recalled_and_deleted(api: Api) -> None:
    response = await api.post(
        "/v1/knowledge",
        {"content": "Use lemon.", "category": "kitchen", "title": "T", "doc_id": "d"},
    )
    assert response.status_code == 201
    stored = response.json()
    assert list(stored) == KNOWLEDGE_FIELDS
    assert UUID(stored["knowledge_id"]).version == 7

    url = f"/v1/knowledge/{stored['knowledge_id']}"
    assert (await api.client.get(url)).json() == stored

    recalled = await api.post("/v1/knowledge/recall", {"query": "lemon", "category": "kitchen"})
    answer = recalled.json()
    assert set(answer) == {"knowledge", "driver", "degraded", "cached"}
    (found,) = answer["knowledge"]
    assert list(found) == [*KNOWLEDGE_FIELDS, "score"]
    assert 0.5 < found.pop("score") <= 1
    assert found == stored
    other = await api.post("/v1/knowledge/recall", {"query": "lemon", "category": "garden"})
    assert other.json()["knowledge"] == []

    assert (await api.client.delete(url)).status_code == 204
    assert (await api.client.delete(url)).status_code == 404
    assert (await api.client.get(url)).status_code == 404


async def test_batches_answer_in_the_order_of_the_request(api: Api) -> None:
    contents = ["a long content " * 20, "b", "c c c"]
    memories = await api.post(
        "/v1/memories/batch", {"memories": [{"user_id": "ada", "content": c} for c in contents]}
    )
    assert memories.status_code == 201
    assert list(memories.json()) == ["memories"]
    assert [memory["content"] for memory in memories.json()["memories"]] == contents
    knowledge = await api.post(
        "/v1/knowledge/batch", {"knowledge": [{"content": c, "category": "x"} for c in contents]}
    )
    assert knowledge.status_code == 201
    assert list(knowledge.json()) == ["knowledge"]
    assert [record["content"] for record in knowledge.json()["knowledge"]] == contents


async def test_recall_passes_on_every_argument(api: Api) -> None:
    for n in range(4):
        await store(api, "ada", f"kettle {n}", conversation_id=f"c{n % 2}", tags=[f"t{n}"])
    recalled = await api.post(
        "/v1/memories/recall",
        {
            "user_id": "ada",
            "conversation_id": "c1",
            "query": "kettle",
            "use_vector": False,
            "exclude_tags": ["t1"],
            "top_k": 4,
        },
    )
    assert [memory["content"] for memory in recalled.json()["memories"]] == ["kettle 3"]
    newest = await api.post("/v1/memories/recall", {"user_id": "ada", "top_k": 2})
    found = newest.json()["memories"]
    assert [memory["content"] for memory in found] == ["kettle 3", "kettle 2"]
    assert [memory["score"] for memory in found] == [None, None]


async def test_null_is_the_same_as_absent_where_a_field_is_optional(api: Api) -> None:
    optional = {"conversation_id": None, "tags": None, "metadata": None}
    stored = await store(api, "ada", "x", **optional)
    assert (stored["conversation_id"], stored["tags"], stored["metadata"]) == (None, [], {})
    recalled = await api.post(
        "/v1/memories/recall",
        {"user_id": "ada", "conversation_id": None, "query": None, "exclude_tags": None},
    )
    assert len(recalled.json()["memories"]) == 1


TEXTS = [
    " leading and trailing ",
    "\t\r\n\v\f",
    "a\r\nb\rc\n",
    "e\N{COMBINING ACUTE ACCENT} is not \N{LATIN SMALL LETTER E WITH ACUTE}",
    "\N{ANGSTROM SIGN}\N{LATIN CAPITAL LETTER A WITH RING ABOVE}\N{LATIN SMALL LIGATURE FI}",
    "👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 \U0010ffff",
    "\u2028\u2029\ufeff\ufffe\uffff\u200b\u202e",
    "\x01\x1b[31m\x7f\x80\x9f",
    "\\u0000 \\ \" ' / </script> %00 {}",
    "'; drop table memories; --",
    "NaN",
    "null",
]


@pytest.mark.parametrize("text", TEXTS)
async def test_every_text_comes_back_as_it_was_and_is_found_by_it(api: Api, text: str) -> None:
    fields = {"conversation_id": text, "tags": [text, text], "metadata": {text: [text]}}
    stored = await store(api, text, text, **fields)
    expected = {"user_id": text, "content": text, **fields}
    assert {name: stored[name] for name in expected} == expected
    parameters = {"user_id": text, "conversation_id": text}
    assert (await api.client.get("/v1/memories", params=parameters)).json()["memories"] == [stored]
    excluded = await api.post("/v1/memories/recall", {"user_id": text, "exclude_tags": [text]})
    assert excluded.json()["memories"] == []
    assert (await api.post("/v1/users/forget", {"user_id": text})).json() == {"deleted": 1}


NUMBERS = [
    "0",
    "-0",
    "1",
    "-1",
    "0.0",
    "-0.0",
    "1.0",
    "100.0",
    "0.1",
    "0.30000000000000004",
    "1e22",
    "1e23",
    "1E5",
    "1e-7",
    "1e16",
    "123456789012345680.0",
    "5e-324",
    "2.2250738585072014e-308",
    "1.7976931348623157e308",
    "-1.7976931348623157e308",
    "9007199254740993",
    "18446744073709551616",
    "-170141183460469231731687303715884105729",
    "3.141592653589793",
]


async def test_every_number_comes_back_equal_and_of_its_type(api: Api) -> None:
    numbers = ",".join([*NUMBERS, "9" * 4_300])
    body = f'{{"user_id":"ada","content":"x","metadata":{{"n":[{numbers}]}}}}'
    stored = await api.post("/v1/memories", body.encode())
    expected = [repr(json.loads(number)) for number in numbers.split(",")]
    assert [repr(number) for number in stored.json()["metadata"]["n"]] == expected
    listed = await api.client.get("/v1/memories?user_id=ada")
    assert [repr(n) for n in listed.json()["memories"][0]["metadata"]["n"]] == expected


async def test_metadata_keeps_its_order_and_shape(api: Api) -> None:
    metadata = {
        "z": 1,
        "a": {"y": None, "b": [True, False, None, {}, [], ""]},
        "": "empty",
        "A": 2,
        "1": "one",
    }
    stored = await store(api, "ada", "x", metadata=metadata)
    assert json.dumps(stored["metadata"]) == json.dumps(metadata)
    listed = (await api.client.get("/v1/memories?user_id=ada")).json()["memories"]
    assert json.dumps(listed[0]["metadata"]) == json.dumps(metadata)


HOSTILE_USERS = [
    "a/b",
    "a\nb",
    "a\n",
    "\n",
    "%",
    "%25",
    "?",
    "a?user_id=ada",
    "#",
    "&=+;",
    " ",
    "a b",
    "😀",
    "é",
    "e\u0301",
    "memories",
    "x/memories",
    "memories/x",
    "x/memories\n",
    "*",
    "null",
    "a/b/c",
    "...",
    ".a",
    "a..b/..c",
    "%2G",
    "a" * 256,
]


REWRITABLE_USERS = [
    "/",
    "//",
    ".",
    "..",
    "x/../ada",
    "x/./ada",
    "/ada",
    "ada/",
    "./ada",
    "../ada",
    "../memories",
    "ada/.",
    "ada/..",
    "org//team",
    "..;/ada",
    "x/..;v=1/ada",
    ";/ada",
    "%2F",
    "%2e%2E",
    "x%2F..%2Fada",
    "x%252F..%252Fada",
    "org%2F/team",
    "\\",
    "a\\b",
    "x\\..\\ada",
    "x%5C..%5Cada",
]
"""What a proxy may make another id of, in a path, also one that decodes once more."""


@pytest.mark.parametrize("way", ["path", "body"])
async def test_a_user_is_deleted_and_nobody_else_whatever_its_id(api: Api, way: str) -> None:
    users = HOSTILE_USERS if way == "path" else [*HOSTILE_USERS, *REWRITABLE_USERS]
    for user_id in users:
        await store(api, user_id, "x")
        await store(api, user_id, "y")
    for left, user_id in reversed(list(enumerate(users))):
        if way == "path":
            path = quote(user_id, safe="").replace(".", "%2E")
            response = await api.client.delete(f"/v1/users/{path}/memories")
        else:
            response = await api.post("/v1/users/forget", {"user_id": user_id})
        assert response.json() == {"deleted": 2}, user_id
        assert await api.records() == 2 * left


@pytest.mark.parametrize("user_id", REWRITABLE_USERS)
async def test_an_id_that_a_proxy_may_rewrite_is_refused_in_a_path_with_the_way_that_works(
    api: Api, user_id: str
) -> None:
    for each in (user_id, "ada", "org/team"):
        await store(api, each, "x")
    path = quote(user_id, safe="").replace(".", "%2E")
    response = await api.client.delete(f"/v1/users/{path}/memories")
    assert read_places(response) == [["path", "user_id"]]
    assert "POST /v1/users/forget" in response.json()["detail"]
    assert await api.records() == 3


async def test_no_free_text_is_in_a_path_without_another_way(api: Api) -> None:
    document = api.app.openapi()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] != "path" or parameter["schema"].get("format") == "uuid":
                    continue
                hostile = path.replace(f"{{{parameter['name']}}}", "x%2F..%2Fada")
                response = await api.client.delete(hostile)
                assert read_places(response) == [["path", parameter["name"]]]
                _, way = response.json()["detail"].split(": POST ")
                assert "post" in document["paths"][way.split()[0]]


def test_a_route_with_free_text_in_its_path_and_no_other_way_can_not_be_made() -> None:
    router = APIRouter(route_class=ApiRoute)
    with pytest.raises(TypeError, match="lacks @instead"):

        @router.delete("/v1/anything/{name:any}")
        @needs("write")
        async def anything(name: str) -> None: ...


async def test_paging_visits_every_memory_once_while_others_are_stored(api: Api) -> None:
    before = [(await store(api, "ada", f"{n}"))["memory_id"] for n in range(23)]
    seen: list[str] = []
    cursor = None
    while True:
        parameters = {"user_id": "ada", "limit": "5"} | ({"cursor": cursor} if cursor else {})
        page = (await api.client.get("/v1/memories", params=parameters)).json()
        assert len(page["memories"]) <= 5
        seen += [memory["memory_id"] for memory in page["memories"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await asyncio.gather(*(store(api, "ada", "new") for _ in range(3)))
        await store(api, "bob", "his")
    assert seen == before[::-1]


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 10])
async def test_the_last_page_is_not_followed_by_an_empty_one(api: Api, count: int) -> None:
    for n in range(count):
        await store(api, "ada", f"{n}")
    pages: list[int] = []
    cursor: str | None = None
    while not pages or cursor:
        parameters = {"user_id": "ada", "limit": "5"} | ({"cursor": cursor} if cursor else {})
        page = (await api.client.get("/v1/memories", params=parameters)).json()
        pages.append(len(page["memories"]))
        cursor = page["next_cursor"]
    assert sum(pages) == count
    assert 0 not in pages[1:]


async def test_a_list_is_of_one_conversation_when_asked(api: Api) -> None:
    for n in range(6):
        await store(api, "ada", f"{n}", conversation_id=f"c{n % 2}")
    parameters = {"user_id": "ada", "conversation_id": "c1", "limit": "2"}
    first = (await api.client.get("/v1/memories", params=parameters)).json()
    parameters["cursor"] = first["next_cursor"]
    second = (await api.client.get("/v1/memories", params=parameters)).json()
    contents = [memory["content"] for memory in first["memories"] + second["memories"]]
    assert contents == ["5", "3", "1"]


class FallbackDriver(InMemoryDriver):
    """Answers as a wrapping driver does whose first choice is away."""

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return Recalled(await super()._recall(wanted), driver="second", degraded=True)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        return Recalled(await super()._recall_knowledge(wanted), driver="cache", cached=True)


async def test_recall_tells_who_answered_and_how(embedder: Embedder) -> None:
    async with serving(
        embedder, lambda context: FallbackDriver(embedder, context.settings.limits)
    ) as api:
        stored = await store(api, "ada", "x")
        recalled = (await api.post("/v1/memories/recall", {"user_id": "ada"})).json()
        assert recalled.pop("memories") == [{**stored, "score": None}]
        assert recalled == {"driver": "second", "degraded": True, "cached": False}
        knowledge = (await api.post("/v1/knowledge/recall", {"query": "x"})).json()
        assert knowledge == {"knowledge": [], "driver": "cache", "degraded": False, "cached": True}


class ExplainingDriver(InMemoryDriver):
    """Explains what it finds by a vector, with parts that no computation gives by chance."""

    explains = True

    async def _recall(self, wanted: Recall) -> list[Memory]:
        found = await super()._recall(wanted)
        if not (wanted.explain and wanted.query and wanted.use_vector):
            return found
        why = Explanation(cosine=0.5, lexical=0.25, date=0.3, speaker=0.125, form=0.0625)
        return [replace(memory, explanation=why) for memory in found]


async def test_recall_explains_when_it_is_asked_to(embedder: Embedder) -> None:
    async with serving(
        embedder, lambda context: ExplainingDriver(embedder, context.settings.limits)
    ) as api:
        await store(api, "ada", "kettle", conversation_id="c")
        await store(api, "ada", "kettle", conversation_id="d", tags=["t"])
        query = {"user_id": "ada", "query": "kettle"}
        explained = await api.post("/v1/memories/recall", {**query, "explain": True})
        plain = await api.post("/v1/memories/recall", query)
        assert explained.status_code == plain.status_code == 200
        found = explained.json()["memories"]
        assert [list(memory) for memory in found] == [[*MEMORY_FIELDS, "score", "explanation"]] * 2
        for memory in found:
            assert memory.pop("explanation") == {
                "cosine": 0.5,
                "lexical": 0.25,
                "date": 0.3,
                "speaker": 0.125,
                "form": 0.0625,
            }
        assert plain.json()["memories"] == found

        unexplained: list[dict[str, Any]] = [{"user_id": "ada"}, {**query, "use_vector": False}]
        for body in unexplained:
            answer = await api.post("/v1/memories/recall", {**body, "explain": True})
            assert [list(m) for m in answer.json()["memories"]] == [[*MEMORY_FIELDS, "score"]] * 2
        filtered = {**query, "exclude_tags": ["t"], "top_k": 5, "explain": True}
        answer = await api.post("/v1/memories/recall", {**filtered, "conversation_id": "c"})
        assert len(answer.json()["memories"]) == 1
        answer = await api.post("/v1/memories/recall", {**filtered, "conversation_id": "d"})
        assert answer.json()["memories"] == []


class ListeningDriver(InMemoryDriver):
    """Remembers the moments from which it was asked."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder, Limits())
        self.moments: list[datetime | None] = []

    async def _recall(self, wanted: Recall) -> list[Memory]:
        self.moments.append(wanted.as_of)
        return await super()._recall(wanted)


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-05-08T13:56:00Z", "2026-05-08T13:56:00+00:00"),
        ("2026-05-08t13:56:00z", "2026-05-08T13:56:00+00:00"),
        ("2026-05-08T01:30:00+09:00", "2026-05-08T01:30:00+09:00"),
        ("2026-05-08T01:30:00.25-05:30", "2026-05-08T01:30:00.250000-05:30"),
        ("2026-05-08 13:56:00", "2026-05-08T13:56:00+00:00"),
        ("0001-01-03T00:00:00+14:00", "0001-01-03T00:00:00+14:00"),
        (None, None),
    ],
)
async def test_the_moment_that_a_query_speaks_from_reaches_the_driver(
    embedder: Embedder, given: str | None, moment: str | None
) -> None:
    driver = ListeningDriver(embedder)
    async with serving(embedder, lambda _: driver) as api:
        await store(api, "ada", "kettle")
        body = {"user_id": "ada", "query": "What boiled yesterday?", "as_of": given}
        assert (await api.post("/v1/memories/recall", body)).status_code == 200
        assert [one and one.isoformat() for one in driver.moments] == [moment]


@pytest.mark.parametrize(
    "as_of",
    [
        *("", "now", "yesterday", "2026-05-08", "13:56:00Z", "20260508T135600Z", "2026-W19-5"),
        *("2026-02-31T00:00:00Z", "2026-05-08T25:00:00Z", "2026-05-08T13:56:00+99:99"),
        *("2026-05-08T13:56:00+02:60", "2026-05-08T13:56:00-24:00", "2026-05-08T24:00:00Z"),
        *("2026-05-08T13:56:00Z ", "2026-05-08T13:56:00." + "0" * 9_999 + "Z", "1778248560"),
        *(1_778_248_560, True, ["2026-05-08T13:56:00Z"], {}),
    ],
)
async def test_what_is_no_moment_is_refused(api: Api, as_of: object) -> None:
    answer = await api.post("/v1/memories/recall", {"user_id": "ada", "as_of": as_of})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["loc"] == ["body", "as_of"]
    assert "2026-05-08T13:56:00+02:00" in error["msg"]


@pytest.mark.parametrize("explain", [1, "true", None])
async def test_explain_is_true_or_false(api: Api, explain: object) -> None:
    answer = await api.post("/v1/memories/recall", {"user_id": "ada", "explain": explain})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "explain"]


async def test_health_tells_the_driver_and_what_it_can_do(api: Api) -> None:
    await store(api, "ada", "x")
    health = (await api.client.get("/health")).json()
    assert health == {
        "status": "ok",
        "version": __version__,
        "capabilities": [
            "delete_document",
            "delete_knowledge",
            "delete_many",
            "delete_user",
            "explain_recall",
            "export_records",
            "get",
            "get_knowledge",
            "import_records",
            "list_knowledge",
            "list_memories",
            "list_users",
            "owner_of",
            "put_document",
            "store_knowledge_many",
            "store_many",
            "update",
            "update_knowledge",
            "weigh_recency",
        ],
        "driver": {
            "driver": "inmemory",
            "status": "ok",
            "detail": None,
            "facts": {"memories": 1, "knowledge": 0},
            "drivers": [],
        },
    }
    for path in ("/health/live", "/health/ready"):
        response = await api.client.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_fastapi_has_nothing_to_resolve_for_a_recall(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolved(**_: Any) -> None:
        raise AssertionError("a recall is called without it")

    stored = await store(api, "ada", "A kettle.")
    monkeypatch.setattr("fastapi.routing.solve_dependencies", resolved)
    response = await api.post("/v1/memories/recall", {"user_id": "ada", "query": "kettle"})
    assert [found["memory_id"] for found in response.json()["memories"]] == [stored["memory_id"]]
    response = await api.post("/v1/knowledge/recall", {"query": "kettle"})
    assert response.json()["knowledge"] == []
