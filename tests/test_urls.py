"""URLs of PostgreSQL and Redis: what no client could use is refused at the start."""

import pytest

from app.errors import ConfigurationError
from app.settings import load_settings

SECRET = "hunter2"  # noqa: S105 - to be looked for in what is told


def refusal(name: str, url: str, monkeypatch: pytest.MonkeyPatch, begins: str = "must ") -> str:
    """The one line that names the variable, without the password."""
    monkeypatch.setenv(name, url)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    said = str(caught.value)
    assert said.startswith(f"{name}: {begins}")
    assert "\n" not in said
    assert SECRET not in said + str(caught.value.__cause__)
    return said


@pytest.mark.parametrize("name", ["DATABASE_URL", "MEMORY_JOURNAL_URL"])
@pytest.mark.parametrize(
    "place",
    [
        "h:many/d",
        "h:65536/d",
        "h:0/d",
        "h:-1/d",
        "[::1]:x/d",
        "[::1]x/d",
        "h:1,g:x/d",
        "h,/d",
        "h/d?port=many",
        "h/d?port=65536",
        "h/d?port=0",
        "/d?host=/socket&port=x",
        "/d?host=h:x",
        "/d?host=h,g&port=1,2,3",
    ],
)
def test_a_port_of_postgresql_is_a_number(
    name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal(name, f"postgresql://ada:{SECRET}@{place}", monkeypatch)
    assert "ports from 1 to 65535" in said


@pytest.mark.parametrize("name", ["DATABASE_URL", "MEMORY_JOURNAL_URL"])
@pytest.mark.parametrize(
    "option", ["target_session_attrs=nonsense", "sslrootcert=/nowhere", "sslcert=/nowhere"]
)
def test_an_option_of_postgresql_that_the_client_can_t_take_is_named(
    name: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://ada:{SECRET}@h/d?sslmode=require&{option}"
    refusal(name, url, monkeypatch, f"the option {option.partition('=')[0]} must ")


@pytest.mark.parametrize("rest", ["h/d?nothing", "[h/d"])
def test_a_url_of_postgresql_is_whole(rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal("DATABASE_URL", f"postgresql://ada:{SECRET}@{rest}", monkeypatch)
    assert "must look like postgresql://" in said


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgres://ada:hunter2@ss@h/d"),
        ("DATABASE_URL", "postgresql://ada@crm:hunter2@h/d"),
        ("DATABASE_URL", "postgresql://ada:x@hunter2/@h/d"),
        ("MEMORY_JOURNAL_URL", "postgresql://ada:hunter2@ss@h/d"),
        ("MEMORY_DRIVERS__PGVECTOR__URL", "postgres://ada:hunter2@ss@h/d"),
        ("MEMORY_CACHE_URL", "redis://:hunter2/ss@h/0"),
        ("MEMORY_CACHE_URL", "redis://ada:12#hunter2@h/0"),
        ("MEMORY_CACHE_URL", "redis://ada:12/hunter2@h/0"),
        ("MEMORY_CACHE_URL", "redis://ada:12?hunter2@h/0"),
        ("REDIS_URL", "redis://ada:12?hunter2@h/0"),
        ("REDIS_URL", "redis+sentinel://ada@b:hunter2@h,g/main"),
    ],
)
def test_a_password_that_would_end_before_the_host_is_told_how_to_be_written(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SECRET in url
    monkeypatch.setenv(name, url)
    with pytest.raises(ConfigurationError, match="write an @ of the user or password as %40") as no:
        load_settings().of("pgvector")
    option = "drivers.pgvector.url"
    assert str(no.value).startswith(f"{option if 'DRIVERS' in name else name}: ")
    assert SECRET not in str(no.value) + str(no.value.__cause__)


@pytest.mark.parametrize("url", ["http://ada:hunter2@ss@h", "http://ada:1#hunter2@h"])
def test_a_url_of_automem_has_no_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "without a user" in refusal("AUTOMEM_URL", url, monkeypatch)


@pytest.mark.parametrize(
    "rest", ["/abc", "/-1", "/1/2", "/1.5", "/0?db=abc", "/0?db=-1", ":many/0", ":65536/0", ":0/0"]
)
def test_a_database_and_a_port_of_redis_are_numbers(
    rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal("MEMORY_CACHE_URL", f"redis://:{SECRET}@h{rest}", monkeypatch)
    assert "redis://user:password@host:6379/0" in said
    refusal("MEMORY_CACHE_URL", f"unix://:{SECRET}@/socket?db=-1", monkeypatch)


@pytest.mark.parametrize(
    "option", ["retry", "decode_responses", "redis_connect_func", "encoding", "host", "Db"]
)
def test_an_option_of_redis_is_one_that_a_url_can_say(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_CACHE_URL", f"redis://:{SECRET}@h/0?{option}=1")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    said = f"MEMORY_CACHE_URL: the option '{option}' is not known; there are client_name, db, "
    assert str(caught.value).startswith(said)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("rest", ["h:26379", "h,/main", "h:x/main", "h:1,g/", "h/main/0", "/main"])
def test_a_url_of_sentinels_names_them_and_the_primary(
    rest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refusal("REDIS_URL", f"redis+sentinel://:{SECRET}@{rest}", monkeypatch)
    assert "redis+sentinel://user:password@host:26379,host:26379/name" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://h:1,g/d"),
        ("DATABASE_URL", "postgresql://u@h/d?application_name=a@b"),
        ("DATABASE_URL", "postgresql://u:p%2F%40@[::1]:5433/d?sslmode=disable"),
        ("DATABASE_URL", "postgresql://u@/d?host=/socket&port=5433"),
        ("DATABASE_URL", "postgresql://h/d?target_session_attrs=read-write&application_name=a"),
        ("MEMORY_JOURNAL_URL", "postgresql:///d?host=h,g&port=1,2"),
        ("MEMORY_CACHE_URL", "redis://h"),
        ("MEMORY_CACHE_URL", "rediss://u:p@h:1/"),
        ("MEMORY_CACHE_URL", "redis://:p@ss@h/15"),
        ("MEMORY_CACHE_URL", "unix:///socket?db=3"),
        ("MEMORY_CACHE_URL", "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=no&username=a"),
        ("REDIS_URL", "rediss://u:p@h:1/0?ssl_ca_certs=ca.pem"),
        ("REDIS_URL", "unix:///socket"),
        ("REDIS_URL", "redis+sentinel://u:p@h:1,[::1]:2,g/main"),
        ("REDIS_URL", "rediss+sentinel://h/main?sentinel_password=p&ssl_cert_reqs=none"),
    ],
)
def test_a_url_may_have_every_part_that_its_client_reads(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    settings = load_settings()
    urls = [settings.database.url, settings.journal.url, settings.cache.url, settings.redis.url]
    assert value in [url.get_secret_value() for url in urls if url is not None]
