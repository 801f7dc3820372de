"""Bad input: a clear problem that names the place, and nothing stored."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from app.api.limits import current_limits
from app.api.requests import StoreRequest
from app.embedding import Embedder
from app.settings import Limits
from tests.api.serving import JSON, Api, read_places, read_problem, serving

LIMITS = Limits()
MEMORY: dict[str, Any] = {"user_id": "ada", "content": "The kettle is copper."}
KNOWLEDGE: dict[str, Any] = {"content": "Descale with lemon.", "category": "kitchen"}
PLACES: dict[str, tuple[str, dict[str, Any]]] = {
    "store": ("/v1/memories", MEMORY),
    "recall": ("/v1/memories/recall", {"user_id": "ada", "query": "kettle"}),
    "store_knowledge": ("/v1/knowledge", KNOWLEDGE),
    "recall_knowledge": ("/v1/knowledge/recall", {"query": "kettle"}),
}
TEXTS = {
    ("store", "user_id"): LIMITS.user_id_chars,
    ("store", "content"): LIMITS.content_chars,
    ("store", "conversation_id"): LIMITS.conversation_id_chars,
    ("recall", "user_id"): LIMITS.user_id_chars,
    ("recall", "query"): LIMITS.query_chars,
    ("recall", "conversation_id"): LIMITS.conversation_id_chars,
    ("store_knowledge", "content"): LIMITS.content_chars,
    ("store_knowledge", "category"): LIMITS.category_chars,
    ("store_knowledge", "title"): LIMITS.title_chars,
    ("store_knowledge", "doc_id"): LIMITS.doc_id_chars,
    ("recall_knowledge", "query"): LIMITS.query_chars,
    ("recall_knowledge", "category"): LIMITS.category_chars,
}
BAD_TEXTS: dict[str, Any] = {
    "empty": "",
    "NUL": "a\x00b",
    "lone surrogate": "a\ud800",
    "surrogates reversed": "\udc00\ud800",
    "number": 1,
    "boolean": True,
    "array": ["a"],
    "object": {"a": "b"},
}
TAGS = [("store", "tags"), ("recall", "exclude_tags")]


@pytest.fixture(scope="module")
async def unchanged(embedder: Embedder) -> AsyncIterator[Api]:
    """An application that all tests of this module leave empty."""
    async with serving(embedder) as api:
        yield api


@pytest.fixture
async def api(unchanged: Api) -> AsyncIterator[Api]:
    """An application in which the test must not store anything."""
    yield unchanged
    assert await unchanged.records() == 0


def nested(depth: int) -> Any:
    """An object of that many levels."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("bad", BAD_TEXTS)
@pytest.mark.parametrize(("operation", "field"), TEXTS)
async def test_text_that_can_not_be_kept_is_refused_at_its_place(
    api: Api, operation: str, field: str, bad: str
) -> None:
    path, good = PLACES[operation]
    response = await api.post(path, {**good, field: BAD_TEXTS[bad]})
    assert read_places(response) == [["body", field]]


@pytest.mark.parametrize(("place", "limit"), TEXTS.items())
async def test_over_long_text_is_refused_with_its_limit(
    api: Api, place: tuple[str, str], limit: int
) -> None:
    operation, field = place
    path, good = PLACES[operation]
    response = await api.post(path, {**good, field: "x" * (limit + 1)})
    assert read_places(response) == [["body", field]]
    assert str(limit) in response.json()["detail"]


@pytest.mark.parametrize(("operation", "field"), [place for place in TEXTS if place[1] in MEMORY])
async def test_a_required_field_can_be_neither_null_nor_absent(
    api: Api, operation: str, field: str
) -> None:
    path, good = PLACES[operation]
    for body in ({**good, field: None}, {k: v for k, v in good.items() if k != field}):
        assert read_places(await api.post(path, body)) == [["body", field]]


@pytest.mark.parametrize(("operation", "field"), TAGS)
@pytest.mark.parametrize(
    ("tags", "place"),
    [
        ("home", []),
        ({"home": 1}, []),
        ([1], [0]),
        (["home", None], [1]),
        (["home", ""], [1]),
        (["home", "x", "a\x00"], [2]),
        (["\udfff"], [0]),
        (["x" * (LIMITS.tag_chars + 1)], [0]),
        (["x"] * (LIMITS.tags + 1), []),
    ],
)
async def test_bad_tags_are_refused_at_their_place(
    api: Api, operation: str, field: str, tags: object, place: list[int]
) -> None:
    path, good = PLACES[operation]
    response = await api.post(path, {**good, field: tags})
    assert read_places(response) == [["body", field, *place]]


