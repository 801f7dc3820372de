"""An application for the tests that need no settings of their own, and logs as the service's."""

from collections.abc import AsyncIterator

import pytest
import structlog

from app.embedding import Embedder
from app.logs import configure_logging
from app.settings import Settings
from tests.api.serving import Api, serving


@pytest.fixture(scope="session", autouse=True)
def logs() -> None:
    """As `serve` configures them, but that other tests of the process may still capture them."""
    configure_logging(Settings(log_format="json"))
    structlog.configure(cache_logger_on_first_use=False)


@pytest.fixture
async def api(embedder: Embedder) -> AsyncIterator[Api]:
    """The application with the default settings and nothing stored."""
    async with serving(embedder) as api:
        yield api
