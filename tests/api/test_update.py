"""PATCH: changes as a JSON merge patch, under the record's version."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.core.memory.records import Kept, Memory
from app.core.memory.requests import Replace
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.settings import Limits
from tests.api.serving import Api, read_places, read_problem, serving
from tests.service.six_verbs import SixVerbs

LIMITS = Limits()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PATCH = {"Content-Type": "application/merge-patch+json"}
MEMORY: dict[str, Any] = {
    "user_id": "ada",
    "content": "The kettle is copper.",
    "conversation_id": "kitchen",
    "tags": ["home"],
    "metadata": {"n": 1, "a": {"b": 1, "c": 2}},
}
KNOWLEDGE: dict[str, Any] = {
    "content": "Descale with lemon.",
    "category": "kitchen",
    "title": "Care",
    "doc_id": "care",
    "metadata": {"n": 1},
}


async def patch(
    api: Api, url: str, changes: object, headers: dict[str, str] | None = None
) -> httpx.Response:
    """Send `changes` as JSON, or as they are when they are bytes."""
    content = changes if isinstance(changes, bytes) else json.dumps(changes).encode()
    return await api.client.patch(url, content=content, headers={**PATCH, **(headers or {})})


@pytest.fixture
async def memory(api: Api) -> httpx.Response:
    """The answer to a memory's store."""
    return await api.post("/v1/memories", MEMORY)


@pytest.fixture
async def knowledge(api: Api) -> httpx.Response:
    """The answer to knowledge's store."""
    return await api.post("/v1/knowledge", KNOWLEDGE)


def url_of(stored: httpx.Response) -> str:
    """Where the record is."""
    body = stored.json()
    if "memory_id" in body:
        return f"/v1/memories/{body['memory_id']}?user_id=ada"
    return f"/v1/knowledge/{body['knowledge_id']}"


async def test_what_is_sent_changes_and_the_rest_stays(api: Api, memory: httpx.Response) -> None:
    changes = {"content": "The kettle is steel.", "metadata": {"a": {"b": None, "d": 3}}}
    changed = await patch(api, url_of(memory), changes)
    assert changed.status_code == 200, changed.text
    after = changed.json()
    assert after == {
        **memory.json(),
        "content": "The kettle is steel.",
        "metadata": {"n": 1, "a": {"c": 2, "d": 3}},
        "updated_at": after["updated_at"],
    }
    assert list(after) == list(memory.json())
    assert after["updated_at"] > after["created_at"] == memory.json()["updated_at"]
    assert after["updated_at"].endswith("Z")
    assert (await api.client.get(url_of(memory))).json() == after
    recalled = await api.post("/v1/memories/recall", {"user_id": "ada", "query": "steel"})
    (found,) = recalled.json()["memories"]
    assert found == {**after, "score": found["score"]}


async def test_knowledge_is_changed_in_the_same_way(api: Api, knowledge: httpx.Response) -> None:
    changes = {"category": "care", "title": None, "metadata": {"n": None}}
    changed = await patch(api, url_of(knowledge), changes)
    assert changed.status_code == 200, changed.text
    after = changed.json()
    rest = {"category": "care", "title": None, "metadata": {}, "updated_at": after["updated_at"]}
    assert after == {**knowledge.json(), **rest}
    assert (await api.client.get(url_of(knowledge))).json() == after
    recalled = await api.post("/v1/knowledge/recall", {"query": "lemon", "category": "care"})
    (found,) = recalled.json()["knowledge"]
    assert found == {**after, "score": found["score"]}


async def test_null_takes_away_and_absent_does_not(api: Api, memory: httpx.Response) -> None:
    after = (await patch(api, url_of(memory), {"conversation_id": None, "tags": None})).json()
    assert (after["conversation_id"], after["tags"]) == (None, [])
    assert (after["content"], after["metadata"]) == (MEMORY["content"], MEMORY["metadata"])
    after = (await patch(api, url_of(memory), {"metadata": None})).json()
    assert after["metadata"] == {}


@pytest.mark.parametrize("changes", [{}, {"content": MEMORY["content"]}, {"metadata": {"n": 1}}])
async def test_a_patch_that_changes_nothing_answers_with_the_same_version(
    api: Api, memory: httpx.Response, changes: dict[str, Any]
) -> None:
    unchanged = await patch(api, url_of(memory), changes)
    assert (unchanged.status_code, unchanged.json()) == (200, memory.json())
    assert unchanged.headers["ETag"] == memory.headers["ETag"]


