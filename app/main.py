"""The application and its lifespan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app import __version__
from app.api.head import HeadMiddleware
from app.api.openapi import openapi
from app.api.problems import install_problems
from app.api.request_id import RequestIdMiddleware
from app.api.routes import admin, documents, health, knowledge, memories, transfer, users
from app.api.shutdown import ShutdownMiddleware
from app.api.tenants import Tenants
from app.core.memory.manager import MemoryDriverManager
from app.core.memory.six_verbs import record_driver
from app.errors import DriverTimeout, DriverUnavailable, MemoryServiceError
from app.logs import configure_logging, get_logger
from app.transfer.reembedding_here import ReembeddingsHere

_log = get_logger(__name__)

_ROUTERS = (
    memories.router,
    users.router,
    documents.router,
    knowledge.router,
    transfer.router,
    admin.router,
    health.router,
    health.metrics,
)
"""Their routes are the application's own: FastAPI looks through an included router twice."""


def create_app(manager: MemoryDriverManager | None = None) -> FastAPI:
    """The service over the manager's driver; by default, over the process's own."""
    app = FastAPIOffline(
        routes=[route for router in _ROUTERS for route in router.routes],
        title="Memory driver service",
        version=__version__,
        summary="Agents' memory and shared knowledge, on the backend you choose.",
        lifespan=_lifespan,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.manager = manager or MemoryDriverManager.shared()
    settings = app.state.manager.settings
    app.state.driver = record_driver(app.state.manager.driver(), settings.limits)
    app.state.tenants = Tenants(app.state.driver, settings)
    app.state.reembeddings = ReembeddingsHere()
    app.state.failure = None
    app.add_middleware(HeadMiddleware)
    app.add_middleware(ShutdownMiddleware)
    app.add_middleware(RequestIdMiddleware)
    install_problems(app)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    driver = app.state.driver
    if not structlog.is_configured():  # under another server than `memory-driver serve`
        configure_logging(app.state.manager.settings)
    try:
        try:
            await driver.open()
        except (DriverUnavailable, DriverTimeout) as error:
            # Not a reason to stop: the driver opens itself when its backend is back.
            _log.error("driver_unavailable_at_start", driver=driver.name, reason=error.reason)
        except MemoryServiceError as error:
            app.state.failure = error
            raise
        yield
    finally:
        await app.state.reembeddings.close()
        await app.state.manager.close()
