"""Logs go to standard error, also in a program that only imports the drivers."""

import subprocess
import sys
from pathlib import Path

import pytest

SECRET = "hunter2"  # noqa: S105


def run(root: Path, program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )


LOGGING = f"""
from app.logs import get_logger

def fail(password):
    raise ValueError("the reason")

log = get_logger("app.somewhere")
log.debug("event_debug")
log.info("event_info", count=1)
log.warning("event_warning")
log.error("event_error")
try:
    fail("{SECRET}")
except ValueError:
    log.exception("event_exception")
"""


def test_a_program_that_configured_nothing_has_events_on_standard_error(root: Path) -> None:
    said = run(root, LOGGING)
    assert said.stdout == ""
    for level in ("debug", "info", "warning", "error", "exception"):
        assert f"event_{level}" in said.stderr
    assert "ValueError: the reason" in said.stderr
    assert SECRET not in said.stderr


def test_what_the_program_itself_logs_goes_where_it_went(root: Path) -> None:
    said = run(root, f"{LOGGING}\nimport structlog; structlog.get_logger().info('its_own')")
    assert "its_own" in said.stdout
    assert "event_" not in said.stdout


@pytest.mark.parametrize("configured", ["before", "after"])
def test_a_program_that_configured_structlog_has_events_where_it_wants_them(
    configured: str, root: Path
) -> None:
    configuring = (
        "import structlog, sys\n"
        "structlog.configure(processors=[structlog.processors.JSONRenderer()],\n"
        "    logger_factory=structlog.PrintLoggerFactory(sys.stdout))\n"
    )
    if configured == "before":
        said = run(root, configuring + LOGGING)
    else:
        said = run(root, f"{LOGGING}{configuring}log.info('event_info', count=1)")
    assert '{"count": 1, "event": "event_info"}' in said.stdout
    assert ("event_info" in said.stderr) is (configured == "after")


@pytest.mark.parametrize("engine", ["auto", "onnxruntime", "openvino", "torch"])
def test_no_engine_prints_to_a_program_that_only_recalls(engine: str, root: Path) -> None:
    said = run(
        root,
        f"""
import asyncio
from app.core.memory.manager import MemoryDriverManager
from app.settings import EmbeddingSettings, Settings

async def main():
    settings = Settings(embedding=EmbeddingSettings(engine="{engine}", threads=1))
    manager = MemoryDriverManager(settings)
    async with manager.driver("inmemory") as driver:
        await driver.store("ada", "a copper kettle")
        assert await driver.recall("ada", query="kettle")
    await manager.close()

asyncio.run(main())
""",
    )
    assert said.stdout == "", said.stderr


REPEATING = """
import asyncio
from app.retries import attempts

async def main():
    async for attempt in attempts(lambda error: True, 1, 5.0):
        with attempt:
            if attempt.num == 1:
                raise ValueError("hunter2")

asyncio.run(main())
"""


def test_a_repeated_call_is_told_on_standard_error(root: Path) -> None:
    said = run(root, REPEATING)
    assert said.stdout == ""
    assert "call_repeated" in said.stderr
    assert SECRET not in said.stderr