async def test_numbers_keep_their_type(api: Api, memory: httpx.Response) -> None:
    numbers = b"[1.0,-0.0,9007199254740993,1e22,1,true,-170141183460469231731687303715884105729]"
    body = b'{"metadata":{"n":1.0,"list":%s}}' % numbers
    after = (await patch(api, url_of(memory), body)).json()["metadata"]
    assert repr(after["n"]) == "1.0"
    assert repr(after["list"]) == repr(json.loads(numbers))
    assert repr(after["a"]) == repr(MEMORY["metadata"]["a"])
    got = (await api.client.get(url_of(memory))).json()["metadata"]
    assert repr(got) == repr(after)


async def test_what_is_absent_stays_also_in_a_large_body(api: Api, memory: httpx.Response) -> None:
    content = "\N{FOX FACE}" * LIMITS.content_chars
    after = (await patch(api, url_of(memory), {"content": content})).json()
    assert after["content"] == content
    assert (after["conversation_id"], after["tags"]) == ("kitchen", ["home"])
    assert after["metadata"] == MEMORY["metadata"]


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/merge-patch+json; charset=utf-8"]
)
async def test_changes_are_taken_as_json_and_as_a_merge_patch(
    api: Api, memory: httpx.Response, knowledge: httpx.Response, media_type: str
) -> None:
    for stored in (memory, knowledge):
        headers = {"Content-Type": media_type}
        answer = await patch(api, url_of(stored), {"content": "x"}, headers)
        assert (answer.status_code, answer.json()["content"]) == (200, "x")


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/json-patch+json", "application/vnd.api+json"]
)
async def test_changes_of_another_type_are_refused_with_the_types_that_are_taken(
    api: Api, memory: httpx.Response, media_type: str
) -> None:
    answer = await patch(api, url_of(memory), {"content": "x"}, {"Content-Type": media_type})
    problem = read_problem(answer, 415, "unsupported_media_type")
    assert "application/merge-patch+json" in problem["detail"]
    assert answer.headers["Accept-Patch"] == "application/merge-patch+json, application/json"
    assert (await api.client.get(url_of(memory))).json() == memory.json()


async def test_the_etag_is_the_version_in_microseconds(
    api: Api, memory: httpx.Response, knowledge: httpx.Response
) -> None:
    for stored in (memory, knowledge):
        changed = await patch(api, url_of(stored), {"content": "x"})
        for answer in (stored, changed):
            updated_at = datetime.fromisoformat(answer.json()["updated_at"])
            microseconds = (updated_at - EPOCH) // timedelta(microseconds=1)
            assert answer.headers["ETag"] == f'"{microseconds}"'
        assert changed.headers["ETag"] != stored.headers["ETag"]
        for method in ("GET", "HEAD"):
            told = await api.client.request(method, url_of(stored))
            assert told.headers["ETag"] == changed.headers["ETag"]


async def test_every_microsecond_has_an_etag_of_its_own(api: Api, embedder: Embedder) -> None:
    moment = datetime(2026, 11, 22, 17, 25, 35, 463_001, UTC)
    memory = Memory(memory_id=str(uuid4()), user_id="ada", content="x", created_at=moment)
    assert isinstance(api.driver, InMemoryDriver)
    await api.driver.import_records([memory])
    url = f"/v1/memories/{memory.memory_id}?user_id=ada"
    assert (await api.client.get(url)).headers["ETag"] == '"1795368335463001"'
    for tag, status in (
        ('"1795368335463000"', 412),
        ('"1795368335463002"', 412),
        ('"1795368335463001"', 200),
    ):
        answer = await patch(api, url, {"content": "y"}, {"If-Match": tag})
        assert answer.status_code == status, tag


async def test_a_record_of_a_driver_without_zones_has_an_etag(embedder: Embedder) -> None:
    class Naive(SixVerbs):
        async def store(self, *args: Any, **arguments: Any) -> Memory:
            made = await super().store(*args, **arguments)
            return Memory(
                memory_id=made.memory_id,
                user_id=made.user_id,
                content=made.content,
                created_at=datetime(1970, 1, 1, 0, 0, 1),
            )

    async with serving(embedder, lambda _: Naive()) as api:
        answer = await api.post("/v1/memories", MEMORY)
    assert (answer.status_code, answer.headers["ETag"]) == (201, '"1000000"')


@pytest.mark.parametrize("form", ["{}", "*", '"other", {}', '"a,b" ,, {},', 'W/"1",\t{}', "  {}"])
async def test_a_record_of_a_wanted_version_is_changed(
    api: Api, memory: httpx.Response, knowledge: httpx.Response, form: str
) -> None:
    for stored in (memory, knowledge):
        headers = {"If-Match": form.replace("{}", stored.headers["ETag"])}
        answer = await patch(api, url_of(stored), {"content": "x"}, headers)
        assert (answer.status_code, answer.json()["content"]) == (200, "x")


