"""An HTTP backend behind TLS: whom the service trusts, and what the log says when it does not."""

import asyncio
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.errors import DriverUnavailable
from tests.drivers.tls_front import Authority, Streams, context, in_front
from tests.drivers.weaviate_drivers import OpenWeaviate, open_weaviate, server
from tests.drivers.weaviate_fake import FakeWeaviate

__all__ = ["open_weaviate", "server"]


async def test_a_backend_is_used_by_tls_if_its_certificate_is_accepted(
    open_weaviate: OpenWeaviate,
    server: FakeWeaviate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = Authority(tmp_path / "ours")
    port = urlsplit(server.url).port

    async def reach() -> Streams:
        return await asyncio.open_connection("127.0.0.1", port)

    async with in_front(reach, context(ours.certificate("127.0.0.1"))) as front:
        url = f"https://127.0.0.1:{front}"
        with pytest.raises(DriverUnavailable) as raised:
            await open_weaviate(url=url)
        reason = raised.value.reason
        assert reason.startswith("WEAVIATE_URL: Weaviate can't be reached (ConnectError: its cert")
        assert not raised.value.uncertain
        assert server.calls == []
        monkeypatch.setenv("SSL_CERT_FILE", str(ours.file))
        assert ssl.get_default_verify_paths().cafile == str(ours.file)
        driver = await open_weaviate(url=url)
        stored = await driver.store("ada", "kettle")
        assert await driver.recall("ada") == [stored]
        await driver.close()
