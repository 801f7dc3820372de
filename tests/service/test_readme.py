"""The README's commands do what it says: they are run as they stand there."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.service.service import Service

ANSWERED = re.compile(r"```bash\n(.*?)```\n\n```json\n(.*?)```", re.DOTALL)
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
CHANGING = {"memory_id", "knowledge_id", "created_at", "request_id"}


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text()


def answers(text: str) -> list[Any]:
    """The JSON values of a text, without what differs every time, scores to two decimals."""
    decoder = json.JSONDecoder(object_hook=settled)
    values = []
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:].strip()
    return values


def settled(answer: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 2) if isinstance(value, float) else value
        for name, value in answer.items()
        if name not in CHANGING
    }


def test_the_first_conversation_answers_as_it_stands_there(readme: str, tmp_path: Path) -> None:
    conversation = ANSWERED.findall(readme)
    assert len(conversation) >= 7
    settings = {"MEMORY_DRIVER": "pgvector", "MEMORY_DATA_DIR": str(tmp_path / "data")}
    with Service(settings) as service:
        for commands, printed in conversation:
            said = subprocess.run(
                ["bash", "-euc", commands.replace("http://127.0.0.1:8000", service.url)],
                capture_output=True,
                text=True,
                check=True,
            )
            assert answers(said.stdout) == answers(printed), commands


def test_the_program_without_http_prints_what_it_remembers(readme: str, root: Path) -> None:
    program = next(code for code in PYTHON.findall(readme) if "set_memory_driver" in code)
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"Ada has a kettle of copper\. 0\.\d+\n", said.stdout)


def test_the_drivers_own_code_is_served(readme: str, root: Path, tmp_path: Path) -> None:
    code = next(code for code in PYTHON.findall(readme) if "class NotesDriver" in code)
    (tmp_path / "notes_driver.py").write_text(code)
    settings = {"MEMORY_DRIVER": "notes_driver:NotesDriver", "PYTHONPATH": str(tmp_path)}
    with Service(settings) as service, service.client() as client:
        body = {"user_id": "ada", "content": "a copper kettle", "tags": ["home"]}
        stored = client.post("/v1/memories", json=body).raise_for_status().json()
        for user, count in (("ada", 1), ("bob", 0)):
            query = {"user_id": user, "query": "kettle"}
            found = client.post("/v1/memories/recall", json=query).raise_for_status().json()
            assert len(found["memories"]) == count
        knowledge = {"content": "a kettle whistles", "category": "kitchen"}
        client.post("/v1/knowledge", json=knowledge).raise_for_status()
        found = client.post("/v1/knowledge/recall", json={"query": "kettle"}).json()
        assert found["knowledge"][0]["content"] == "a kettle whistles"
        assert client.get("/v1/memories?user_id=ada").status_code == 501
        deleted = client.delete(f"/v1/memories/{stored['memory_id']}?user_id=ada")
        assert deleted.status_code == 204


def test_every_file_that_it_names_is_there(readme: str, root: Path) -> None:
    for name in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (root / name).exists(), name