@pytest.mark.parametrize(
    "form",
    [
        "W/{}",
        '"other"',
        '""',
        '"0"',
        '"-1"',
        '"0{0}"',
        '"{0}.0"',
        '"99999999999999999"',
        '"999999999999999999"',
        '"-999999999999999999"',
        f'"{"9" * 5_000}"',
        '"*"',
        '"é"',
    ],
)
async def test_a_record_of_another_version_is_not_changed(
    api: Api, memory: httpx.Response, knowledge: httpx.Response, form: str
) -> None:
    for stored in (memory, knowledge):
        tag = stored.headers["ETag"]
        header = form.replace("{0}", tag.strip('"')).replace("{}", tag)
        for changes in ({"content": "x"}, {}):
            answer = await api.client.patch(
                url_of(stored), json=changes, headers=[(b"If-Match", header.encode())]
            )
            read_problem(answer, 412, "precondition_failed")
        assert (await api.client.get(url_of(stored))).json() == stored.json()


@pytest.mark.parametrize(
    "header",
    ["", " ", ",", "x", "1795368335463000", '"1', '1"', "'1'", 'w/"1"', 'W/1', '"a" "b"', '*, "a"',
     '"a", *', '"a b"', "**", '"a";q=1', '"a", b'],
)  # fmt: skip
async def test_a_malformed_if_match_is_refused_with_what_it_must_look_like(
    api: Api, memory: httpx.Response, knowledge: httpx.Response, header: str
) -> None:
    for stored in (memory, knowledge):
        answer = await patch(api, url_of(stored), {"content": "x"}, {"If-Match": header})
        assert read_places(answer) == [["header", "If-Match"]]
        assert "double quotes" in answer.json()["detail"]
        assert (await api.client.get(url_of(stored))).json() == stored.json()


async def test_an_if_match_on_several_lines_is_one_list(api: Api, memory: httpx.Response) -> None:
    lines = [("If-Match", '"other"'), ("If-Match", memory.headers["ETag"])]
    answer = await api.client.patch(url_of(memory), json={"content": "x"}, headers=lines)
    assert answer.status_code == 200
    answer = await api.client.patch(url_of(memory), json={"content": "y"}, headers=lines)
    read_problem(answer, 412, "precondition_failed")


async def test_of_two_who_read_one_version_the_second_is_told(
    api: Api, memory: httpx.Response
) -> None:
    headers = {"If-Match": memory.headers["ETag"]}
    first, second = await asyncio.gather(
        *(patch(api, url_of(memory), {"content": content}, headers) for content in ("x", "y"))
    )
    assert sorted([first.status_code, second.status_code]) == [200, 412]
    kept = first if first.status_code == 200 else second
    assert (await api.client.get(url_of(memory))).json() == kept.json()
    headers = {"If-Match": kept.headers["ETag"]}
    assert (await patch(api, url_of(memory), {"content": "z"}, headers)).status_code == 200


async def test_a_missing_record_and_another_users_look_the_same(
    api: Api, memory: httpx.Response, knowledge: httpx.Response
) -> None:
    own, some_id = memory.json()["memory_id"], uuid4()
    problems = []
    for url in (
        f"/v1/memories/{own}?user_id=bob",
        f"/v1/memories/{some_id}?user_id=ada",
        f"/v1/knowledge/{some_id}",
        f"/v1/knowledge/{own}",
        f"/v1/memories/{knowledge.json()['knowledge_id']}?user_id=ada",
    ):
        for if_match in ("*", memory.headers["ETag"], '"1"'):
            answer = await patch(api, url, {"content": "x"}, {"If-Match": if_match})
            assert "ETag" not in answer.headers
            problem = read_problem(answer, 404, "not_found")
            problems.append({k: v for k, v in problem.items() if k != "request_id"})
    assert all(problem == problems[0] for problem in problems)
    assert (await api.client.get(url_of(memory))).json() == memory.json()