@pytest.mark.parametrize("operation", ["store", "store_knowledge"])
@pytest.mark.parametrize(
    ("metadata", "place"),
    [
        ("text", []),
        ([], []),
        ({"a": ["b", "\x00"]}, ["a", 1]),
        ({"a": {"b": "\ud800"}}, ["a", "b"]),
        ({"a": 1e999}, None),
        (nested(LIMITS.metadata_depth + 1), ["a"] * LIMITS.metadata_depth),
        ({"a": "x" * LIMITS.metadata_bytes}, []),
        ({"a": "é" * (LIMITS.metadata_bytes // 2)}, []),
        ({"a": [1] * LIMITS.metadata_bytes}, []),
        ({"\x00": 1}, ["key"]),
        ({"x" * 10_000: "\x00"}, ["x" * 200 + "…"]),
        ({"{message}": "\x00"}, ["{message}"]),
    ],
)
async def test_metadata_that_can_not_be_kept_is_refused_at_its_place(
    api: Api, operation: str, metadata: object, place: list[str | int] | None
) -> None:
    path, good = PLACES[operation]
    places = read_places(await api.post(path, {**good, "metadata": metadata}))
    assert places == [["body"] if place is None else ["body", "metadata", *place]]


@pytest.mark.parametrize("key", [r"\ud800", r"a\u0000"])
async def test_a_metadata_key_that_can_not_be_kept_is_refused(api: Api, key: str) -> None:
    body = b'{"user_id":"ada","content":"x","metadata":{"%s":1}}' % key.encode()
    assert read_places(await api.post("/v1/memories", body))[0][:2] == ["body", "metadata"]


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ({"metadata": {"\ud800": 1}}, ["metadata", "?"]),
        ({"metadata": {"k": {"\ud800": 1}}}, ["metadata", "k", "?"]),
        ({"metadata": {"k": "\ud800"}}, ["metadata", "k"]),
        ({"\ud800": {}}, ["?"]),
    ],
)
async def test_a_filter_with_what_is_no_text_is_refused_at_its_place(
    api: Api, wanted: dict[str, Any], place: list[str]
) -> None:
    for path, good in (PLACES["recall"], PLACES["recall_knowledge"]):
        assert read_places(await api.post(path, {**good, "filter": wanted})) == [
            ["body", "filter", *place]
        ]
    parameters = {"user_id": "ada", "filter": json.dumps(wanted)}
    response = await api.client.get("/v1/memories", params=parameters)
    assert read_places(response) == [["query", "filter", *place]]


async def test_a_filter_in_a_url_has_a_limit(api: Api) -> None:
    for length, status in ((16_384, 200), (16_385, 422)):
        wanted = '{"metadata": {"k": 1}}'.ljust(length)
        for path, whose in (("/v1/memories", {"user_id": "ada"}), ("/v1/knowledge", {})):
            response = await api.client.get(path, params={**whose, "filter": wanted})
            assert response.status_code == status
    assert read_places(response) == [["query", "filter"]]


def test_what_fails_unforeseen_tells_the_log_nothing_that_a_caller_sent() -> None:
    token = current_limits.set(LIMITS)
    with pytest.raises(ValidationError) as refused:
        StoreRequest.model_validate({**MEMORY, "tags": "a secret"})
    current_limits.reset(token)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("operation", ["recall", "recall_knowledge"])
@pytest.mark.parametrize(
    "top_k", [0, -1, LIMITS.top_k + 1, 10**4000, True, 3.0, 3.5, "3", None, [3], {}]
)
async def test_top_k_is_an_integer_within_its_limit(
    api: Api, operation: str, top_k: object
) -> None:
    path, good = PLACES[operation]
    assert read_places(await api.post(path, {**good, "top_k": top_k})) == [["body", "top_k"]]


@pytest.mark.parametrize("use_vector", [0, 1, "true", None, []])
async def test_use_vector_is_a_boolean(api: Api, use_vector: object) -> None:
    path, good = PLACES["recall"]
    response = await api.post(path, {**good, "use_vector": use_vector})
    assert read_places(response) == [["body", "use_vector"]]


@pytest.mark.parametrize("operation", PLACES)
@pytest.mark.parametrize("field", ["userid", "memory_id", "created_at", "score", "", "\ud800"])
async def test_an_unknown_field_is_refused_by_its_name(
    api: Api, operation: str, field: str
) -> None:
    path, good = PLACES[operation]
    places = read_places(await api.post(path, {**good, field: 1}))
    assert places == [["body", field.replace("\ud800", "?")]]


@pytest.mark.parametrize("operation", PLACES)
@pytest.mark.parametrize(
    "body",
    [b"[]", b"[{}]", b'"x"', b"1", b"1.5", b"null", b"true"],
    ids=lambda body: body.decode(),
)
async def test_a_body_that_is_not_an_object_is_refused(
    api: Api, operation: str, body: bytes
) -> None:
    assert read_places(await api.post(PLACES[operation][0], body)) == [["body"]]


UNUSABLE = {
    "empty": b"",
    "space": b" ",
    "cut off": b'{"user_id": "ada"',
    "two values": b"{}{}",
    "single quotes": b"{'user_id': 'ada'}",
    "trailing comma": b'{"user_id": "ada",}',
    "comment": b'{"user_id": "ada" /* me */}',
    "byte order mark": b'\xef\xbb\xbf{"user_id":"ada","content":"x"}',
    "UTF-16": json.dumps(MEMORY).encode("utf-16"),
    "Latin-1": '{"user_id":"ada","content":"é"}'.encode("latin-1"),
    "overlong UTF-8": b'{"user_id":"ada","content":"\xc0\x80"}',
    "surrogate in UTF-8": b'{"user_id":"ada","content":"\xed\xa0\x80"}',
    "raw NUL": b'{"user_id":"ada","content":"\x00"}',
    "raw line break": b'{"user_id":"ada","content":"\n"}',
    "bad escape": b'{"user_id":"ada","content":"\\x41"}',
    "NaN": b'{"user_id":"ada","content":"x","metadata":{"a":NaN}}',
    "Infinity": b'{"user_id":"ada","content":"x","metadata":{"a":Infinity}}',
    "-Infinity": b'{"user_id":"ada","content":"x","metadata":{"a":-Infinity}}',
    "5,000 digits": b'{"user_id":"ada","content":"x","metadata":{"a":%s}}' % (b"9" * 5_000),
    "deep arrays": b"[" * 500_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep metadata": b'{"user_id":"ada","content":"x","metadata":%s}'
    % (b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
}


@pytest.mark.parametrize("body", UNUSABLE)
async def test_a_body_that_is_not_json_is_refused(api: Api, body: str) -> None:
    assert read_places(await api.post("/v1/memories", UNUSABLE[body])) == [["body"]]


async def test_a_number_beyond_a_double_is_refused_not_made_infinite(api: Api) -> None:
    body = b'{"user_id":"ada","content":"x","metadata":{"a":[1e999]}}'
    assert read_places(await api.post("/v1/memories", body)) == [["body", "metadata", "a", 0]]


@pytest.mark.parametrize(
    "body",
    [
        b'{"user_id":"ada","user_id":"bob","content":"x"}',
        b'{"user_id":"ada","content":"x","metadata":{"a":1,"a":2}}',
        b'{"user_id":"ada","content":"x","metadata":{"b":[{"a":1,"\\u0061":1}]}}',
    ],
)
async def test_a_key_given_twice_is_refused_by_its_name(api: Api, body: bytes) -> None:
    response = await api.post("/v1/memories", body)
    assert read_places(response) == [["body"]]
    assert 'the key "' in response.json()["detail"]


@pytest.mark.parametrize(
    ("path", "name", "good"),
    [("/v1/memories/batch", "memories", MEMORY), ("/v1/knowledge/batch", "knowledge", KNOWLEDGE)],
)
class TestBatch:
    @pytest.mark.parametrize("count", [0, LIMITS.batch + 1, 20_000])
    async def test_is_neither_empty_nor_too_long(
        self, api: Api, path: str, name: str, good: dict[str, Any], count: int
    ) -> None:
        response = await api.post(path, {name: [good] * count})
        assert read_places(response) == [["body", name]]

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"content": ""}, ["content"]),
            ({"content": "\x00"}, ["content"]),
            ({"metadata": {"a": ["\x00"]}}, ["metadata", "a", 0]),
            ({"colour": "red"}, ["colour"]),
        ],
    )
    async def test_with_one_bad_entry_is_refused_by_its_index_and_stores_nothing(
        self,
        api: Api,
        path: str,
        name: str,
        good: dict[str, Any],
        change: dict[str, Any],
        place: list[str | int],
    ) -> None:
        response = await api.post(path, {name: [good, good, {**good, **change}, good]})
        assert read_places(response) == [["body", name, 2, *place]]

    @pytest.mark.parametrize("entry", [None, 1, "x", []])
    async def test_has_only_objects(
        self, api: Api, path: str, name: str, good: dict[str, Any], entry: object
    ) -> None:
        assert read_places(await api.post(path, {name: [good, entry]})) == [["body", name, 1]]

    @pytest.mark.parametrize("value", [None, {}, "x", 1])
    async def test_is_an_array(
        self, api: Api, path: str, name: str, good: dict[str, Any], value: object
    ) -> None:
        assert read_places(await api.post(path, {name: value})) == [["body", name]]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/jsonp",
        "application/json, text/plain",
        "json",
    ],
)
async def test_a_body_of_another_type_is_not_read_as_json(
    api: Api, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    content = json.dumps(MEMORY).encode()
    response = await api.client.post("/v1/memories", content=content, headers=headers)
    read_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("plain", [True, False], ids=["marked only", "compressed"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "GZIP"},
        {"Content-Encoding": "deflate"},
        {"Content-Encoding": "br"},
        {"Content-Encoding": "zstd"},
        {"Content-Encoding": "unheard-of"},
        {"Content-Encoding": "identity, gzip"},
        {"Transfer-Encoding": "gzip, chunked"},
    ],
    ids=str,
)
async def test_a_body_that_is_encoded_is_refused_and_the_answer_says_how_to_send_it(
    api: Api, headers: dict[str, str], plain: bool
) -> None:
    content = json.dumps(MEMORY).encode()
    response = await api.client.post(
        "/v1/memories",
        content=content if plain else gzip.compress(content),
        headers={**JSON, **headers},
    )
    problem = read_problem(response, 415, "unsupported_media_type")
    assert problem["detail"] == "Send the body uncompressed, without a Content-Encoding."
    assert response.headers["Accept-Encoding"] == "identity"
    assert await api.records() == 0


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity, identity"])
async def test_a_body_that_says_it_is_not_encoded_is_taken(api: Api, coding: str) -> None:
    response = await api.client.post(
        "/v1/memories/recall", json={"user_id": "ada"}, headers={"Content-Encoding": coding}
    )
    assert response.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["application/json;charset=utf-8", "Application/JSON", "application/vnd.api+json"],
)
async def test_every_spelling_of_the_json_type_is_read(api: Api, content_type: str) -> None:
    response = await api.client.post(
        "/v1/memories/recall",
        content=b'{"user_id":"nobody"}',
        headers={"Content-Type": content_type},
    )
    assert response.status_code == 200


