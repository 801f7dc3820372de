"""What leads to this machine, and what tells it from others."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.drivers.pgvector.embedded.server import shared_buffers
from app.machine import is_loopback, machine, memory_bytes


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("localhost", True),
        ("LocalHost.", True),
        ("memory.localhost", True),
        ("127.0.0.1", True),
        ("127.9.8.7", True),
        ("127.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),  # noqa: S104 - nothing is bound
        ("::", True),
        ("db.internal", False),
        ("localhost.example", False),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("", False),
    ],
)
def test_names_that_mean_the_machine_that_says_them(host: str, is_one: bool) -> None:
    assert is_loopback(host) is is_one


def test_processes_of_a_machine_tell_the_same_one(root: Path) -> None:
    code = "from app.machine import machine; print(machine())"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == machine()


@pytest.mark.parametrize(
    ("limit", "is_less"), [("1048576\n", True), ("max\n", False), (None, False)]
)
def test_a_container_has_the_memory_of_its_limit(
    tmp_path: Path, limit: str | None, is_less: bool
) -> None:
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(limit)
    assert (memory_bytes(file) == 1_048_576) is is_less
    assert memory_bytes(file) > 0


@pytest.mark.parametrize(
    ("memory", "megabytes"), [(2**28, 32), (2**34, 32), (2**36, 65), (2**40, 256)]
)
def test_the_embedded_servers_cache_follows_the_memory(memory: int, megabytes: int) -> None:
    assert shared_buffers(memory) == megabytes
