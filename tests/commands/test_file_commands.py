"""`memory-driver export` and `import`, as an operator runs them."""

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from tests.commands.running import run_command
from tests.conftest import NewDatabase
from tests.transfer.records import by_place, every_record, hostile_records


async def run(root: Path, url: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver` with these words; `here` is a driver beside the selected one."""
    settings = {
        "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
        "MEMORY_EMBEDDING_ENGINE": "onnxruntime",
        "MEMORY_LOG_LEVEL": "error",
        "MEMORY_DRIVER": "pgvector",
        "DATABASE_URL": url,
    }
    return await run_command(root, settings | more, *words)


def pgvector(url: str, embedder: Embedder) -> PgvectorDriver:
    return PgvectorDriver(DatabaseSettings(url=SecretStr(url)), embedder, Limits())


@pytest.mark.parametrize(
    ("end", "vectors"), [("jsonl", ()), ("jsonl.gz", ("--vectors",)), ("zst", ())]
)
async def test_what_is_exported_is_imported_byte_for_byte(
    new_database: NewDatabase,
    embedder: Embedder,
    root: Path,
    tmp_path: Path,
    end: str,
    vectors: tuple[str, ...],
) -> None:
    here, there = [await new_database() for _ in range(2)]
    file, again = tmp_path / f"records.{end}", tmp_path / f"again.{end}"
    records = hostile_records()
    async with pgvector(here, embedder) as driver:
        await driver.import_records(records)
    out = await run(root, here, "export", str(file), *vectors)
    half = len(records) // 2
    said = f"{file} has {half} memories and {half} records of knowledge.\n"
    assert (out.returncode, out.stdout) == (0, said), out.stderr
    assert os.listdir(tmp_path) == [file.name]
    for _ in range(2):
        into = await run(root, there, "import", str(file), "--json")
        assert into.returncode == 0, into.stderr
        assert json.loads(into.stdout) == {"memories": half, "knowledge": half}
    async with pgvector(there, embedder) as driver:
        assert by_place(await every_record(driver)) == by_place(records)
    assert (await run(root, there, "export", str(again), *vectors)).returncode == 0
    assert again.read_bytes() == file.read_bytes()


async def test_standard_input_and_output_are_files_too(
    new_database: NewDatabase, embedder: Embedder, root: Path
) -> None:
    here, there = [await new_database() for _ in range(2)]
    async with pgvector(here, embedder) as driver:
        await driver.store("ada", "A kettle.")
        await driver.store("bob", "A pot.")
    out = await run(root, here, "export", "-", "--user", "ada")
    assert out.stderr == "- has 1 memories and 0 records of knowledge.\n"
    assert [json.loads(line).get("user_id") for line in out.stdout.splitlines()] == ["ada", None]
    settings = {"MEMORY_DRIVER": "pgvector", "DATABASE_URL": there, "MEMORY_LOG_LEVEL": "error"}
    settings["XDG_CACHE_HOME"] = os.environ["XDG_CACHE_HOME"]
    into = await run_command(root, settings, "import", "-", said=out.stdout)
    assert (into.returncode, into.stdout) == (
        0,
        "1 memories and 0 records of knowledge are in.\n",
    ), into.stderr


async def test_a_file_that_is_cut_or_wrong_is_refused_before_anything_is_kept(
    new_database: NewDatabase, embedder: Embedder, root: Path, tmp_path: Path
) -> None:
    here, there = [await new_database() for _ in range(2)]
    async with pgvector(here, embedder) as driver:
        for n in range(3):
            await driver.store("ada", f"kettle {n}")
    whole = tmp_path / "whole.jsonl.gz"
    assert (await run(root, here, "export", str(whole))).returncode == 0
    text = gzip.decompress(whole.read_bytes())
    refusals = {
        "cut.jsonl": (text[:-100], "the file is cut: it ends with line 4"),
        "cut.jsonl.gz": (whole.read_bytes()[:-20], "Compressed file ended before"),
        "no.jsonl.gz": (b"text", "Not a gzipped file"),
        "wrong.jsonl": (text.replace(b"kettle 1", b"kettle 7"), "line 4: the lines are not those"),
        "bad.jsonl": (text.replace(b"kettle 1", b""), "line 2: content must not be empty"),
        "no.zst": (b"text", "no.zst: "),
    }
    for name, (content, said) in refusals.items():
        (tmp_path / name).write_bytes(content)
        refused = await run(root, there, "import", str(tmp_path / name))
        assert (refused.returncode, refused.stdout) == (1, ""), name
        assert refused.stderr.startswith("memory-driver: ")
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    missing = await run(root, there, "import", str(tmp_path / "none.jsonl"))
    assert missing.stderr.endswith("none.jsonl: No such file or directory\n")
    nowhere = await run(root, here, "export", str(tmp_path / "no" / "folder.jsonl"))
    assert nowhere.stderr.endswith("folder.jsonl: No such file or directory\n")
    dry = await run(root, there, "import", str(whole), "--dry-run")
    assert dry.stdout == "3 memories and 0 records of knowledge would be in.\n"
    async with pgvector(there, embedder) as driver:
        assert await every_record(driver) == []


async def test_a_service_that_has_the_database_to_itself_is_to_be_asked(
    root: Path, tmp_path: Path
) -> None:
    server = EmbeddedPostgres(tmp_path / "data")
    await server.open()
    settings = {"MEMORY_DRIVER": "pgvector", "MEMORY_DATA_DIR": str(tmp_path / "data")}
    settings |= {"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"], "MEMORY_LOG_LEVEL": "error"}
    for words, route in (("export", "GET /v1/export"), ("import", "POST /v1/import")):
        refused = await run_command(root, settings, words, str(tmp_path / "x.jsonl"))
        assert refused.returncode == 1
        assert refused.stderr.endswith(f"if it is the service, ask it instead: {route}\n")
    await server.close()
    assert not (tmp_path / "x.jsonl").exists()