ID = "01a2041e-3795-7337-a045-ffd936bf1f5e"
MALFORMED_IDS = [
    "x",
    "None",
    ID[:-1],
    ID + "0",
    "{" + ID + "}",
    "urn:uuid:" + ID,
    ID.replace("-", ""),
    ID.replace("-", "", 1) + "-",
    "01a2041e-3795-7337-a045-ffd936bf1f5_e",
    ID.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}"),
    ID + "%0A",
    "%20" + ID,
    "%00",
    "recall",
    "batch",
]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("record_id", MALFORMED_IDS)
@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1/memories/%s?user_id=ada", "memory_id"), ("/v1/knowledge/%s", "knowledge_id")],
)
async def test_a_malformed_id_is_refused(
    api: Api, method: str, path: str, name: str, record_id: str
) -> None:
    body = {"content": "x"} if method == "PATCH" else None
    response = await api.client.request(method, path % record_id, json=body)
    if record_id.endswith("%0A"):
        read_problem(response, 404, "no_such_path")
    else:
        assert read_places(response) == [["path", name]]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_missing_id_and_another_users_look_the_same(
    embedder: Embedder, method: str
) -> None:
    async with serving(embedder) as api:
        memory_id = (await api.post("/v1/memories", MEMORY)).json()["memory_id"]
        problems = []
        for wanted, user in [(memory_id, "bob"), (str(uuid4()), "bob"), (str(uuid4()), "ada")]:
            response = await api.client.request(method, f"/v1/memories/{wanted}?user_id={user}")
            problem = read_problem(response, 404, "not_found")
            problems.append({k: v for k, v in problem.items() if k != "request_id"})
        assert problems[0] == problems[1] == problems[2]
        assert await api.records() == 1