BAD: list[tuple[dict[str, Any], list[str | int]]] = [
    ({"content": None}, ["content"]),
    ({"content": ""}, ["content"]),
    ({"content": 1}, ["content"]),
    ({"content": "a\x00"}, ["content"]),
    ({"content": "x" * (LIMITS.content_chars + 1)}, ["content"]),
    ({"metadata": []}, ["metadata"]),
    ({"metadata": {"a": ["b", "\x00"]}}, ["metadata", "a", 1]),
    ({"metadata": {"a": "x" * LIMITS.metadata_bytes}}, ["metadata"]),
    ({"metadata": {"more": "x" * (LIMITS.metadata_bytes - 12)}}, ["metadata"]),
    ({"created_at": None}, ["created_at"]),
    ({"updated_at": "2026-11-22T17:25:35.463Z"}, ["updated_at"]),
    ({"score": 1}, ["score"]),
    ({"\ud800": 1}, ["?"]),
]
BAD_OF_MEMORIES: list[tuple[dict[str, Any], list[str | int]]] = [
    ({"conversation_id": ""}, ["conversation_id"]),
    ({"conversation_id": "x" * (LIMITS.conversation_id_chars + 1)}, ["conversation_id"]),
    ({"tags": ["x", None]}, ["tags", 1]),
    ({"tags": ["x"] * (LIMITS.tags + 1)}, ["tags"]),
    ({"user_id": "bob"}, ["user_id"]),
    ({"memory_id": str(uuid4())}, ["memory_id"]),
    ({"category": "x"}, ["category"]),
]
BAD_OF_KNOWLEDGE: list[tuple[dict[str, Any], list[str | int]]] = [
    ({"category": None}, ["category"]),
    ({"category": ""}, ["category"]),
    ({"title": "x" * (LIMITS.title_chars + 1)}, ["title"]),
    ({"doc_id": ""}, ["doc_id"]),
    ({"knowledge_id": str(uuid4())}, ["knowledge_id"]),
    ({"tags": []}, ["tags"]),
]


@pytest.mark.parametrize(
    ("kind", "changes", "place"),
    [
        *(("memory", *row) for row in BAD + BAD_OF_MEMORIES),
        *(("knowledge", *row) for row in BAD + BAD_OF_KNOWLEDGE),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
async def test_what_can_not_be_kept_is_refused_at_its_place_and_changes_nothing(
    api: Api,
    memory: httpx.Response,
    knowledge: httpx.Response,
    kind: str,
    changes: dict[str, Any],
    place: list[str | int],
) -> None:
    stored = memory if kind == "memory" else knowledge
    answer = await patch(api, url_of(stored), {"metadata": {"good": 1}, **changes})
    assert read_places(answer) == [["body", *place]]
    assert (await api.client.get(url_of(stored))).json() == stored.json()


async def test_every_wrong_place_is_told(api: Api, memory: httpx.Response) -> None:
    changes = {"content": None, "conversation_id": "", "tags": [1], "metadata": "x"}
    places = read_places(await patch(api, url_of(memory), changes))
    expected: list[list[str | int]] = [["content"], ["conversation_id"], ["tags", 0], ["metadata"]]
    assert places == [["body", *place] for place in expected]


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"{", b'{"content":"a","content":"b"}', b'{"tags":[NaN]}']
)
async def test_a_body_that_is_no_patch_is_refused(
    api: Api, memory: httpx.Response, knowledge: httpx.Response, body: bytes
) -> None:
    for stored in (memory, knowledge):
        assert read_places(await patch(api, url_of(stored), body)) == [["body"]]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("/v1/memories/{id}", ["query", "user_id"]),
        ("/v1/memories/{id}?user_id=", ["query", "user_id"]),
        ("/v1/memories/{id}?user_id=ada&user_id=ada", ["query", "user_id"]),
        ("/v1/memories/{id}?user_id=ada&if_match=x", ["query", "if_match"]),
        ("/v1/memories/{id}?user_id=%1Facme%1Fada", ["query", "user_id"]),
        ("/v1/memories/batch?user_id=ada", ["path", "memory_id"]),
        ("/v1/knowledge/{id}?user_id=ada", ["query", "user_id"]),
        ("/v1/knowledge/batch", ["path", "knowledge_id"]),
    ],
)
async def test_a_url_that_can_not_be_meant_is_refused_at_its_place(
    api: Api, memory: httpx.Response, url: str, place: list[str]
) -> None:
    url = url.replace("{id}", memory.json()["memory_id"])
    assert read_places(await patch(api, url, {"content": "x"})) == [place]
    assert (await api.client.get(url_of(memory))).json() == memory.json()


async def test_a_patch_is_no_larger_than_a_record(api: Api, memory: httpx.Response) -> None:
    body = b'{"content":"x"}' + b" " * LIMITS.one_record_bytes
    read_problem(await patch(api, url_of(memory), body), 413, "body_too_large")


class BusyDriver(InMemoryDriver):
    """Others are always quicker: each replacement finds another version."""

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return False


async def test_an_update_that_others_keep_overtaking_is_told_to_try_again(
    embedder: Embedder,
) -> None:
    async with serving(
        embedder, lambda context: BusyDriver(embedder, context.settings.limits)
    ) as api:
        stored = [
            await api.post("/v1/memories", MEMORY),
            await api.post("/v1/knowledge", KNOWLEDGE),
        ]
        answers = await asyncio.gather(
            *(patch(api, url_of(each), {"content": "x"}) for each in stored)
        )
        for each, answer in zip(stored, answers, strict=True):
            read_problem(answer, 409, "contended")
            assert (await api.client.get(url_of(each))).json() == each.json()
