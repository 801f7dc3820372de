"""Settings: every variable documented, every wrong value told in one line without its secret."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from app.errors import ConfigurationError
from app.settings import (
    ApiKey,
    DatabaseSettings,
    Limits,
    NamedDriver,
    Settings,
    load_settings,
    variables,
)

SECRET = "hunter2"  # noqa: S105
VARIABLES = dict(variables())


def shown_default(field: FieldInfo) -> str:
    """How the documentation writes a default; an unset one is an empty text."""
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def undocumented(shown: dict[str, list[str]]) -> dict[str, str]:
    """What is wrong with a document that shows these values of each variable."""
    wrong = {}
    for name, field in VARIABLES.items():
        default = shown_default(field)
        if name not in shown:
            wrong[name] = "is not there"
        elif default and default not in shown[name]:
            wrong[name] = f"should say {default}"
    return wrong


def test_every_variable_is_in_the_example_file_with_its_default(root: Path) -> None:
    lines = re.findall(r"^#? ?([A-Z_]+)=(.*)$", (root / ".env.example").read_text(), re.MULTILINE)
    assert len(lines) == len(dict(lines)), "a variable is there twice"
    assert undocumented({name: [value.strip()] for name, value in lines}) == {}


def test_the_example_file_tells_of_no_variable_that_is_not_there(root: Path) -> None:
    text = (root / ".env.example").read_text()
    found = re.findall(r"\b(?:MEMORY|DATABASE)_[A-Z_]*[A-Z]\b", text)
    assert {one for one in found if not one.startswith("MEMORY_DRIVERS__")} <= VARIABLES.keys()


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_says_what_it_is(name: str) -> None:
    assert VARIABLES[name].description


def test_a_file_of_variables_that_is_not_utf_8_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_bytes(b"MEMORY_HOST=\xff\n")
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    with pytest.raises(ConfigurationError, match=r"^\.env: it is not UTF-8$"):
        load_settings()


def test_without_any_variable_the_defaults_hold() -> None:
    settings = load_settings()
    assert settings.driver == "automem"
    assert settings.host == "127.0.0.1"
    assert settings.accepted_keys == ()
    assert settings.database.url is None
    assert settings.limits == Limits()


@pytest.mark.parametrize("name", VARIABLES)
def test_an_empty_variable_counts_as_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    assert load_settings() == Settings()


SET: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "MEMORY_DRIVER": ("x:Y", lambda s: s.driver == "x:Y"),
    "MEMORY_PORT": ("0", lambda s: s.port == 0),
    "MEMORY_ALLOW_ANONYMOUS": ("true", lambda s: s.allow_anonymous),
    "MEMORY_MAX_CONTENT_CHARS": ("7", lambda s: s.limits.content_chars == 7),
    "MEMORY_EMBEDDING_MODEL": ("./m", lambda s: s.embedding.model == "./m"),
    "MEMORY_EMBEDDING_THREADS": ("2", lambda s: s.embedding.threads == 2),
    "MEMORY_DATA_DIR": ("/d", lambda s: s.database.data_dir == Path("/d")),
    "MEMORY_MIGRATE": ("false", lambda s: s.database.migrate is False and not s.database.migrates),
    "DATABASE_POOL_MAX_SIZE": ("3", lambda s: s.database.pool_max_size == 3),
    "DATABASE_TIMEOUT": ("0.5", lambda s: s.database.timeout == 0.5),
    "DATABASE_URL": (
        "postgresql+asyncpg://u:p@h/d?a=b",
        lambda s: s.database.url.get_secret_value() == "postgresql://u:p@h/d?a=b",
    ),
}


@pytest.mark.parametrize("name", SET)
def test_a_variable_sets_its_field(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, is_set = SET[name]
    monkeypatch.setenv(name, value)
    assert is_set(load_settings())


@pytest.mark.parametrize(
    "name", ["MIGRATE", "DATA_DIR", "DRIVER", "PORT", "HOST", "LIMITS", "DATABASE", "URL"]
)
def test_a_variable_of_some_other_program_means_nothing_here(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_settings()
    monkeypatch.setenv(name, "true")
    assert load_settings() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEMORY_PORT", SECRET),
        ("MEMORY_PORT", "65536"),
        ("MEMORY_PORT", "-1"),
        ("MEMORY_API_KEYS", f"good,sha256:{SECRET}"),
        ("MEMORY_ALLOW_ANONYMOUS", SECRET),
        ("MEMORY_SHUTDOWN_TIMEOUT", "0"),
        ("MEMORY_LOG_LEVEL", "verbose"),
        ("MEMORY_LOG_FORMAT", "xml"),
        ("MEMORY_MAX_CONTENT_CHARS", "0"),
        ("MEMORY_MAX_CONTENT_CHARS", "131073"),
        ("MEMORY_MAX_TOP_K", "1.5"),
        ("MEMORY_MAX_BODY_BYTES", "1"),
        ("MEMORY_EMBEDDING_THREADS", "0"),
        ("MEMORY_MIGRATE", SECRET),
        ("MEMORY_LIMITS", f'{{"content_chars": "{SECRET}"}}'),
        ("MEMORY_LIMITS", SECRET),
        ("MEMORY_EMBEDDING", SECRET),
        ("MEMORY_DATABASE", f'{{"url": "postgresql://u:{SECRET}@h/d"}}'),
        ("DATABASE_URL", SECRET),
        ("DATABASE_URL", f"mysql://u:{SECRET}@h/d"),
        ("DATABASE_URL", "postgresql://"),
        ("DATABASE_POOL_MAX_SIZE", "0"),
        ("DATABASE_TIMEOUT", "0"),
        ("DATABASE_TIMEOUT", "nan"),
        ("DATABASE_TIMEOUT", "inf"),
    ],
)
def test_a_wrong_value_is_told_in_one_line_that_names_the_variable_and_no_secret(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    assert SECRET not in message
    assert SECRET not in str(caught.value.__cause__)


def test_there_are_no_more_variables_than_an_operator_can_read() -> None:
    """What nobody would change is a constant. A backend that joins brings its own."""
    assert len(VARIABLES) <= 73


def test_a_variable_outranks_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("MEMORY_PORT=9\nMEMORY_HOST=::1\n")
    monkeypatch.setitem(Settings.model_config, "env_file", str(tmp_path / ".env"))
    monkeypatch.setenv("MEMORY_PORT", "10")
    settings = load_settings()
    assert (settings.port, settings.host) == (10, "::1")


def accepted(keys: str) -> tuple[ApiKey, ...]:
    return Settings(api_keys=SecretStr(keys)).accepted_keys


def test_keys_are_kept_as_digests_whether_plain_or_hashed() -> None:
    digest = hashlib.sha256(b"b").digest()
    assert [key.digest for key in accepted(f" a ,, sha256:{digest.hex().upper()},é")] == [
        hashlib.sha256(b"a").digest(),
        digest,
        hashlib.sha256("é".encode()).digest(),
    ]


@pytest.mark.parametrize(
    ("parameters", "name", "tenant", "scopes"),
    [
        ("", None, None, {"read", "write", "admin"}),
        (";name=crm", "crm", None, {"read", "write", "admin"}),
        (";tenant=acme", None, "acme", {"read", "write", "admin"}),
        (";scopes=read", None, None, {"read"}),
        (";scopes=write+read", None, None, {"read", "write"}),
        (";scopes=admin+read+write", None, None, {"read", "write", "admin"}),
        (";name=c.r-m_1;tenant=Acme-2_;scopes=read", "c.r-m_1", "Acme-2_", {"read"}),
        (" ; scopes=write ; tenant=acme ; name=crm ", "crm", "acme", {"write"}),
        (";tenant=" + "x" * 32, None, "x" * 32, {"read", "write", "admin"}),
    ],
)
@pytest.mark.parametrize("key", [SECRET, f"sha256:{hashlib.sha256(SECRET.encode()).hexdigest()}"])
def test_a_key_may_have_a_name_a_tenant_and_scopes_in_any_order(
    key: str, parameters: str, name: str | None, tenant: str | None, scopes: set[str]
) -> None:
    first, second = accepted(f"{key}{parameters},other")
    assert first.digest == hashlib.sha256(SECRET.encode()).digest()
    assert (first.name, first.tenant, set(first.scopes)) == (name, tenant, scopes)
    assert (second.name, second.tenant) == (None, None)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (f"{SECRET};", "entry 1: after a ;"),
        (f"good,{SECRET};{SECRET}", "entry 2: after a ;"),
        (f"{SECRET};{SECRET}=x", "entry 1: after a ;"),
        (f"{SECRET};Name=crm", "entry 1: after a ;"),
        (f"{SECRET};name =crm", "entry 1: after a ;"),
        (f"{SECRET};name=a;name=b", "entry 1: name is given twice"),
        (f"{SECRET};name=", "entry 1: name must be"),
        (f"{SECRET};name={SECRET} {SECRET}", "entry 1: name must be"),
        (f"{SECRET};name=" + "x" * 65, "entry 1: name must be"),
        (f"{SECRET};tenant=", "entry 1: tenant must be"),
        (f"{SECRET};tenant", "entry 1: tenant must be"),
        (f"{SECRET};tenant={SECRET}/x", "entry 1: tenant must be"),
        (f"{SECRET};tenant=é", "entry 1: tenant must be"),
        (f"{SECRET};tenant=a\x1fb", "entry 1: tenant must be"),
        (f"{SECRET};tenant=" + "x" * 33, "entry 1: tenant must be"),
        (f"{SECRET};scopes=", "entry 1: scopes must be"),
        (f"{SECRET};scopes={SECRET}", "entry 1: scopes must be"),
        (f"{SECRET};scopes=read+", "entry 1: scopes must be"),
        (f"{SECRET};scopes=read+read", "entry 1: scopes must be"),
        (f"{SECRET};scopes=READ", "entry 1: scopes must be"),
        (";name=crm", "entry 1: has no key"),
        (f"sha256:{SECRET};name=crm", "entry 1: a hashed key is"),
        (f"SHA256:{'0' * 64}", "entry 1: a hashed key is"),
        (f"x,{SECRET},y,{SECRET};tenant=a", "entries 2 and 4 have the same key"),
        (
            f"{SECRET},sha256:{hashlib.sha256(SECRET.encode()).hexdigest()}",
            "entries 1 and 2 have the same key",
        ),
        (f"{SECRET};name=a,x;name=a", "entries 1 and 2 have the same name"),
        (",", "has no key"),
        (
            f"{SECRET};tenant=acme;scopes=read,write",
            "entry 2: 'write' is a scope, not a key: scopes are joined by +",
        ),
        (f"{SECRET};scopes=read, Write;tenant=acme", "entry 2: 'write' is a scope"),
        (f"{SECRET};scopes=read,write+admin", "entry 2: 'write' is a scope"),
        (f"{SECRET},name={SECRET}x", "entry 2: name= is no key: it comes after"),
        (f"{SECRET},tenant ={SECRET}x;name=a", "entry 2: tenant= is no key: it comes after"),
        (f"{SECRET},Scopes=read", "entry 2: scopes= is no key: it comes after"),
    ],
)
def test_a_wrong_key_is_told_by_its_place_alone(
    keys: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_API_KEYS", keys)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"MEMORY_API_KEYS: {told}")
    assert "\n" not in message
    assert SECRET not in message + str(caught.value.__cause__)


def test_a_key_that_only_resembles_a_word_is_a_key() -> None:
    keys = "reader,write-1,admin=,names=a,read+x,name,scopes"
    digest = hashlib.sha256(b"write").hexdigest()
    assert len(accepted(f"{keys},sha256:{digest}")) == 8


def scoped(**inner: str) -> dict[str, NamedDriver]:
    """Scoped drivers by name, each with the one that it holds."""
    return {
        name: NamedDriver(type="scoped", inner=(held,), options={"tenant": "t"})
        for name, held in inner.items()
    }


def test_the_limits_have_room_for_every_tenant_above_a_driver() -> None:
    public = Limits(user_id_chars=10, category_chars=20, conversation_id_chars=15)
    named = scoped(one="base", two="one", other="base")
    settings = Settings(limits=public, named=named, api_keys=SecretStr("a;tenant=x,b;tenant=y"))
    room = {name: settings.of(name).limits for name in (*named, "base", "unheld")}
    assert {name: limits.user_id_chars for name, limits in room.items()} == {
        "unheld": 10 + 34,
        "two": 10 + 34,
        "other": 10 + 34,
        "one": 10 + 34 * 2,
        "base": 10 + 34 * 3,
    }
    assert room["base"].conversation_id_chars == 20
    assert room["base"].metadata_bytes == public.widened().widened().widened().metadata_bytes
    without = Settings(limits=public, named=scoped(one="base"), api_keys=SecretStr("a"))
    assert without.of("one").limits == public
    assert without.of("base").limits == public.widened()


@pytest.mark.parametrize(
    "options", [{}, {"tenant": ""}, {"tenant": "a b"}, {"tenant": "a\x1fb"}, {"tenant": 1}]
)
def test_a_scoped_driver_needs_a_tenant(options: dict[str, Any]) -> None:
    named = {"acme": NamedDriver(type="scoped", inner=("base",), options=options)}
    with pytest.raises(ConfigurationError, match=r"^drivers\.acme\.tenant: must be 1 to 32"):
        Settings(named=named).of("acme")


def test_a_scoped_driver_has_no_other_option() -> None:
    options = {"tenant": "acme", "tenants": "acme"}
    named = {"acme": NamedDriver(type="scoped", inner=("base",), options=options)}
    with pytest.raises(
        ConfigurationError, match=r"^drivers\.acme\.tenants: .* did you mean tenant"
    ):
        Settings(named=named).of("acme")


def test_secrets_are_not_printed() -> None:
    database = DatabaseSettings(url=SecretStr(f"postgresql://u:{SECRET}@h/d"))
    settings = Settings(api_keys=SecretStr(SECRET), database=database)
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()}"
    assert SECRET not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("url", "migrate", "migrates"),
    [
        (None, None, True),
        (None, False, False),
        ("postgresql://h/d", None, False),
        ("postgresql://h/d", True, True),
    ],
)
def test_only_the_embedded_server_is_migrated_unasked(
    url: str | None, migrate: bool | None, migrates: bool
) -> None:
    secret = SecretStr(url) if url else None
    assert DatabaseSettings(url=secret, migrate=migrate).migrates is migrates
