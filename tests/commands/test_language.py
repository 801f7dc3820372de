"""`memory-driver language`, as an operator runs it."""

import subprocess
from pathlib import Path

import pytest

from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.errors import ConfigurationError
from app.settings import DatabaseSettings, Limits, RecallSettings
from tests.commands.running import run_command
from tests.conftest import NewDatabase


def driver(url: str, embedder: Embedder, language: str) -> PgvectorDriver:
    """A driver whose words are of that language."""
    database = DatabaseSettings.model_validate({"url": url})
    return PgvectorDriver(database, embedder, Limits(), RecallSettings(language=language))


async def run(root: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver language` with these words."""
    return await run_command(root, {"DATABASE_URL": url}, "language", *words)


async def test_stored_memories_are_found_by_the_words_of_the_new_language(
    new_database: NewDatabase, embedder: Embedder, root: Path
) -> None:
    url = await new_database()
    async with driver(url, embedder, "english") as english:
        await english.store("ada", "Adas Häuser stehen am Fluss.")
        assert await english.recall("ada", query="Haus", use_vector=False) == []
    with pytest.raises(ConfigurationError, match="memory-driver language"):
        await driver(url, embedder, "german").open()
    changed = await run(root, url, "german")
    assert changed.returncode == 0, changed.stderr
    assert changed.stdout == (
        "The words of 1 memories are german.\n"
        "Set MEMORY_RECALL_LANGUAGE=german, or the service refuses to start.\n"
    )
    async with driver(url, embedder, "german") as german:
        assert len(await german.recall("ada", query="Haus", use_vector=False)) == 1


async def test_a_language_that_postgresql_does_not_know_changes_nothing(
    new_database: NewDatabase, embedder: Embedder, root: Path
) -> None:
    url = await new_database()
    async with driver(url, embedder, "english") as english:
        await english.store("ada", "Ada has two kettles.")
    refused = await run(root, url, "klingon")
    assert refused.returncode == 1
    assert refused.stderr.startswith("memory-driver: this PostgreSQL has no text search conf")
    assert refused.stderr.count("\n") == 1
    async with driver(url, embedder, "english") as english:
        assert len(await english.recall("ada", query="kettle", use_vector=False)) == 1
