"""Doing something as another user of the machine, which only root can try."""

import os
import pwd
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

_STARTUP = 196_608
"""The version of PostgreSQL's protocol, 3.0."""


def uids(*more: int) -> list[int]:
    """Users to try: some that machines have, and `more`."""
    found = set(more)
    for name in ("nobody", "postgres", "daemon"):
        try:
            found.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    return sorted(found)


def as_user(uid: int, act: Callable[[], str]) -> str:
    """What `act` says in a process of that user's; the kind of its `OSError` where it fails."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            try:
                said = act()
            except OSError as error:
                said = type(error).__name__
            os.write(write, said.encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as told:
        said = told.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


def connecting(sockets: str, role: str) -> Callable[[], str]:
    """What the server in the folder answers to somebody who wants to be `role`."""

    def connect() -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(f"{sockets}/.s.PGSQL.5432")
            names = b"".join(
                part.encode() + b"\0" for part in ("user", role, "database", "memory", "")
            )
            client.sendall(struct.pack("!ii", len(names) + 8, _STARTUP) + names)
            answer = client.recv(4096)
        # R, its length and 0: let in without being asked for anything.
        return "let in" if answer[:1] == b"R" and answer[5:9] == bytes(4) else "refused"

    return connect


def reading(*paths: Path) -> Callable[[], str]:
    """Which of the files can be read."""

    def read() -> str:
        found = []
        for path in paths:
            try:
                path.read_bytes()
                found.append(str(path))
            except OSError:
                continue
        return "\n".join(found)

    return read
