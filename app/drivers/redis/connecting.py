"""How a URL leads to a primary: directly, or by its Sentinels."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.errors import ConfigurationError
from app.settings import SENTINEL, RedisSettings

_SENTINEL_PORT = 26_379
"""Of a Sentinel whose URL names no port."""


def pool_of(settings: RedisSettings) -> ConnectionPool:
    """What makes connections, without connecting. Raises `ConfigurationError`.

    None of them repeats a command or has a time limit: who uses one has a limit for all of it.
    """
    url = settings.url.get_secret_value()
    wanted: dict[str, Any] = {
        "protocol": 3,
        "driver_info": None,
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        pool = _by_sentinels(url, wanted, settings.timeout) or ConnectionPool.from_url(
            url, **wanted
        )
        pool.make_connection()  # type: ignore[no-untyped-call]  # not annotated there
    except (RedisError, AttributeError, TypeError, ValueError):
        raise ConfigurationError(f"{settings.called('url')}: is not a URL of Redis") from None
    if pool.connection_kwargs.get("db"):
        # No setting of a service without this driver is wrong: others may use the same variable.
        raise ConfigurationError(
            f"{settings.called('url')}: must lead to database 0, as Redis indexes no other"
        )
    return pool


def _by_sentinels(url: str, wanted: dict[str, Any], seconds: float) -> ConnectionPool | None:
    """A pool of the primary that the Sentinels name; None where the URL names none.

    An exchange has so many seconds, with all that it asks the Sentinels.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SENTINEL:
        return None
    parts = urlsplit(f"//{rest}")
    user, at, hosts = parts.netloc.rpartition("@")
    # The client reads user, password and options of an ordinary URL.
    ordinary = f"{SENTINEL[scheme]}://{user}{at}localhost?{parts.query}"
    given = ConnectionPool.from_url(ordinary).connection_kwargs
    for name in ("host", "port", "path"):
        given.pop(name, None)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    places = [_host_and_port(each) for each in hosts.split(",")]
    # All of them may be asked in the time of one exchange, and a part of it is left for that.
    share = seconds / (1 + len(places))
    sentinels = Sentinel(  # type: ignore[no-untyped-call]  # not annotated there
        places,
        sentinel_kwargs={
            **{name: value for name, value in given.items() if name.startswith("ssl_")},
            "retry": wanted["retry"],
            "socket_timeout": share,
            "socket_connect_timeout": share,
            "username": options.get("sentinel_username"),
            "password": options.get("sentinel_password"),
            "ssl": SENTINEL[scheme] == "rediss",
        },
    )
    of_sentinels = ("sentinel_username", "sentinel_password")
    given = {name: value for name, value in given.items() if name not in of_sentinels}
    return SentinelConnectionPool(  # type: ignore[no-untyped-call]  # not annotated there
        unquote(parts.path.strip("/")),
        sentinels,
        **{**given, **wanted, "ssl": SENTINEL[scheme] == "rediss"},
    )


def _host_and_port(place: str) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    return parts.hostname or "", parts.port or _SENTINEL_PORT
