"""Variables that look like settings and are none end the start; what platforms set does not."""

from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.settings import all_groups, load_settings
from tests.commands.running import run_command

SECRET = "hunter2"  # noqa: S105


def refusal() -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    said = str(caught.value)
    assert "\n" not in said
    assert SECRET not in said
    return said


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `.env` file that is read."""
    for group in all_groups():
        monkeypatch.setitem(group.model_config, "env_file", tmp_path / ".env")
    return tmp_path / ".env"


MEANT = {
    "MEMORY_API_KEY": "MEMORY_API_KEYS",
    "MEMORY_APIKEYS": "MEMORY_API_KEYS",
    "MEMORY_API__KEYS": "MEMORY_API_KEYS",
    "MEMROY_API_KEYS": "MEMORY_API_KEYS",
    "MEMROY_API_KEY": "MEMORY_API_KEYS",
    "MEMORYAPI_KEYS": "MEMORY_API_KEYS",
    "memory-api-keys": "MEMORY_API_KEYS",
    "MEMORY.API.KEYS": "MEMORY_API_KEYS",
    "MEM_API_KEYS": "MEMORY_API_KEYS",
    "MEMORIES_API_KEYS": "MEMORY_API_KEYS",
    "EMMORY_HOST": "MEMORY_HOST",
    "MEMORY_DRIVE": "MEMORY_DRIVER",
    "MEMORY_MAX_CONTENT_CHAR": "MEMORY_MAX_CONTENT_CHARS",
    "MEMORY_EMBED_MODEL": "MEMORY_EMBEDDING_MODEL",
    "memory_datadir": "MEMORY_DATA_DIR",
    "MEMORY_DATABASE_URL": "DATABASE_URL",
    "MEMORY_AUTOMEM_URL": "AUTOMEM_URL",
    "DATABSE_URL": "DATABASE_URL",
    "DATABASE_URI": "DATABASE_URL",
    "DATABASE_MIGRATE": "MEMORY_MIGRATE",
    "DATABASE_POOLMAX_SIZE": "DATABASE_POOL_MAX_SIZE",
    "AUTOMEM_APITOKEN": "AUTOMEM_API_TOKEN",
    "AUTOMEM_TAGS_SECRET": "AUTOMEM_TAG_SECRET",
    "MEMORY_DRIVERS_MAIN_URL": "MEMORY_DRIVERS__<NAME>__<OPTION>",
    "MEMORY_DRIVER__MAIN__URL": "MEMORY_DRIVERS__MAIN__URL",
    "MEMROY_DRIVERS__MAIN__URL": "MEMORY_DRIVERS__MAIN__URL",
}


@pytest.mark.parametrize("name", MEANT)
@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_name_that_is_nearly_a_setting_is_told_with_what_was_meant(
    name: str, where: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "file":
        file.write_text(f"OTHER=1\n{name}={SECRET}\n")
    else:
        monkeypatch.setenv(name, SECRET)
    told = f"{name.upper()}: there is no such setting; did you mean {MEANT[name]}?"
    assert refusal().startswith(told)


def test_what_can_t_be_seen_in_a_name_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_API_KEYS\N{NO-BREAK SPACE}", SECRET)
    assert refusal().startswith("MEMORY_API_KEYS\\xa0: there is no such setting; did you mean")


def test_every_other_name_that_begins_as_ours_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_FILE_PATH", "/somewhere")
    assert "each MEMORY_* variable must be one of .env.example" in refusal()


def test_a_name_without_a_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_API_KEY", "")
    load_settings()


def test_another_program_s_variable_may_resemble_one_that_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URI", "sqlite://")
    assert refusal().endswith("If it is another program's, set DATABASE_URL too: it may be empty")
    monkeypatch.setenv("DATABASE_URL", "")
    assert load_settings().database.url is None


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY",
        "API_KEYS",
        "AUTOMEM_API_KEY",
        "AUTOMEM_ENDPOINT",
        "DATABASE_HOST",
        "DATABASE_NAME",
        "DATABASE_PASSWORD",
        "DATABASE_POOL_SIZE",
        "DATABASE_PORT",
        "DATABASE_SSL",
        "DATABASE_USER",
        "GOMEMLIMIT",
        "MEMCACHE_URL",
        "MEMORY",
        "MEMORY_AVAILABLE",
        "MEMORY_LIMIT",
        "MEMORY_PRESSURE_WATCH",
        "MEMORY_PRESSURE_WRITE",
        "TEST_AUTOMEM_URL",
        "TEST_DATABASE_URL",
    ],
)
def test_what_other_programs_and_platforms_set_is_none_of_ours(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_settings()
    monkeypatch.setenv(name, SECRET)
    assert load_settings() == before


@pytest.mark.parametrize(
    "service", ["memory", "memory-driver", "memory-api", "database", "automem", "redis", "weaviate"]
)
def test_a_service_of_kubernetes_changes_no_setting(
    service: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes, and Docker's links before it, tell every container where a Service is."""
    file.write_text("MEMORY_PORT=9\n")
    before = load_settings()
    for ending, value in {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "PORT": "tcp://10.0.0.1:8000",
        "PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "PORT_8000_TCP_PROTO": "tcp",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(f"{service.upper().replace('-', '_')}_{ending}", value)
    assert load_settings() == before
    assert before.port == 9


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEMORY_API_KEYS", SECRET),
        ("MEMORY_PORT", "8000"),
        ("MEMORY_HOST", "127.0.0.1"),
        ("DATABASE_URL", f"postgresql://ada:{SECRET}@h/d"),
        ("AUTOMEM_API_TOKEN", SECRET),
        ("MEMORY_DRIVERS__PGVECTOR__URL", f"postgresql://ada:{SECRET}@h/d"),
    ],
)
def test_a_value_in_quotes_is_told(
    name: str, value: str, quote: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f"{name}={quote}{value}{quote}\n")  # a .env file takes them away
    load_settings()
    monkeypatch.setenv(name, f"{quote}{value}{quote} ")
    assert refusal().startswith(f"{name}: the quotes around its value would be part of it")


@pytest.mark.parametrize("keys", [f"a,'{SECRET}'", f'"{SECRET}";name=crm,a', f"'{SECRET}',b"])
def test_a_key_of_several_in_quotes_is_told(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_API_KEYS", keys)
    assert "the quotes around it would be part of the key" in refusal()


@pytest.mark.parametrize("line", [f'MEMORY_API_KEYS="{SECRET}', f"MEMORY_API_KEYS: {SECRET}"])
def test_a_line_of_the_file_that_would_be_passed_over_is_told(line: str, file: Path) -> None:
    file.write_text(f"MEMORY_PORT=9\n\n{line}\n")
    assert refusal() == ".env: line 3 is not NAME=value, or its quotes don't end"


@pytest.mark.parametrize(
    "words",
    [("serve",), ("repair", "a", "b"), ("journal", "show"), ("index", "status")],
)
async def test_every_command_refuses_it(words: tuple[str, ...], root: Path) -> None:
    settings = {"MEMORY_DRIVER": "inmemory", "MEMORY_API_KEY": SECRET}
    refused = await run_command(root, settings, *words)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("memory-driver: MEMORY_API_KEY: there is no such setting; ")
    assert len(refused.stderr.splitlines()) == 1
