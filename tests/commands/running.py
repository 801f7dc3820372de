"""Runs commands as an operator does: in a process of their own, with nothing else set."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path


async def run_command(
    root: Path, settings: dict[str, str], *words: str, said: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver` with these words, and say that to what it asks."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "app", *words],
        cwd=root,
        env={
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "MEMORY_EMBEDDING_ENGINE": os.environ["MEMORY_EMBEDDING_ENGINE"],
            **settings,
        },
        input=said,
        capture_output=True,
        text=True,
        check=False,
    )