async def test_an_id_in_capitals_is_the_same_id(embedder: Embedder) -> None:
    async with serving(embedder) as api:
        memory_id = (await api.post("/v1/memories", MEMORY)).json()["memory_id"]
        response = await api.client.get(f"/v1/memories/{memory_id.upper()}?user_id=ada")
        assert response.json()["memory_id"] == memory_id


async def test_an_unknown_user_has_nothing(api: Api) -> None:
    listed = await api.client.get("/v1/memories?user_id=nobody")
    assert listed.json() == {"memories": [], "next_cursor": None}
    recalled = await api.post("/v1/memories/recall", {"user_id": "nobody", "query": "kettle"})
    assert recalled.json()["memories"] == []
    assert (await api.client.delete("/v1/users/nobody/memories")).json() == {"deleted": 0}


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("/v1/memories", ["query", "user_id"]),
        ("/v1/memories?user_id=", ["query", "user_id"]),
        ("/v1/memories?user_id=a%00", ["query", "user_id"]),
        ("/v1/memories?user_id=" + "x" * (LIMITS.user_id_chars + 1), ["query", "user_id"]),
        ("/v1/memories?user_id=%ff", ["query"]),
        ("/v1/memories?user_id=%ed%a0%80", ["query"]),
        ("/v1/memories?%ff=a&user_id=ada", ["query"]),
        ("/v1/memories?user_id=ada&user_id=ada", ["query", "user_id"]),
        ("/v1/memories?user_id=ada&user%5Fid=bob", ["query", "user_id"]),
        ("/v1/memories?user_id=ada&userid=bob", ["query", "userid"]),
        ("/v1/memories?user_id=ada&top_k=3", ["query", "top_k"]),
        ("/v1/memories?user_id=ada&limit=0", ["query", "limit"]),
        ("/v1/memories?user_id=ada&limit=-1", ["query", "limit"]),
        (f"/v1/memories?user_id=ada&limit={LIMITS.top_k + 1}", ["query", "limit"]),
        ("/v1/memories?user_id=ada&limit=1.5", ["query", "limit"]),
        ("/v1/memories?user_id=ada&limit=true", ["query", "limit"]),
        ("/v1/memories?user_id=ada&limit=", ["query", "limit"]),
        ("/v1/memories?user_id=ada&limit=" + "9" * 5_000, ["query", "limit"]),
        ("/v1/memories?user_id=ada&conversation_id=", ["query", "conversation_id"]),
        ("/v1/memories?user_id=ada&cursor=", ["query", "cursor"]),
        ("/v1/memories?user_id=ada&cursor=AAAA", ["query", "cursor"]),
        ("/v1/memories?user_id=ada&cursor=%00", ["query", "cursor"]),
        ("/v1/memories?user_id=ada&cursor=" + "A" * 28, ["query", "cursor"]),
        (f"/v1/memories/{ID}", ["query", "user_id"]),
        (f"/v1/memories/{ID}?user_id=ada&conversation_id=x", ["query", "conversation_id"]),
        ("/v1/memories/%ff?user_id=ada", ["path"]),
        (f"/v1/knowledge/{ID}?user_id=ada", ["query", "user_id"]),
    ],
)
async def test_a_url_that_can_not_be_meant_is_refused_at_its_place(
    api: Api, url: str, place: list[str]
) -> None:
    assert read_places(await api.client.get(url)) == [place]


