"""Named drivers: from a file and the environment, built and nested, or refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from app.core.memory.manager import MemoryDriverManager
from app.drivers.pgvector import PgvectorDriver
from app.errors import ConfigurationError, DriverNotFound
from app.settings import load_settings
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver

Configure: TypeAlias = Callable[[str], None]

NESTED = """
driver = "main"

[drivers.main]
type = "failover"
inner = ["both", "inmemory"]
writes = "journal"

[drivers.both]
type = "replicated"
inner = ["here", "there"]
acknowledge = "all"

[drivers.here]
type = "pgvector"
url = "postgresql://here/memory"

[drivers.there]
type = "pgvector"
url = "postgresql://there:5433/memory"
pool_max_size = 3
"""


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Writes the file of MEMORY_CONFIG."""

    def write(text: str) -> None:
        (tmp_path / "drivers.toml").write_text(text)
        monkeypatch.setenv("MEMORY_CONFIG", str(tmp_path / "drivers.toml"))

    return write


def address(manager: MemoryDriverManager, name: str) -> str:
    """The URL of the driver of that name."""
    url = manager.settings.of(name).database.url
    assert url is not None
    return url.get_secret_value()


def test_a_file_names_drivers_that_hold_drivers(configure: Configure) -> None:
    configure(NESTED)
    manager = MemoryDriverManager(load_settings())
    driver = manager.driver()
    assert isinstance(driver, FailoverDriver)
    both, inmemory = driver.inner
    assert isinstance(both, ReplicatedDriver)
    assert [each.name for each in (driver, both, inmemory)] == ["main", "both", "inmemory"]
    here, there = both.inner
    assert isinstance(here, PgvectorDriver)
    assert (here.name, there.name) == ("here", "there")
    assert address(manager, "here") == "postgresql://here/memory"
    assert address(manager, "there") == "postgresql://there:5433/memory"
    assert manager.settings.of("there").database.pool_max_size == 3
    assert manager.settings.of("here").database.pool_max_size is None
    assert manager.driver("there") is there


