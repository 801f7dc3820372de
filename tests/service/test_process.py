"""The process and the PostgreSQL in it: start, stop, start again, be killed.

Three lives of one service on one data directory; each start costs seconds, so several tests look at
one life. Every test brings the lives before its own about by itself.
"""

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.service.home import Home
from tests.service.service import Service

KETTLE = "The kettle is copper."
BASIL = "The basil gets its water on Sundays."


@dataclass(frozen=True)
class FirstLife:
    """A life that ended with Ctrl-C, while a second service wanted the same data."""

    docs: httpx.Response
    exit_code: int
    output: str
    left: list[str]
    server_log: str
    second: Service
    second_exit_code: int


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with Home.made() as home:
        yield home


@pytest.fixture(scope="module")
def first_life(home: Home) -> FirstLife:
    service, second = home.service(anew=True).start(), home.service()
    try:
        home.postgresql()
        second.start()
        service.wait_ready()
        docs = httpx.get(f"{service.url}/docs")
        service.store("ada", KETTLE)
        second_exit_code = second.wait()
        ran = home.processes()
        exit_code = service.stop(signal.SIGINT)
        left = home.leftovers(ran)
    finally:
        service.process.kill()
        second.process.kill()
    return FirstLife(
        docs, exit_code, service.output, left, home.server_log, second, second_exit_code
    )


@pytest.fixture(scope="module")
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the service."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def second_life(
    home: Home, first_life: FirstLife, stranger: subprocess.Popen[bytes]
) -> Iterator[Service]:
    """It starts on a pid file that names the stranger."""
    data = home.data / "postgresql"
    home.pid_file.write_text(f"{stranger.pid}\n{data}\n1700000000\n5432\n/tmp\n\n\nready\n")
    with home.service() as service:
        yield service


def test_it_prints_the_url_of_the_documentation(first_life: FirstLife) -> None:
    ready = [line for line in first_life.output.splitlines() if line.startswith("Ready: http://")]
    assert len(ready) == 1
    assert "/docs" in ready[0]
    assert first_life.docs.status_code == 200
    assert "openapi.json" in first_life.docs.text


def test_a_second_service_on_the_same_data_is_refused_in_one_line(
    first_life: FirstLife, home: Home
) -> None:
    refusals = [line for line in first_life.second.output.splitlines() if line[0] != "{"]
    assert refusals == [
        f"memory-driver: MEMORY_DATA_DIR: {home.data} is in use by another service process"
    ]
    assert first_life.second_exit_code == 1


def test_ctrl_c_shuts_postgresql_down_and_leaves_nothing(first_life: FirstLife) -> None:
    assert first_life.exit_code == 0
    assert "database system is shut down" in first_life.server_log.splitlines()[-1]
    assert "not properly shut down" not in first_life.server_log
    assert first_life.left == []
    assert "Traceback" not in first_life.output
    assert '"level": "error"' not in first_life.output


def test_memories_are_recalled_after_a_restart(second_life: Service) -> None:
    assert second_life.recalled("ada", "What is the kettle made of?")[0] == KETTLE


def test_a_stale_pid_file_does_not_hurt_the_process_that_it_names(
    second_life: Service, stranger: subprocess.Popen[bytes], home: Home
) -> None:
    assert second_life.recalled("ada", "kettle")
    assert home.postgresql().pid != stranger.pid
    assert stranger.poll() is None


def test_it_recovers_by_itself_when_its_postgresql_is_killed(
    second_life: Service, home: Home
) -> None:
    second_life.store("bob", BASIL)
    home.postgresql().kill()
    statuses = set()
    with second_life.client() as client:
        deadline = time.monotonic() + 30
        while "postgresql_restarted" not in second_life.output:
            assert time.monotonic() < deadline
            found = client.post("/v1/memories/recall", json={"user_id": "bob"})
            statuses.add(found.status_code)
    assert statuses <= {200, 503}
    second_life.wait_recovered()
    assert second_life.recalled("bob", "When is the basil watered?") == [BASIL]


def test_killed_it_recovers_at_the_next_start_and_leaves_nothing(
    second_life: Service, home: Home
) -> None:
    stored = [second_life.store("carl", f"Jar {n} has flour.") for n in range(5)]
    ran = home.processes()
    second_life.process.kill()
    second_life.wait()
    with home.service() as third_life:
        with third_life.client() as client:
            found = client.get("/v1/memories", params={"user_id": "carl"}).json()
        ran += home.processes()
        exit_code = third_life.stop(signal.SIGTERM)
    assert [memory["memory_id"] for memory in found["memories"]] == stored[::-1]
    assert exit_code in (0, -signal.SIGTERM)
    assert home.wait_left(ran) == []
    assert "database system is shut down" in home.server_log.splitlines()[-1]