@pytest.mark.parametrize("url", ["/v1/memories", "/v1/memories/recall", "/v1/knowledge"])
async def test_a_body_route_takes_no_query_parameters(api: Api, url: str) -> None:
    response = await api.post(f"{url}?user_id=ada", MEMORY)
    assert read_places(response) == [["query", "user_id"]]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("/v1/users//memories", ["path", "user_id"]),
        ("/v1/users/%00/memories", ["path", "user_id"]),
        ("/v1/users/%ff/memories", ["path"]),
        ("/v1/users/" + "x" * (LIMITS.user_id_chars + 1) + "/memories", ["path", "user_id"]),
        ("/v1/users/ada/memories?conversation_id=kitchen", ["query", "conversation_id"]),
    ],
)
async def test_nothing_is_deleted_for_a_user_that_can_not_be_meant(
    embedder: Embedder, url: str, place: list[str]
) -> None:
    async with serving(embedder) as api:
        await api.post("/v1/memories", MEMORY)
        assert read_places(await api.client.delete(url)) == [place]
        assert await api.records() == 1


@pytest.mark.parametrize("url", ["/v1/users/ada/memories%0A", "/v1/users/ada/memories/"])
async def test_nothing_is_deleted_by_a_path_that_only_looks_like_one(
    embedder: Embedder, url: str
) -> None:
    async with serving(embedder) as api:
        await api.post("/v1/memories", MEMORY)
        assert (await api.client.delete(url)).status_code in {307, 404}
        assert await api.records() == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/memories", b'{"user_id":"a","content":"x","tags":[%s1]}' % (b"1," * 5_000)),
        ("/v1/memories", b"{%s}" % b",".join(b'"f%d":1' % n for n in range(5_000))),
        ("/v1/memories/batch", b'{"memories":[%s1]}' % (b"1," * 100_000)),
        ("/v1/memories/batch", b'{"memories":[%s{}]}' % (b"{}," * 900)),
    ],
    ids=["tags", "fields", "numbers in a batch", "empty objects in a batch"],
)
async def test_thousands_of_errors_in_one_body_do_not_make_thousands_of_answers(
    api: Api, path: str, body: bytes
) -> None:
    most = 20 if path.endswith("batch") else 2
    assert 1 <= len(read_places(await api.post(path, body))) <= most