def test_the_environment_outranks_the_file(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(NESTED)
    monkeypatch.setenv("MEMORY_DRIVER", "there")
    monkeypatch.setenv("MEMORY_DRIVERS__THERE__URL", "postgresql://elsewhere/memory")
    monkeypatch.setenv("MEMORY_DRIVERS__EXTRA__TYPE", "failover")
    monkeypatch.setenv("MEMORY_DRIVERS__EXTRA__INNER", "here, there")
    manager = MemoryDriverManager(load_settings())
    assert manager.driver().name == "there"
    assert address(manager, "there") == "postgresql://elsewhere/memory"
    extra = manager.driver("extra")
    assert isinstance(extra, FailoverDriver)
    assert [each.name for each in extra.inner] == ["here", "there"]


def test_an_option_that_is_not_given_is_the_groups(
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(NESTED)
    monkeypatch.setenv("DATABASE_POOL_MAX_SIZE", "7")
    settings = load_settings()
    assert settings.of("here").database.pool_max_size == 7
    assert settings.of("there").database.pool_max_size == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("driver = ", "MEMORY_CONFIG: .* is not TOML"),
        ("drivers = 1", "must be tables"),
        ("other = 1", "other is unknown"),
        ("driver = 1", "driver must be a name"),
        ("[drivers.A]\ntype='inmemory'", "drivers.A: a name is"),
        ("[drivers.a]\ntype='failover'", "drivers.a.inner: failover needs .* at least a driver"),
        ("[drivers.a]\ntype='replicated'\ninner=['inmemory']", "at least 2 drivers"),
        ("[drivers.a]\ntype='cached'\ninner=['inmemory','pgvector']", "at most 1"),
        ("[drivers.a]\ntype='inmemory'\ninner=['pgvector']", "holds no other driver"),
        ("[drivers.a]\ntype='failover'\ninner=['pgvector','pgvector']", "named twice"),
        ("[drivers.a]\ntype='failover'\ninner=['a']", "a → a is a cycle"),
        (
            "[drivers.a]\ntype='failover'\ninner=['b']\n[drivers.b]\ntype='failover'\ninner=['a']",
            "a → b → a is a cycle",
        ),
        ("[drivers.a]\ntype='failover'\ninner=['nowhere']", "'nowhere' not found"),
        ("[drivers.a]\ntype='nothing'", "drivers.a.type: .*'nothing' not found"),
        ("[drivers.a]\ntype='pgvector'\nurk='x'", "no such option; did you mean url"),
        ("[drivers.a]\ntype='pgvector'\nurl='http://secret@h'", "drivers.a.url: must look like"),
        ("[drivers.a]\ntype='inmemory'\nx=1", "drivers.a.x: inmemory has no such option"),
        ("[drivers.a]\ntype='scoped'\ninner=['inmemory']", "drivers.a.tenant: must be"),
        ("[drivers.a]\ntype='scoped'\ninner=['inmemory']\ntenant='a b'", "tenant: must be"),
        ("[drivers.a__b]\ntype='inmemory'", "drivers.a__b: a name has no __"),
        ("[drivers.a_]\ntype='inmemory'", "drivers.a_: a name has no __"),
        ("[drivers.a]\ntype=1", "drivers.a.type: must be"),
        ("[drivers.a]\ntype='failover'\ninner=[1]", "drivers.a.inner: must be names"),
    ],
)
def test_a_wrong_configuration_refuses_to_start_in_one_line(
    configure: Configure,
    text: str,
    message: str,
) -> None:
    configure(text)
    with pytest.raises(ConfigurationError, match=message) as raised:
        MemoryDriverManager(load_settings()).driver("inmemory")
    assert "\n" not in raised.value.reason
    assert "secret" not in raised.value.reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "type='failoverr'\ninner=['inmemory']",
            "drivers.f.type: 'failoverr' not found; did you mean failover? There are automem, "
            "cached, failover, inmemory, pgvector, pinecone, redis, replicated, scoped, weaviate, "
            "and dotted paths package.module:Class",
        ),
        (
            "type='zzz'",
            "drivers.f.type: 'zzz' not found; there are automem, cached, failover, inmemory, "
            "pgvector, pinecone, redis, replicated, scoped, weaviate, and dotted paths "
            "package.module:Class",
        ),
        (
            "type='failover'\ninner=['her', 'inmemory']",
            "drivers.f.inner: 'her' not found; did you mean here? There are automem, here, "
            "inmemory, pgvector, pinecone, redis, weaviate, and dotted paths package.module:Class",
        ),
        (
            "type='failover'\ninner=['replicated']",
            "drivers.f.inner: replicated holds other drivers, which MEMORY_CONFIG has to name",
        ),
        ("type='json:Nothing'", "drivers.f.type: 'json:Nothing' not found: module 'json' has no"),
        ("type='json:JSONDecoder'", "drivers.f.type: 'json:JSONDecoder' is the class JSONDecoder,"),
        (
            "type='failover'\ninner=['no_such_module:Driver']",
            "drivers.f.inner: 'no_such_module:Driver' not found: No module named",
        ),
    ],
)
def test_a_wrong_type_or_inner_is_told_by_its_own_setting(
    configure: Configure, text: str, message: str
) -> None:
    configure(f"[drivers.f]\n{text}\n[drivers.here]\ntype='inmemory'")
    with pytest.raises(ConfigurationError) as raised:
        MemoryDriverManager(load_settings(driver="f")).driver()
    assert raised.value.reason.startswith(message)
    assert "\n" not in raised.value.reason
    assert "MEMORY_DRIVER" not in raised.value.reason


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("pgvector", "url='postgresql://u:secret@h:x/d'", "drivers.a.url: must name hosts with"),
        ("pgvector", "url='postgresql://u:secret@h/d?port=0'", "drivers.a.url: must name hosts"),
        ("pgvector", "pool_max_size='many'", "drivers.a.pool_max_size: Input should be a valid"),
        ("pgvector", "migrate='perhaps'", "drivers.a.migrate: Input should be a valid boolean"),
        ("pgvector", "pool_min_size=2", "drivers.a.pool_min_size: pgvector has no such option"),
        ("automem", "legacy_writable=true", "drivers.a.legacy_writable: needs AUTOMEM_LEGACY_TAG"),
        ("automem", "api_token='sécret'", "drivers.a.api_token: must be visible"),
        ("cached", "url='redis://:secret@h/abc'", "drivers.a.url: must look like redis://"),
        ("cached", "url='redis://h/0?retry=secret'", "drivers.a.url: the option 'retry'"),
        (
            "cached",
            "url='redis://h/0?health_check_interval=secret'",
            "drivers.a.url: is not a URL of",
        ),
        ("pgvector", "url=''", "drivers.a.url: is empty: leave it out"),
        ("pgvector", "data_dir=''", "drivers.a.data_dir: is empty: leave it out"),
        ("automem", "url=''", "drivers.a.url: is empty: leave it out"),
        ("cached", "ttl=true", "drivers.a.ttl: must not be true or false"),
        ("pgvector", "pool_max_size=true", "drivers.a.pool_max_size: must not be true or false"),
        ("failover", "writes='never'", "drivers.a.writes: Input should be"),
        ("replicated", "acknowledge='one'", "drivers.a.acknowledge: Input should be"),
    ],
)
def test_a_wrong_value_is_told_by_the_setting_that_it_came_from(
    configure: Configure, kind: str, options: str, message: str
) -> None:
    held = {"cached": 1, "failover": 1, "replicated": 2}.get(kind, 0)
    inner = ["inmemory", "automem"][:held]
    configure(f"[drivers.a]\ntype='{kind}'\ninner={inner}\n{options}")
    with pytest.raises(ConfigurationError) as raised:
        MemoryDriverManager(load_settings(driver="a")).driver()
    assert raised.value.reason.startswith(message)
    assert "\n" not in raised.value.reason
    assert "secret" not in raised.value.reason


