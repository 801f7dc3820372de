"""What every group of settings shares."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self, get_args
from urllib.parse import parse_qsl, urlsplit

from pydantic import AliasChoices, HttpUrl, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

_SESSIONS = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_REFUSALS = ("08P01", "22023", "42501", "42704", "55P02")
"""How PostgreSQL, or a pooler, answers an option that it does not know, or its value."""


ESCAPES = (
    "must have one @, before the host: write an @ of the user or password as %40, and / as %2F, "
    "? as %3F, # as %23"
)


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


def variable_name(group: type[BaseSettings], field: str) -> str:
    """The environment variable that sets `field`."""
    alias = group.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return f"{group.model_config.get('env_prefix', '')}{field}".upper()


def first_error(error: ValidationError) -> tuple[str, str]:
    """The first wrong field, or the class where none is, and what is wrong."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0]) if first["loc"] else error.title
    return field, first["msg"].removeprefix("Value error, ")


class DriverSettings(BaseSettings):
    """A group whose settings a named driver may have of its own, as options."""

    _options: dict[str, str] = PrivateAttr(default_factory=dict)

    def of_driver(self, name: str, options: Iterable[str]) -> Self:
        """These settings, knowing which of them are options of the driver."""
        known = self.model_copy()
        known._options = {option: f"drivers.{name}.{option}" for option in options}
        return known

    @classmethod
    def check_kind(cls, option: str, value: object) -> None:
        """Raise ValueError for an option that is empty, or a truth value where none is wanted.

        A variable that is empty counts as unset, and has no other kind than text.
        """
        kind = cls.model_fields[option].annotation
        if value == "" and kind is not SecretStr:  # a secret may be none
            raise ValueError("is empty: leave it out, or give it a value")
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("must not be true or false")

    def called(self, field: str) -> str:
        """What the operator has to change to change `field`: an option, or a variable."""
        return self._options.get(field) or variable_name(type(self), field)


def real(path: Path) -> Path:
    """Where it is: from the root, without `~`, links and `..`."""
    return path.expanduser().resolve()


def folder(path: Path) -> Path:
    """`path`; raises ValueError where there can be nothing."""
    try:
        real(path)
    except (RuntimeError, OSError, ValueError):
        raise ValueError("must be the path of a folder, without unknown users or loops") from None
    return path


def http_url(url: str) -> str:
    """`url` as a client takes it, without a / at the end; raises ValueError for any other."""
    try:
        parts = HttpUrl(url)
    except ValidationError:
        parts = None
    if parts is None or not parts.port or _more(parts):
        raise ValueError("must look like http://host:8001, without a user, query or fragment")
    return str(parts).rstrip("/")


def index_host(host: str | None) -> str | None:
    """The URL of a host that is given with or without https://, as Pinecone names it without.

    Raises ValueError for what is neither.
    """
    if host is None:
        return None
    try:
        url = http_url(host if "://" in host else f"https://{host}")
    except ValueError:
        url = ""
    if urlsplit(url).path or not url:
        raise ValueError(
            "must be the host of an index, such as memory-a1b2c3.svc.aped-4627-b74a.pinecone.io"
        )
    return url


def _more(url: HttpUrl) -> bool:
    """Whether it has what the URL of an API has not."""
    given = (url.username, url.password, url.query, url.fragment)
    return any(part is not None for part in given)


def visible(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not re.fullmatch(r"[\x21-\x7e]+", secret.get_secret_value()):
        raise ValueError("must be visible ASCII characters")
    return secret


def postgresql_url(url: SecretStr | None) -> SecretStr | None:
    """`url` with the plain scheme; raises ValueError unless it is one of PostgreSQL.

    pydantic's PostgresDsn takes no socket's folder, and what it says has not the fix in it.
    """
    if url is None:
        return None
    scheme, _, rest = url.get_secret_value().partition("://")
    try:
        parts = urlsplit(f"//{rest}")
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        whole = rest and ("@" not in rest or "@" in parts.netloc)
    except ValueError:
        whole = False
    if not whole or scheme.partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError(
            "must look like postgresql://user:password@host:5432/database, with "
            "%-escapes for special characters of the password"
        )
    if parts.netloc.count("@") > 1 or "@" in parts.path + parts.fragment:
        raise ValueError(ESCAPES)
    _check_ports(parts.netloc.rpartition("@")[2], None)
    _check_ports(query.get("host", ""), query.get("port"))
    _check_options(query)
    return SecretStr(f"postgresql://{rest}")


def _check_ports(hosts: str, ports: str | None) -> None:
    """Refuse ports that can't be, in a list of hosts and in one of ports beside it."""
    names = hosts.split(",")
    given = [] if ports is None else ports.split(",")
    tails = [re.sub(r"^(/.*|\[.*\]|[^:]*)", "", name) for name in names]
    numbers = [*given, *(tail[1:] for tail in tails if tail not in ("", ":"))]
    real = all(re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65_536 for port in numbers)
    if not real or len(given) not in (0, 1, len(names)) or (len(names) > 1 and "" in names):
        raise ValueError(
            "must name hosts with ports from 1 to 65535, as in postgresql://user:password@host:5432"
        )


def _check_options(query: Mapping[str, str]) -> None:
    """Refuse what the client can't take, whatever the server is."""
    session = query.get("target_session_attrs", "any")
    if session not in _SESSIONS:
        raise ValueError(f"the option target_session_attrs must be one of {', '.join(_SESSIONS)}")
    for option in _FILES:
        name = query.get(option)
        if name and not os.access(name, os.R_OK):
            raise ValueError(f"the option {option} must name a file that can be read")


def wrong_option(url: SecretStr | None, error: object) -> str | None:
    """What is wrong with an option of a PostgreSQL URL, where a server refused it for that."""
    state = getattr(error, "sqlstate", None)
    if url is None or state not in _REFUSALS:
        return None
    options = dict(parse_qsl(urlsplit(url.get_secret_value()).query))
    named = [each for each in options if re.search(rf"\b{re.escape(each)}\b", str(error))]
    return f"PostgreSQL does not take the option {named[0]} ({state})" if named else None


def place(dsn: str) -> str:
    """Host and port of a PostgreSQL URL, without user and password, for a message."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    return host or dict(parse_qsl(parts.query)).get("host", "the local socket")
