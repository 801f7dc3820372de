"""Runs commands as an operator does: in a process of their own, with nothing else set."""

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.forks import Fork, program

SECONDS = 120.0


async def run_command(
    root: Path, settings: dict[str, str], *words: str, said: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver` with these words, and say that to what it asks."""
    return await asyncio.to_thread(_run, root, _environment(settings), words, said)


def started(root: Path, settings: dict[str, str], *words: str) -> Fork | subprocess.Popen[bytes]:
    """The same as a process that nobody waits for, and whose output nobody reads."""
    with open(os.devnull, "r+") as nothing:
        streams = (nothing, nothing, nothing)
        return program(words, _environment(settings), root, streams)


async def run_program(
    root: Path, settings: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """The same by `python -m app`, which imports the program first."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "app", *words],
        cwd=root,
        env=_environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )


def _environment(settings: dict[str, str]) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "MEMORY_EMBEDDING_ENGINE": os.environ["MEMORY_EMBEDDING_ENGINE"],
        **settings,
    }


def _run(
    root: Path, environment: dict[str, str], words: tuple[str, ...], said: str
) -> subprocess.CompletedProcess[str]:
    with (
        tempfile.TemporaryFile("w+") as asked,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        asked.write(said)
        asked.seek(0)
        code = program(words, environment, root, (asked, output, errors)).wait(SECONDS)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, code, output.read(), errors.read())
