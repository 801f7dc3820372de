"""What every group of settings shares."""

import re
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict


def group(prefix: str) -> SettingsConfigDict:
    return SettingsConfigDict(
        enable_decoding=False,  # a group's own name, such as MEMORY_LIMITS, is not a setting
        env_prefix=prefix,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        validate_default=True,
    )


def http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    whole = parts.scheme in {"http", "https"} and parts.hostname and port != 0
    if not whole or parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must look like http://host:8001, without a user, query or fragment")
    return url.rstrip("/")


def visible(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not re.fullmatch(r"[\x21-\x7e]+", secret.get_secret_value()):
        raise ValueError("must be visible ASCII characters")
    return secret


def postgresql_url(url: SecretStr | None) -> SecretStr | None:
    """`url` with the plain scheme; raises ValueError unless it is one of PostgreSQL."""
    if url is None:
        return None
    scheme, _, rest = url.get_secret_value().partition("://")
    try:
        netloc = urlsplit(f"//{rest}").netloc
        if "@" in rest and "@" not in netloc:
            raise ValueError
        hosts = netloc.rpartition("@")[2].split(",")
        ports = [urlsplit(f"//{host}").port for host in hosts]
    except ValueError:
        ports = []
    if scheme.partition("+")[0] not in {"postgres", "postgresql"} or not rest or not ports:
        raise ValueError(
            "must look like postgresql://user:password@host:5432/database, with "
            "%-escapes for special characters of the password"
        )
    return SecretStr(f"postgresql://{rest}")


def servers(url: SecretStr | None) -> frozenset[tuple[str, int]]:
    """Host and port of every server that a PostgreSQL URL names; a socket's folder as the host."""
    if url is None:
        return frozenset()
    parts = urlsplit(url.get_secret_value())
    query = dict(parse_qsl(parts.query))
    found = set()
    for host in (query.get("host") or parts.netloc.rpartition("@")[2]).split(","):
        if host.startswith("/"):
            name, port = host, None
        else:
            one = urlsplit(f"//{host}")
            name, port = one.hostname or "localhost", one.port
        given = query.get("port", "")
        found.add((name, port or (int(given) if given.isdecimal() else 5432)))
    return frozenset(found)
