"""What is in a Redis, name by name."""

from typing import Any

from app.drivers.redis import RedisDriver
from tests.drivers.another_model import exported, ranked
from tests.drivers.search_server import OpenRedis
from tests.drivers.two_models import SECOND
from tests.redis_server import RedisServer


def keys(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {key.decode() for key in client.scan_iter("*")}


def kept(server: RedisServer, root: str) -> dict[str, Any]:
    """All that is kept under names that begin so, but for the stamps, which are random."""
    found: dict[str, Any] = {}
    with server.client() as client:
        for key in client.scan_iter(f"{root}:*"):
            name = key.decode().removeprefix(root)
            if name in (":stamps", ":meta"):
                continue
            read: Any = client.hgetall(key) if client.type(key) == b"hash" else None
            found[name] = client.zrange(key, 0, -1) if read is None else read
        found["windows"] = client.hget(f"{root}:meta", "windows")
    return found


def indexes(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {name.decode() for name in client.execute_command("FT._LIST")}


def meta(server: RedisServer) -> dict[str, str]:
    with server.client() as client:
        return {k.decode(): v.decode() for k, v in client.hgetall("{memory}:meta").items()}


async def assert_as_if_made_by_the_second(
    driver: RedisDriver, open_redis: OpenRedis, server: RedisServer
) -> None:
    """All is in Redis as the second model alone would have it, and nothing else is."""
    fresh = await open_redis(instead=SECOND, namespace="fresh")
    await fresh.import_records(await exported(driver))
    assert await ranked(driver) == await ranked(fresh)
    wanted = kept(server, "{fresh}")
    assert kept(server, "{memory}:2") == wanted
    assert {key for key in keys(server) if key.startswith("{memory}:")} == {
        "{memory}:meta",
        "{memory}:2:meta",
        *("{memory}:2" + name for name in wanted if name != "windows"),
        "{memory}:2:stamps",
    }
    assert indexes(server) == {"{memory}:2:index:1", "{fresh}:index:1"}
    assert not [field for field in meta(server) if field.startswith(("unused", "next", "hold"))]
    assert (await driver.health_check()).status == "ok"
