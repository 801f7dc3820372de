"""The OpenAPI document: true, complete, and the same for everybody."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.embedding import Embedder
from app.openapi import render
from app.settings import Limits
from tests.api.serving import Api, build_app

OPERATIONS = {
    "store": ("post", "/v1/memories", 201),
    "store_many": ("post", "/v1/memories/batch", 201),
    "recall": ("post", "/v1/memories/recall", 200),
    "list_memories": ("get", "/v1/memories", 200),
    "get_memory": ("get", "/v1/memories/{memory_id}", 200),
    "update": ("patch", "/v1/memories/{memory_id}", 200),
    "delete": ("delete", "/v1/memories/{memory_id}", 204),
    "delete_user": ("delete", "/v1/users/{user_id}/memories", 200),
    "delete_many": ("post", "/v1/memories/delete", 200),
    "forget_user": ("post", "/v1/users/forget", 200),
    "list_users": ("get", "/v1/users", 200),
    "store_knowledge": ("post", "/v1/knowledge", 201),
    "store_knowledge_many": ("post", "/v1/knowledge/batch", 201),
    "recall_knowledge": ("post", "/v1/knowledge/recall", 200),
    "list_knowledge": ("get", "/v1/knowledge", 200),
    "get_knowledge": ("get", "/v1/knowledge/{knowledge_id}", 200),
    "update_knowledge": ("patch", "/v1/knowledge/{knowledge_id}", 200),
    "delete_knowledge": ("delete", "/v1/knowledge/{knowledge_id}", 204),
    "put_document": ("put", "/v1/knowledge/documents/{doc_id}", 200),
    "put_any_document": ("post", "/v1/knowledge/documents", 200),
    "delete_document": ("delete", "/v1/knowledge/documents/{doc_id}", 200),
    "delete_any_document": ("post", "/v1/knowledge/documents/delete", 200),
    "export": ("get", "/v1/export", 200),
    "import": ("post", "/v1/import", 200),
    "repair": ("post", "/v1/admin/repair", 200),
    "reembed": ("post", "/v1/admin/reembed", 202),
    "call_off_reembed": ("delete", "/v1/admin/reembed", 200),
    "health": ("get", "/health", 200),
    "live": ("get", "/health/live", 200),
    "ready": ("get", "/health/ready", 200),
    "metrics": ("get", "/metrics", 200),
}
"""Every operation: its method, path and success."""

HEALTH = {"health", "live", "ready", "metrics"}


@pytest.fixture(scope="module")
def document(root: Path) -> dict[str, Any]:
    """The document that the repository has."""
    found: dict[str, Any] = json.loads((root / "openapi.json").read_text())
    return found


def operation(document: dict[str, Any], name: str) -> dict[str, Any]:
    """One operation of the document."""
    method, path, _ = OPERATIONS[name]
    found: dict[str, Any] = document["paths"][path][method]
    return found


def walk(node: object) -> Iterator[dict[str, Any]]:
    """Every object inside `node`."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node:  # type: ignore[attr-defined]
        if isinstance(child, (dict, list)):
            yield from walk(child)


def test_the_file_is_what_the_service_serves(root: Path) -> None:
    assert (root / "openapi.json").read_text() == render(), "openapi.json is old: make openapi"


def test_the_document_does_not_depend_on_the_environment(root: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "MEMORY_DRIVER": "pgvector",
        "MEMORY_MAX_CONTENT_CHARS": "7",
        "MEMORY_MAX_BATCH": "7",
        "MEMORY_API_KEYS": "key",
        "MEMORY_EMBEDDING_MODEL": "another",
        "DATABASE_URL": "postgresql://nowhere/memory",
    }
    subprocess.run([sys.executable, "-m", "app.openapi"], env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "openapi.json").read_bytes() == (root / "openapi.json").read_bytes()


def test_it_has_every_operation_and_no_other(document: dict[str, Any]) -> None:
    found = {
        details["operationId"]: (method, path)
        for path, methods in document["paths"].items()
        for method, details in methods.items()
    }
    assert found == {name: (method, path) for name, (method, path, _) in OPERATIONS.items()}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_tells_its_success(document: dict[str, Any], name: str) -> None:
    responses = operation(document, name)["responses"]
    again = {"200"} if name.startswith("store") else set()
    success = str(OPERATIONS[name][2])
    assert {code for code in responses if code < "400"} == {success, *again}
    for code in again:  # what was there already is as it would be if it was new
        assert {**responses[code], "description": ""} == {**responses[success], "description": ""}


@pytest.mark.parametrize("name", OPERATIONS)
def test_stores_and_nothing_else_take_a_key(document: dict[str, Any], name: str) -> None:
    names = {each["name"] for each in operation(document, name).get("parameters", [])}
    assert ("Idempotency-Key" in names) == name.startswith("store")


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_error_is_a_problem_with_an_example(document: dict[str, Any], name: str) -> None:
    responses = operation(document, name)["responses"]
    for code, response in responses.items():
        if code < "400" or (name, code) == ("health", "503"):
            continue
        assert response["description"]
        assert list(response["content"]) == ["application/problem+json"], (name, code)
        media = response["content"]["application/problem+json"]
        assert media["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert media["example"]["status"] == int(code)


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - HEALTH))
def test_an_operation_tells_the_errors_it_can_answer_with(
    document: dict[str, Any], name: str
) -> None:
    method, path, _ = OPERATIONS[name]
    expected = {"401", "403", "422", "500", "502", "503", "504"}
    if method in {"post", "put", "patch"}:
        expected |= {"408", "413", "415"}
    if method == "patch":
        expected |= {"409", "412"}
    if name.startswith("store") or name == "reembed":
        expected |= {"409"}
    if path.endswith("_id}") and "document" not in name:
        expected |= {"404"}
    if name not in {"delete", "recall_knowledge"}:
        expected |= {"501"}
    assert {code for code in operation(document, name)["responses"] if code >= "400"} == expected


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_key_is_asked_for_everywhere_but_for_health(document: dict[str, Any], name: str) -> None:
    assert ("security" in operation(document, name)) == (name not in HEALTH)


