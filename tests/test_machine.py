"""What leads to this machine, and what tells it from others."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.machine import is_loopback, machine


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
