"""`memory-driver words rebuild`, as an operator runs it."""

import subprocess
from pathlib import Path

import asyncpg
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
    """Run `memory-driver words rebuild` with these words."""
    return await run_command(root, {"DATABASE_URL": url}, "words", "rebuild", *words)


async def test_stored_memories_are_found_by_the_words_of_the_new_language(
    new_database: NewDatabase, embedder: Embedder, root: Path
) -> None:
    url = await new_database()
    async with driver(url, embedder, "english") as english:
        await english.store("ada", "Adas Häuser stehen am Fluss.")
        assert await english.recall("ada", query="Haus", use_vector=False) == []
    with pytest.raises(ConfigurationError, match="memory-driver words rebuild"):
        await driver(url, embedder, "german").open()
    changed = await run(root, url, "german")
    assert changed.returncode == 0, changed.stderr
    assert changed.stdout == (
        "The words of 1 memories are german.\n"
        "Set MEMORY_RECALL_LANGUAGE=german, or the service refuses to start.\n"
    )
    async with driver(url, embedder, "german") as german:
        assert len(await german.recall("ada", query="Haus", use_vector=False)) == 1


async def test_a_language_that_there_are_no_words_of_changes_nothing(
    new_database: NewDatabase, embedder: Embedder, root: Path
) -> None:
    url = await new_database()
    async with driver(url, embedder, "english") as english:
        await english.store("ada", "Ada has two kettles.")
    refused = await run(root, url, "klingon")
    assert refused.returncode == 1
    assert refused.stderr.startswith("memory-driver: MEMORY_RECALL_LANGUAGE: 'klingon' is none of")
    assert refused.stderr.count("\n") == 1
    async with driver(url, embedder, "english") as english:
        assert len(await english.recall("ada", query="kettle", use_vector=False)) == 1


async def test_words_of_another_version_are_told_and_made_anew(
    new_database: NewDatabase, embedder: Embedder, root: Path
) -> None:
    url = await new_database()
    async with driver(url, embedder, "english") as english:
        await english.store("ada", "Ada has two kettles.")
    connection = await asyncpg.connect(url)
    await connection.execute("update embedding_model set words = 0")
    await connection.close()
    with pytest.raises(ConfigurationError, match=r"of version 0, not 1: .* words rebuild"):
        await driver(url, embedder, "english").open()
    changed = await run(root, url)
    assert changed.stdout == "The words of 1 memories are english.\n"
    async with driver(url, embedder, "english") as english:
        assert len(await english.recall("ada", query="kettle", use_vector=False)) == 1
