"""A primary that Sentinels name, and another one after it."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from redis.exceptions import RedisError

from app.errors import DriverUnavailable
from tests.drivers.search_server import OpenRedis, open_redis, search
from tests.redis_server import NO_SEARCH, can_search, search_server

__all__ = ["open_redis", "search"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until_answered(port: int) -> redis.Redis:
    """A client of it, once it answers."""
    client = redis.Redis(port=port, protocol=2)
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
        except RedisError:
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(0.01)
        else:
            return client


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[tuple[int, list[int]]]:
    """A Sentinel's port, and those of the two servers; the first is the primary."""
    if not can_search():
        pytest.skip(NO_SEARCH)
    ports = [free_port(), free_port()]
    watching = free_port()
    with ExitStack() as stack:

        def start(folder: Path, *options: str, program: list[str]) -> None:
            folder.mkdir()
            command = [*program, *options, "--bind", "127.0.0.1", "--dir", str(folder)]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.kill)

        for port in ports:
            program = search_server(tmp_path)
            start(tmp_path / str(port), "--port", str(port), "--save", "", program=program)
            stack.callback(until_answered(port).close)
        until_answered(ports[1]).replicaof("127.0.0.1", ports[0])
        configuration = tmp_path / "sentinel.conf"
        configuration.write_text(f"port {watching}\nsentinel monitor main 127.0.0.1 {ports[0]} 1\n")
        start(
            tmp_path / "sentinel",
            "--sentinel",
            program=[search_server(tmp_path)[0], str(configuration)],
        )
        stack.callback(until_answered(watching).close)
        yield watching, ports


async def test_the_primary_is_found_by_its_sentinels_and_again_after_a_failover(
    open_redis: OpenRedis, sentinel: tuple[int, list[int]]
) -> None:
    watching, (first, second) = sentinel
    url = f"redis+sentinel://127.0.0.1:{watching}/main"
    driver = await open_redis(url=url)
    await driver.store("ada", "kettle")
    with redis.Redis(port=first, protocol=2) as primary:
        assert primary.wait(1, 10_000) == 1
        assert primary.hlen("{memory}:names") == 1
    with redis.Redis(port=second, protocol=2) as replica:
        replica.replicaof("NO", "ONE")
    with redis.Redis(port=watching, protocol=2) as guard:
        guard.execute_command("SENTINEL", "REMOVE", "main")
        guard.execute_command("SENTINEL", "MONITOR", "main", "127.0.0.1", second, 1)
    with redis.Redis(port=first, protocol=2) as old:
        old.replicaof("127.0.0.1", second)
    with pytest.raises(DriverUnavailable):
        await driver.store("ada", "refused")  # on the connection to the old one
    await driver.store("ada", "basil")
    assert {m.content for m in await driver.recall("ada")} == {"kettle", "basil"}
    with redis.Redis(port=second, protocol=2) as primary:
        assert primary.zcard("{memory}:users") == 1
