"""Tells of a test that took too long what its tasks wait for: a loop's own stack says nothing."""

import asyncio
import os
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

_AFTERWARDS_SECONDS = 300.0
"""What hangs may not let the loop be closed either: that is given up after so long."""

_loops: list[asyncio.AbstractEventLoop] = []
_watching: list[threading.Thread] = []
_reported = 0.0


@pytest.fixture(scope="session", autouse=True)
async def loop_of_the_tests() -> None:
    _loops.append(asyncio.get_running_loop())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    global _reported
    report = yield
    _reported = time.monotonic()
    if report.failed and call.excinfo is not None and "pytest-timeout" in str(call.excinfo.value):
        tasks = [task for loop in _loops for task in asyncio.all_tasks(loop)]
        report.sections.append(("Tasks", "\n\n".join(map(_waits_for, tasks))))
        if not _watching:
            _watching.append(threading.Thread(target=_watch, daemon=True))
            _watching[0].start()
    return report


def _watch() -> None:
    while time.monotonic() - _reported < _AFTERWARDS_SECONDS:
        time.sleep(1)
    os._exit(1)


def _waits_for(task: asyncio.Task[Any]) -> str:
    """Its name, and the lines at which its coroutines wait, each for the next."""
    lines = [task.get_name()]
    awaited: Any = task.get_coro()
    while awaited is not None:
        kind = next((each for each in ("cr", "gi", "ag") if hasattr(awaited, f"{each}_frame")), "")
        frame = getattr(awaited, f"{kind}_frame", None)
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "-"
        lines.append(f"    {where} {getattr(awaited, '__qualname__', repr(awaited))}")
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
    return "\n".join(lines)
