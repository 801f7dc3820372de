"""SIGTERM while a request runs."""

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.service.service import Service

JARS = 200
BATCH = {
    "memories": [
        {"user_id": "shutdown", "content": f"Jar {n} has flour for the bread of Sunday. " * 6}
        for n in range(JARS)
    ]
}


def test_sigterm_lets_a_running_batch_end(service: Service, shared_database: str) -> None:
    other = Service({"MEMORY_DRIVER": "pgvector", "DATABASE_URL": shared_database})
    with other, ThreadPoolExecutor(1) as threads:
        batch = threads.submit(httpx.post, f"{other.url}/v1/memories/batch", json=BATCH, timeout=60)
        time.sleep(0.7)
        assert not batch.done()
        other.process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        assert not batch.done()
        assert not accepts_connections(other)

        response = batch.result()
        assert response.status_code == 201
        assert len(response.json()["memories"]) == JARS
        assert other.wait() in (0, -signal.SIGTERM)
        assert "Traceback" not in other.output
    with service.client() as client:
        assert client.delete("/v1/users/shutdown/memories").json() == {"deleted": JARS}


def accepts_connections(service: Service) -> bool:
    url = httpx.URL(service.url)
    try:
        socket.create_connection((url.host, url.port or 80), timeout=2).close()
    except OSError:
        return False
    return True
