"""The commands and programs of the README and the guides are run as they stand there."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.guides import GUIDES, fenced
from tests.service.service import Service

ANSWERED = re.compile(r"```bash\n(.*?)```\n\n```json\n(.*?)```", re.DOTALL)
CHANGING = {"memory_id", "knowledge_id", "created_at", "updated_at", "occurred_at", "request_id"}


CONVERSATIONS = {name: found for name, text in GUIDES.items() if (found := ANSWERED.findall(text))}
"""Of each page that has any: the commands and what they print, in order."""


def program(having: str) -> str:
    """The one program in the README and the guides that has this text."""
    (code,) = [
        each for text in GUIDES.values() for each in fenced(text, "python") if having in each
    ]
    return code


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


def test_the_readme_and_the_guide_of_the_api_have_a_conversation() -> None:
    assert {name: len(found) for name, found in CONVERSATIONS.items()} == {
        "README.md": 2,
        "docs/api.md": 11,
    }


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_answers_as_it_stands_there(name: str, tmp_path: Path) -> None:
    settings = {"MEMORY_DRIVER": "pgvector", "MEMORY_DATA_DIR": str(tmp_path / "data")}
    with Service(settings) as service:
        for commands, printed in CONVERSATIONS[name]:
            said = subprocess.run(
                ["bash", "-euc", commands.replace("http://127.0.0.1:8000", service.url)],
                capture_output=True,
                text=True,
                check=True,
            )
            assert answers(said.stdout) == answers(printed), commands


def test_the_program_without_http_prints_what_it_remembers(root: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", program("set_memory_driver")],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r"Ada has a kettle of copper\. 0\.\d+\n", said.stdout)


def test_the_drivers_own_code_is_served(tmp_path: Path) -> None:
    (tmp_path / "notes_driver.py").write_text(program("class NotesDriver"))
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
