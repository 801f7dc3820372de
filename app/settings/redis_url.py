"""URLs of a Redis, as a cache and a driver take them."""

import re
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from app.settings.group import ESCAPES

OPTIONS = (
    "client_name",
    "db",
    "health_check_interval",
    "password",
    "socket_keepalive",
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
    "ssl_password",
    "username",
)
"""What a URL of Redis may have after its `?`. The client takes any argument of its constructors
there, also those that are no text, and those that change what its answers are."""

SENTINEL = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
"""The schemes of a URL that names Sentinels, by that of the server that they lead to."""
_OF_SENTINELS = ("sentinel_username", "sentinel_password")


def redis_url(url: SecretStr | None) -> SecretStr | None:
    """`url`; raises ValueError unless it leads to one Redis."""
    return None if url is None else _checked(url, OPTIONS)


def redis_search_url(url: SecretStr | None) -> SecretStr | None:
    """`url`; raises ValueError unless it leads to one Redis, or names its Sentinels.

    redis+sentinel://user:password@host:26379,host:26379/name: user and password are the server's.
    """
    if url is None:
        return None
    scheme, _, rest = url.get_secret_value().partition("://")
    if scheme in SENTINEL:
        _check_sentinels(rest)
        return url
    return _checked(url, OPTIONS)


def _check_sentinels(rest: str) -> None:
    try:
        parts = urlsplit(f"//{rest}")
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
        hosts = parts.netloc.rpartition("@")[2].split(",")
        whole = all(re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", h) for h in hosts)
        whole = whole and re.fullmatch(r"/[^/]+", parts.path) is not None
    except ValueError:
        whole = False
    if whole and (parts.netloc.count("@") > 1 or "@" in parts.path + parts.fragment):
        raise ValueError(ESCAPES)
    if not whole:
        raise ValueError(
            "must look like redis+sentinel://user:password@host:26379,host:26379/name, where the "
            "last is the name of the primary"
        )
    _check_options(options, tuple(sorted({*OPTIONS, *_OF_SENTINELS} - {"db"})))


def _checked(url: SecretStr, known: tuple[str, ...]) -> SecretStr:
    is_cut = False  # by a /, ? or # of the password: its rest, and the host, are behind
    try:
        parts = urlsplit(url.get_secret_value())
        is_cut = "@" in parts.path + parts.query + parts.fragment
        is_unix = parts.scheme == "unix"
        host = parts.scheme in {"redis", "rediss"} and parts.port != 0 and parts.hostname
        whole = bool(parts.path if is_unix else host)
        named = [] if is_unix else [parts.path.strip("/")]
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
        databases = [*named, *options.get("db", [])]
    except ValueError:
        whole = False
    whole = whole and all(re.fullmatch("[0-9]*", each) for each in databases)
    if is_cut and (not whole or "@" in parts.fragment):
        raise ValueError(ESCAPES)
    if not whole:
        raise ValueError(
            "must look like redis://user:password@host:6379/0, where the last is the number "
            "of a database"
        )
    _check_options(options, known)
    return url


def _check_options(options: dict[str, list[str]], known: tuple[str, ...]) -> None:
    for option in options:
        if option not in known:
            raise ValueError(f"the option {option!r} is not known; there are {', '.join(known)}")
