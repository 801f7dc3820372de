"""A server that a killed service or a cancelled caller left is ended before the next starts."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.drivers.pgvector.embedded.server import EmbeddedPostgres

_SERVICE = """
import asyncio, sys
from pathlib import Path
from app.drivers.pgvector.embedded.server import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]))
    await server.open()
    print(server.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def leftover(tmp_path: Path) -> Iterator[psutil.Process]:
    """A server on `tmp_path` whose service and keeper were killed."""
    command = [sys.executable, "-c", _SERVICE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        server = psutil.Process(int(service.stdout.readline()))
        service.send_signal(signal.SIGSTOP)  # it would start the server again
        children = psutil.Process(service.pid).children(recursive=True)
        for shell in [child for child in children if child.name() == "sh"]:
            shell.send_signal(signal.SIGKILL)
        service.kill()
    yield server
    if server.is_running():
        server.kill()


@pytest.mark.parametrize("is_told", [True, False])
async def test_where_the_kernel_tells_its_folder_and_where_not(
    tmp_path: Path, leftover: psutil.Process, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    """Root without CAP_SYS_PTRACE, as in a container, is not told another user's."""

    def refuse(process: psutil.Process) -> str:
        raise psutil.AccessDenied(process.pid)

    if not is_told:
        monkeypatch.setattr(psutil.Process, "cwd", refuse)
    assert leftover.is_running()
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    try:
        assert not leftover.is_running()
        assert server.pid != leftover.pid
    finally:
        await server.close()


@pytest.mark.parametrize("again", ["close", "open"])
async def test_a_close_that_was_cancelled_goes_on(tmp_path: Path, again: str) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    first = psutil.Process(server.pid)
    closing = asyncio.create_task(server.close())
    await asyncio.sleep(0.01)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    if again == "open":
        await server.open()
        assert server.pid != first.pid
    await server.close()
    assert not first.is_running()
    other = EmbeddedPostgres(tmp_path)
    await other.open()
    await other.close()
