"""A client that openapi-python-client makes of openapi.json talks to the service."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.service.conftest import KEY
from tests.service.service import Service

PACKAGE = "generated_memory_client"


@pytest.fixture(scope="module")
def generated(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the generator printed; its package can be imported from now on."""
    folder = tmp_path_factory.mktemp("client")
    tools = Path(sys.executable).parent
    made = subprocess.run(
        [
            tools / "openapi-python-client",
            "generate",
            f"--path={root / 'openapi.json'}",
            f"--output-path={folder / PACKAGE}",
            "--meta=none",
        ],
        env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    sys.path.insert(0, str(folder))
    yield made.stdout + made.stderr
    sys.path.remove(str(folder))


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


def version_of(get: ModuleType, known: dict[str, Any]) -> str:
    """The ETag of a record now."""
    version: str = get.sync_detailed(**known).headers["ETag"]
    return version


def test_the_generator_has_nothing_to_complain_about(generated: str) -> None:
    assert "warning" not in generated.lower(), generated


@pytest.mark.usefixtures("generated")
def test_the_generated_client_keeps_memories(service: Service) -> None:
    client = module("client").AuthenticatedClient(base_url=service.url, token=KEY)
    models, api = module("models"), "api.memories"
    user = f"generated-{uuid4()}"

    request = models.StoreRequest.from_dict(
        {
            "user_id": user,
            "content": "The kettle is copper.",
            "tags": ["home"],
            "metadata": {"speaker": "Ada"},
        }
    )
    stored = module(f"{api}.store").sync(client=client, body=request)
    assert isinstance(stored, models.Memory)
    assert stored.metadata["speaker"] == "Ada"
    store = module(f"{api}.store")
    for status in (201, 200):
        answer = store.sync_detailed(client=client, body=request, idempotency_key=user)
        assert (answer.status_code, type(answer.parsed)) == (status, models.Memory)
    again = {"user_id": user, "memory_id": answer.parsed.memory_id}
    module(f"{api}.delete").sync(**again, client=client)
    basil = models.StoreRequest(user_id=user, content="Water the basil on Sundays.")
    batch = models.StoreManyRequest(memories=[basil, basil])
    assert len(module(f"{api}.store_many").sync(client=client, body=batch).memories) == 2

    query = models.RecallRequest(user_id=user, query="What is the kettle made of?", top_k=2)
    found = module(f"{api}.recall").sync(client=client, body=query)
    assert isinstance(found, models.RecallResponse)
    assert [m.content for m in found.memories] == ["The kettle is copper.", basil.content]
    assert found.memories[0].memory_id == stored.memory_id

    page = module(f"{api}.list_memories").sync(client=client, user_id=user)
    assert [memory.content for memory in page.memories][-1] == "The kettle is copper."
    get, delete = module(f"{api}.get_memory"), module(f"{api}.delete")
    known = {"memory_id": stored.memory_id, "user_id": user, "client": client}
    assert get.sync(**known) == stored
    update = module(f"{api}.update")
    changes = models.UpdateRequest.from_dict({"conversation_id": None, "metadata": {"room": "K"}})
    answer = update.sync_detailed(**known, body=changes, if_match=version_of(get, known))
    assert answer.parsed.metadata.to_dict() == {"speaker": "Ada", "room": "K"}
    assert (answer.parsed.content, answer.parsed.tags) == (stored.content, ["home"])
    assert answer.parsed.updated_at > stored.updated_at == stored.created_at
    assert answer.headers["ETag"] == version_of(get, known)
    late = update.sync(**known, body=changes, if_match='"1"')
    assert isinstance(late, models.Problem)
    assert (late.status, late.code) == (412, "precondition_failed")
    assert delete.sync_detailed(**known).status_code == 204
    assert isinstance(get.sync(**known), models.Problem)
    assert module("api.users.delete_user").sync(user, client=client).deleted == 2


@pytest.mark.usefixtures("generated")
def test_the_generated_client_keeps_knowledge(service: Service) -> None:
    client = module("client").AuthenticatedClient(base_url=service.url, token=KEY)
    models, api = module("models"), "api.knowledge"
    category = f"generated-{uuid4()}"

    request = models.StoreKnowledgeRequest(
        content="Descale a kettle with lemon.", category=category, title="Kettle care"
    )
    stored = module(f"{api}.store_knowledge").sync(client=client, body=request)
    assert isinstance(stored, models.Knowledge)
    batch = models.StoreKnowledgeManyRequest(
        knowledge=[models.StoreKnowledgeRequest(content="Basil likes sun.", category=category)]
    )
    many = module(f"{api}.store_knowledge_many").sync(client=client, body=batch)
    assert [knowledge.content for knowledge in many.knowledge] == ["Basil likes sun."]

    query = models.RecallKnowledgeRequest(query="How do I clean a kettle?", category=category)
    found = module(f"{api}.recall_knowledge").sync(client=client, body=query)
    assert [k.title for k in found.knowledge] == ["Kettle care", None]

    get, delete = module(f"{api}.get_knowledge"), module(f"{api}.delete_knowledge")
    assert get.sync(stored.knowledge_id, client=client) == stored
    changed = module(f"{api}.update_knowledge").sync(
        stored.knowledge_id,
        client=client,
        body=models.UpdateKnowledgeRequest(title=None, doc_id="care"),
    )
    assert (changed.title, changed.doc_id, changed.content) == (None, "care", stored.content)
    for knowledge in (stored, *many.knowledge):
        assert delete.sync_detailed(knowledge.knowledge_id, client=client).status_code == 204
    assert isinstance(get.sync(stored.knowledge_id, client=client), models.Problem)


@pytest.mark.usefixtures("generated")
def test_the_generated_client_understands_problems(service: Service) -> None:
    client = module("client").AuthenticatedClient(base_url=service.url, token=KEY)
    models = module("models")

    body = models.StoreRequest(user_id="generated", content="")
    invalid = module("api.memories.store").sync(client=client, body=body)
    assert isinstance(invalid, models.Problem)
    assert (invalid.status, invalid.code) == (422, "invalid_input")
    assert invalid.errors[0].loc == ["body", "content"]
    missing = module("api.memories.get_memory").sync(
        UUID(int=0), client=client, user_id="generated"
    )
    assert isinstance(missing, models.Problem)
    assert (missing.status, missing.code) == (404, "not_found")


@pytest.mark.usefixtures("generated")
def test_the_generated_client_reads_the_health(service: Service) -> None:
    client = module("client").Client(base_url=service.url)
    assert module("api.health.health").sync(client=client).status == "ok"
    assert module("api.health.live").sync(client=client).status == "ok"
    assert module("api.health.ready").sync(client=client).status == "ok"
