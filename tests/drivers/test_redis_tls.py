"""A Redis that is reached by TLS: whom the service trusts, and what it says when it does not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from app.errors import ConfigurationError, DriverUnavailable
from tests.drivers.search_server import OpenRedis, open_redis, search
from tests.drivers.tls_front import Authority, Certificate, Streams, context, in_front
from tests.redis_server import RedisServer

__all__ = ["open_redis", "search"]

Front: TypeAlias = Callable[..., Awaitable[int]]


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    """Whom the service trusts."""
    return Authority(tmp_path / "ours")


@pytest.fixture
async def front(search: RedisServer, ours: Authority) -> AsyncIterator[Front]:
    """Puts TLS before the server, with a certificate for 127.0.0.1 or the given one."""
    async with AsyncExitStack() as stack:

        async def reach() -> Streams:
            return await asyncio.open_unix_connection(search.socket)

        async def put(given: Certificate | None = None, *, clients: Authority | None = None) -> int:
            tls = context(given or ours.certificate("127.0.0.1"), clients)
            return await stack.enter_async_context(in_front(reach, tls))

        yield put


async def test_a_server_whose_certificate_is_trusted_is_used_by_tls_with_its_account(
    open_redis: OpenRedis, search: RedisServer, front: Front, ours: Authority
) -> None:
    port = await front()
    with search.client() as client:
        client.execute_command("ACL", "SETUSER", "memory", "on", ">p@ss/word", "~*", "+@all")
        client.execute_command("ACL", "SETUSER", "default", "off")
    url = f"rediss://memory:p%40ss%2Fword@127.0.0.1:{port}?ssl_ca_certs={ours.file}"
    driver = await open_redis(url=url)
    stored = await driver.store("ada", "a copper kettle")
    await driver.store_global_knowledge("copper", "metals")
    assert await driver.recall("ada") == [stored]
    assert [k.content for k in await driver.recall_global_knowledge("copper")] == ["copper"]
    assert (await driver.health_check()).status == "ok"
    with pytest.raises(DriverUnavailable) as raised:
        await open_redis(url=url.replace("word", "hunter2"))
    assert raised.value.reason == "AuthenticationError"


def _untrusted(ours: Authority, tmp_path: Path) -> Certificate:
    return Authority(tmp_path / "theirs").certificate("127.0.0.1")


def _of_another_host(ours: Authority, tmp_path: Path) -> Certificate:
    return ours.certificate("redis.internal")


def _expired(ours: Authority, tmp_path: Path) -> Certificate:
    return ours.certificate("127.0.0.1", days=-1)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (_untrusted, "unable to get local issuer certificate"),
        (_of_another_host, "certificate is not valid for '127.0.0.1'"),
        (_expired, "certificate has expired"),
    ],
)
async def test_a_server_that_is_not_trusted_gets_no_password_and_the_log_says_why(
    open_redis: OpenRedis,
    search: RedisServer,
    front: Front,
    ours: Authority,
    tmp_path: Path,
    made: Callable[[Authority, Path], Certificate],
    said: str,
) -> None:
    port = await front(made(ours, tmp_path))
    url = f"rediss://:hunter2@127.0.0.1:{port}?ssl_ca_certs={ours.file}"
    with pytest.raises(DriverUnavailable) as raised:
        await open_redis(url=url)
    assert "certificate is not accepted" in raised.value.reason
    assert said in raised.value.reason
    assert "hunter2" not in raised.value.reason
    assert not raised.value.uncertain
    with search.client() as client:
        assert client.keys("*") == []


async def test_without_the_authority_s_file_the_machine_s_are_trusted_alone(
    open_redis: OpenRedis, front: Front
) -> None:
    port = await front()
    with pytest.raises(DriverUnavailable) as raised:
        await open_redis(url=f"rediss://127.0.0.1:{port}")
    assert "certificate is not accepted" in raised.value.reason
    await open_redis(url=f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none")


async def test_a_server_may_want_a_certificate_of_the_service(
    open_redis: OpenRedis, front: Front, ours: Authority
) -> None:
    port = await front(clients=ours)
    url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={ours.file}"
    mine = ours.certificate("service")
    driver = await open_redis(url=f"{url}&ssl_certfile={mine.certificate}&ssl_keyfile={mine.key}")
    await driver.store("ada", "kettle")
    with pytest.raises(DriverUnavailable):
        await open_redis(url=url)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
async def test_a_file_that_can_t_be_read_names_the_setting(
    open_redis: OpenRedis, front: Front, option: str, tmp_path: Path
) -> None:
    port = await front()
    with pytest.raises(ConfigurationError, match=r"^REDIS_URL: a file of its ssl_ options"):
        await open_redis(url=f"rediss://127.0.0.1:{port}?{option}={tmp_path / 'absent.pem'}")


async def test_a_server_without_tls_is_told_from_one_that_is_away(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    server = await asyncio.start_server(_speaks_plainly, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(DriverUnavailable) as raised:
            await open_redis(url=f"rediss://127.0.0.1:{port}")
    assert "TLS failed: " in raised.value.reason


async def _speaks_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As a Redis answers what is no command."""
    await reader.read(5)
    writer.write(b"-ERR Protocol error\r\n")
    writer.close()
