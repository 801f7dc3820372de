"""GET /v1/export and POST /v1/import: a user's own data, a tenant's, and everything."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from structlog.testing import capture_logs

from app.core.memory.records import Memory, Record
from app.core.memory.requests import Export
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import ConnectionLost
from app.transfer.batches import MOST
from tests.api.serving import Api, build_app, listening, read_problem, serving

KEYS = (
    "acme-key;tenant=acme,acme-reader;tenant=acme;scopes=read,globex-key;tenant=globex,"
    "free-key;scopes=read+write,admin-key;scopes=admin+read+write"
)
LINES = {"Content-Type": "application/x-ndjson"}


def records_in(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.split("\n")[:-1]]
    *records, end = [line for line in lines if "model" not in line]
    counts = end["end"]
    assert counts["memories"] + counts["knowledge"] == len(records)
    return records


def as_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def fill(client: httpx.AsyncClient, key: str, user_id: str) -> None:
    memory = {"user_id": user_id, "content": f"A kettle of {user_id}, {key}."}
    stored = await client.post("/v1/memories", json=memory, headers=as_key(key))
    assert stored.status_code == 201, stored.text
    known = {"category": "physics", "content": f"Kettles boil, says {key}."}
    taught = await client.post("/v1/knowledge", json=known, headers=as_key(key))
    assert taught.status_code == 201, taught.text


@pytest.fixture
async def keyed(embedder: Embedder) -> AsyncIterator[Api]:
    async with serving(embedder, api_keys=KEYS) as api:
        for key in ("acme-key", "globex-key", "free-key"):
            for user_id in ("ada", "bob"):
                await fill(api.client, key, user_id)
        yield api


async def test_an_export_is_imported_elsewhere_as_it_was(api: Api, embedder: Embedder) -> None:
    for user_id in ("ada", "b\u2028\nob", "Ω/%?#"):
        memory = {"user_id": user_id, "content": f"A kettle of {user_id}.\r\n\u2028", "tags": ["x"]}
        assert (await api.client.post("/v1/memories", json=memory)).status_code == 201
    known = {"category": "physics", "content": "Kettles boil.", "doc_id": "heat"}
    await api.client.post("/v1/knowledge", json=known)
    for parameters in ({}, {"vectors": "true"}):
        file = await api.client.get("/v1/export", params=parameters)
        assert len(records_in(file)) == 4
        async with serving(embedder) as other:
            for _ in range(2):
                told = await other.client.post("/v1/import", content=file.content, headers=LINES)
                assert (told.status_code, told.json()) == (200, {"memories": 3, "knowledge": 1})
            again = await other.client.get("/v1/export", params=parameters)
            assert again.content == file.content


async def test_one_users_export_has_the_fields_that_the_api_has(api: Api) -> None:
    stored = await api.client.post("/v1/memories", json={"user_id": "ada", "content": "A kettle."})
    await api.client.post("/v1/memories", json={"user_id": "adam", "content": "A pot."})
    [record] = records_in(await api.client.get("/v1/export", params={"user_id": "ada"}))
    assert record == stored.json()


async def test_an_export_since_a_moment_has_what_is_newer(api: Api) -> None:
    old = await api.client.post("/v1/memories", json={"user_id": "ada", "content": "A kettle."})
    new = await api.client.post("/v1/memories", json={"user_id": "ada", "content": "A pot."})
    since = new.json()["created_at"]
    assert old.json()["created_at"] < since
    [record] = records_in(await api.client.get("/v1/export", params={"since": since}))
    assert record["content"] == "A pot."
    refused = await api.client.get("/v1/export", params={"since": "yesterday"})
    assert refused.status_code == 422


async def test_a_tenants_export_has_all_of_the_tenant_and_nothing_else(keyed: Api) -> None:
    for key in ("acme-key", "acme-reader"):
        records = records_in(await keyed.client.get("/v1/export", headers=as_key(key)))
        assert [record.get("user_id") for record in records] == ["ada", "bob", None, None]
        assert all("acme-key" in record["content"] for record in records)
        mine = await keyed.client.get("/v1/export", params={"user_id": "ada"}, headers=as_key(key))
        assert [record["user_id"] for record in records_in(mine)] == ["ada"]


async def test_everything_is_for_the_scope_admin_and_has_no_tenants_records(keyed: Api) -> None:
    refused = await keyed.client.get("/v1/export", headers=as_key("free-key"))
    read_problem(refused, 403, "forbidden")
    mine = {"user_id": "ada"}
    own = await keyed.client.get("/v1/export", params=mine, headers=as_key("free-key"))
    assert [record["user_id"] for record in records_in(own)] == ["ada"]
    everything = await keyed.client.get("/v1/export", headers=as_key("admin-key"))
    assert all("free-key" in record["content"] for record in records_in(everything))
    assert len(records_in(everything)) == 4


async def test_a_tenant_imports_for_itself_alone(keyed: Api) -> None:
    acme = await keyed.client.get("/v1/export", headers=as_key("acme-key"))
    for key in ("acme-reader", "free-key"):
        refused = await keyed.client.post(
            "/v1/import", content=acme.content, headers=LINES | as_key(key)
        )
        read_problem(refused, 403, "forbidden")
    taken = await keyed.client.post(
        "/v1/import", content=acme.content, headers=LINES | as_key("globex-key")
    )
    assert taken.json() == {"memories": 2, "knowledge": 2}
    theirs = records_in(await keyed.client.get("/v1/export", headers=as_key("globex-key")))
    assert len(theirs) == 8
    assert len(records_in(await keyed.client.get("/v1/export", headers=as_key("acme-key")))) == 4
    with pytest.MonkeyPatch.context() as patch:  # what else refuses it: a digest that is right
        patch.setattr("app.transfer.lines.Ending.check", lambda *_: None)
        imitation = acme.text.replace('"user_id":"ada"', '"user_id":"\\u001facme\\u001fada"')
        refused = await keyed.client.post(
            "/v1/import", content=imitation.encode(), headers=LINES | as_key("admin-key")
        )
    assert "tenants' users do" in read_problem(refused, 422, "invalid_input")["detail"]


async def test_a_bad_line_is_told_with_its_number(api: Api) -> None:
    await api.client.post("/v1/memories", json={"user_id": "ada", "content": "A kettle."})
    file = (await api.client.get("/v1/export")).text
    bad = file.replace("A kettle.", "")
    refused = await api.client.post("/v1/import", content=bad.encode(), headers=LINES)
    assert refused.status_code == 422
    [place] = refused.json()["errors"]
    assert place["loc"] == ["body", 1, "content"]
    assert place["msg"] == "line 1: content must not be empty"
    cut = await api.client.post("/v1/import", content=file.split("\n")[0].encode(), headers=LINES)
    assert cut.status_code == 422
    assert "the file is cut" in cut.json()["detail"]
    nothing = await api.client.post("/v1/import", content=b"", headers=LINES)
    assert nothing.status_code == 422


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/jsonl; charset=utf-8"}, 200),
        ({"Content-Type": "Application/X-NDJSON"}, 200),
    ],
)
async def test_a_body_is_json_lines_without_compression(
    api: Api, headers: dict[str, str], status: int
) -> None:
    file = (await api.client.get("/v1/export")).content
    answer = await api.client.post("/v1/import", content=file, headers=headers)
    assert answer.status_code == status


async def test_a_head_does_not_read_everything(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    memory = Memory(
        memory_id=str(uuid4()), user_id="ada", content="A kettle.", created_at=datetime.now(UTC)
    )

    async def endless(self: object, wanted: Export) -> AsyncIterator[Record]:
        while True:
            read.append(wanted)
            yield memory

    monkeypatch.setattr(InMemoryDriver, "_export", endless)
    answer = await api.client.head("/v1/export")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert len(read) < 10_000


async def test_what_fails_before_the_first_record_is_a_problem(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: object, wanted: Export) -> AsyncIterator[Record]:
        raise ConnectionLost
        yield

    monkeypatch.setattr(InMemoryDriver, "_export", fail)
    answer = await api.client.get("/v1/export")
    read_problem(answer, 503, "connection_lost")


async def test_what_fails_later_is_no_whole_answer(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = InMemoryDriver._export

    async def fail(self: InMemoryDriver, wanted: Export) -> AsyncIterator[Record]:
        async for record in export(self, wanted):
            for _ in range(MOST + 1):
                yield record
            raise ConnectionLost

    app = build_app(embedder)
    with capture_logs() as logs, listening(app) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await client.post("/v1/memories", json={"user_id": "ada", "content": "A kettle."})
            monkeypatch.setattr(InMemoryDriver, "_export", fail)
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                await client.get("/v1/export")
    assert [log["event"] for log in logs if log["log_level"] != "debug"] == ["export_cut_short"]


async def test_a_large_body_that_is_wrong_at_its_beginning_is_answered(
    embedder: Embedder,
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"memory_id":"7"}\n'
        for _ in range(300):
            yield b"x" * 99_999 + b"\n"

    with listening(build_app(embedder)) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            refused = await client.post("/v1/import", content=body(), headers=LINES)
            read_problem(refused, 422, "invalid_input")
            assert refused.json()["errors"][0]["loc"] == ["body", 1, "created_at"]
            assert (await client.get("/health/live")).status_code == 200