def test_an_option_may_be_a_truth_value_or_a_secret_that_is_none(configure: Configure) -> None:
    configure(
        "[drivers.a]\ntype='pgvector'\nmigrate=false\n[drivers.b]\ntype='automem'\ntag_secret=''"
    )
    settings = load_settings()
    assert settings.of("a").database.migrate is False
    assert settings.of("b").automem.tag_secret.get_secret_value() == ""


async def test_what_is_wrong_only_when_it_opens_is_told_by_its_own_setting_too(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path))  # without a root certificate, which TLS asks for
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@h/d?sslmode=sometimes")
    configure(
        "[drivers.group]\ntype='pgvector'\n"
        "[drivers.tls]\ntype='pgvector'\nurl='postgresql://u:secret@h/d?sslmode=verify-full'"
    )
    manager = MemoryDriverManager(load_settings())
    for name, setting in (("tls", "drivers.tls.url: "), ("group", "DATABASE_URL: ")):
        with pytest.raises(ConfigurationError) as raised:
            await manager.driver(name).open()
        assert raised.value.reason.startswith(setting)
        assert "\n" not in raised.value.reason
        assert "secret" not in raised.value.reason
    monkeypatch.delenv("DATABASE_URL")
    configure(f"[drivers.here]\ntype='pgvector'\ndata_dir='{tmp_path}/file'")
    await manager.close()
    manager = MemoryDriverManager(load_settings())
    with pytest.raises(ConfigurationError, match=r"^drivers\.here\.data_dir: .* can't be used"):
        await manager.driver("here").open()
    await manager.close()


def test_a_declared_driver_that_has_its_types_name_is_listed(configure: Configure) -> None:
    configure("[drivers.failover]\ninner=['inmemory']")
    with pytest.raises(DriverNotFound, match=r"^Memory driver 'x' .* automem, failover, inmemory"):
        MemoryDriverManager(load_settings(driver="x")).driver()


def test_a_missing_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_CONFIG", "/nowhere/drivers.toml")
    with pytest.raises(ConfigurationError, match="can't read /nowhere"):
        load_settings()


@pytest.mark.parametrize("path", ["~nobody-of-that-name/drivers.toml", "a\0b"])
def test_what_is_no_path_is_told(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"MEMORY_CONFIG: .* is no path") as said:
        load_settings(config=Path(path))
    assert "\0" not in str(said.value)


@pytest.mark.parametrize("text", [f"a = {'1' * 5_000}", f"a = {'[' * 3_000}"])
def test_a_file_that_no_parser_takes_is_told(configure: Configure, text: str) -> None:
    configure(text)
    with pytest.raises(ConfigurationError, match=r"^MEMORY_CONFIG: .*drivers\.toml"):
        load_settings()


def test_a_file_may_start_with_a_byte_order_mark(configure: Configure) -> None:
    configure("\ufeff" + NESTED)
    assert "both" in load_settings().named


def test_a_driver_named_by_its_options_alone_is_told_to_lack_a_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEMORY_DRIVERS__HERE__TTL", "5")
    with pytest.raises(DriverNotFound, match=r"drivers\.here\.type: .* names this driver without"):
        MemoryDriverManager(load_settings(driver="inmemory")).driver()


def test_a_wrapping_driver_without_a_name_of_its_own_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="which MEMORY_CONFIG has to name"):
        MemoryDriverManager(load_settings(driver="failover")).driver()


def test_a_name_is_refused_where_it_is_asked_for() -> None:
    with pytest.raises(DriverNotFound, match="automem, inmemory, pgvector"):
        MemoryDriverManager(load_settings(driver="nowhere")).driver()


def test_the_secrets_of_options_are_not_printed(configure: Configure) -> None:
    configure("[drivers.a]\ntype='pgvector'\nurl='postgresql://u:hunter2@h/d'")
    settings = load_settings()
    assert "hunter2" not in f"{settings!r} {settings} {settings.named['a']}"
    assert "hunter2" not in repr(settings.of("a").database)