LINES = {"import"}
"""Operations whose body is no JSON."""


@pytest.mark.parametrize(
    "name", [name for name, row in OPERATIONS.items() if row[0] == "post" and name not in LINES]
)
async def test_every_request_body_has_an_example_that_the_service_takes(
    document: dict[str, Any], api: Api, name: str
) -> None:
    media = operation(document, name)["requestBody"]["content"]["application/json"]
    schema = document["components"]["schemas"][media["schema"]["$ref"].rpartition("/")[2]]
    assert schema["additionalProperties"] is False
    assert schema["examples"]
    # This service has one driver, and so nothing to repair it by; and not the other model.
    status = 422 if name in {"repair", "reembed"} else OPERATIONS[name][2]
    for example in schema["examples"]:
        response = await api.post(OPERATIONS[name][1], example)
        assert response.status_code == status, response.text


async def test_the_examples_of_changes_are_taken_under_both_media_types(
    document: dict[str, Any], api: Api
) -> None:
    memory = (await api.post("/v1/memories", {"user_id": "ada", "content": "x"})).json()
    knowledge = (await api.post("/v1/knowledge", {"content": "x", "category": "y"})).json()
    urls = {
        "update": f"/v1/memories/{memory['memory_id']}?user_id=ada",
        "update_knowledge": f"/v1/knowledge/{knowledge['knowledge_id']}",
    }
    for name, url in urls.items():
        content = operation(document, name)["requestBody"]["content"]
        assert list(content) == ["application/json", "application/merge-patch+json"]
        for media_type, media in content.items():
            schema = document["components"]["schemas"][media["schema"]["$ref"].rpartition("/")[2]]
            assert schema["additionalProperties"] is False
            assert "required" not in schema
            for example in schema["examples"]:
                response = await api.client.patch(
                    url, content=json.dumps(example), headers={"Content-Type": media_type}
                )
                assert response.status_code == 200, response.text


def test_versions_are_told_by_all_that_answer_with_one_record(document: dict[str, Any]) -> None:
    tagged = {
        name
        for name, (_, _, status) in OPERATIONS.items()
        if "ETag" in operation(document, name)["responses"][str(status)].get("headers", {})
    }
    assert tagged == {
        "store",
        "get_memory",
        "update",
        "store_knowledge",
        "get_knowledge",
        "update_knowledge",
    }
    conditional = {
        name
        for name in OPERATIONS
        for parameter in operation(document, name).get("parameters", [])
        if (parameter["in"], parameter["name"]) == ("header", "If-Match")
    }
    assert conditional == {"update", "update_knowledge"}


def test_every_reference_is_there(document: dict[str, Any]) -> None:
    references = {node["$ref"] for node in walk(document) if isinstance(node.get("$ref"), str)}
    assert references
    for reference in references:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_every_schema_is_used(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


def test_limits_are_those_of_the_settings(embedder: Embedder) -> None:
    limits = Limits(
        content_chars=1_001,
        user_id_chars=102,
        conversation_id_chars=103,
        tags=4,
        tag_chars=105,
        top_k=106,
        batch=107,
        category_chars=108,
        title_chars=109,
        doc_id_chars=110,
        query_chars=111,
    )
    document = build_app(embedder, limits=limits).openapi()
    schemas = document["components"]["schemas"]
    store = schemas["StoreRequest"]["properties"]
    assert store["content"]["maxLength"] == 1_001
    assert store["content"]["minLength"] == 1
    assert store["user_id"]["maxLength"] == 102
    assert limited(store["conversation_id"])["maxLength"] == 103
    assert limited(store["tags"])["maxItems"] == 4
    assert limited(store["tags"])["items"]["maxLength"] == 105
    recall = schemas["RecallRequest"]["properties"]
    assert (recall["top_k"]["minimum"], recall["top_k"]["maximum"]) == (1, 106)
    assert limited(recall["query"])["maxLength"] == 111
    batch = schemas["StoreManyRequest"]["properties"]["memories"]
    assert (batch["minItems"], batch["maxItems"]) == (1, 107)
    knowledge = schemas["StoreKnowledgeRequest"]["properties"]
    assert knowledge["category"]["maxLength"] == 108
    assert limited(knowledge["title"])["maxLength"] == 109
    assert limited(knowledge["doc_id"])["maxLength"] == 110
    listed = {p["name"]: p["schema"] for p in operation(document, "list_memories")["parameters"]}
    assert listed["limit"]["maximum"] == 106


def limited(schema: dict[str, Any]) -> dict[str, Any]:
    """What an optional field is when it is not null."""
    found: dict[str, Any]
    found, null = schema["anyOf"]
    assert null == {"type": "null"}
    return found


async def test_the_documentation_page_needs_no_other_host(api: Api) -> None:
    page = (await api.client.get("/docs")).raise_for_status().text
    places = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)""", page)
    assert len(places) >= 3
    for place in places:
        assert place.startswith("/"), place
        (await api.client.get(place)).raise_for_status()


def test_a_query_parameter_is_never_null(document: dict[str, Any]) -> None:
    """Generators of clients drop a parameter that may be: a URL has no null."""
    parameters = [
        parameter
        for operations in document["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
    ]
    optional = {one["name"] for one in parameters if one["in"] == "query" and not one["required"]}
    assert {"conversation_id", "cursor", "filter", "limit"} <= optional
    assert not [one for one in parameters if {"type": "null"} in one["schema"].get("anyOf", ())]