async def test_a_body_about_one_record_is_no_larger_than_its_fields_can_be(
    embedder: Embedder,
) -> None:
    largest = {
        "user_id": "\U0001f98a" * LIMITS.user_id_chars,
        "content": "\U0001f98a" * LIMITS.content_chars,
        "conversation_id": "\U0001f98a" * LIMITS.conversation_id_chars,
        "tags": ["\U0001f98a" * LIMITS.tag_chars] * LIMITS.tags,
        "metadata": {"a": "\u00e9" * (LIMITS.metadata_bytes // 2 - 4)},
    }
    async with serving(embedder) as api:
        assert (await api.post("/v1/memories", largest)).status_code == 201
        padded = json.dumps(largest).encode() + b" " * 500_000
        read_problem(await api.post("/v1/memories", padded), 413, "body_too_large")
        batch = {"memories": [largest]}
        assert (await api.post("/v1/memories/batch", batch)).status_code == 201


async def test_the_size_of_a_body_has_a_limit(embedder: Embedder) -> None:
    limits = Limits(body_bytes=1_024, content_chars=10_000)
    async with serving(embedder, limits=limits) as api:
        fitting = {"user_id": "ada", "content": "x"}
        fitting["content"] = "x" * (1_024 - len(json.dumps(fitting)) + 1)
        assert (await api.post("/v1/memories", fitting)).status_code == 201
        fitting["content"] += "x"
        problem = read_problem(await api.post("/v1/memories", fitting), 413, "body_too_large")
        assert "1024" in problem["detail"]
        assert await api.records() == 1


async def test_a_problem_tells_nothing_of_what_was_sent(api: Api) -> None:
    secret = "hunter2"  # noqa: S105
    for body in (
        {"user_id": [secret], "content": {"x": secret}},
        {"user_id": "ada", "content": f"{secret}\x00", "metadata": {"a": f"{secret}\x00"}},
        {"user_id": "ada", "content": "x", "tags": [{"a": secret}]},
    ):
        response = await api.client.post(
            "/v1/memories",
            content=json.dumps(body),
            headers={**JSON, "Authorization": f"Bearer {secret}", "Cookie": secret},
        )
        read_places(response)
        assert secret not in response.text
