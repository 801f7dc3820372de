"""`memory-driver serve`."""

import gc
import ipaddress
import logging
import socket
from typing import Annotated, Any, TypeAlias

import typer
import uvicorn
from fastapi import FastAPI

from app.api.connection import bounded
from app.api.protocol import HttpProtocol
from app.commands import refuse
from app.core.memory.manager import MemoryDriverManager
from app.errors import ConfigurationError
from app.logs import configure_logging, get_logger
from app.main import create_app
from app.settings import Settings, load_settings

_BACKLOG = 2048

Address: TypeAlias = tuple[int, int, int, str, Any]
"""As `socket.getaddrinfo` gives it."""

_log = get_logger(__name__)


def serve(
    host: Annotated[str | None, typer.Option(help="In place of MEMORY_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="In place of MEMORY_PORT.")] = None,
) -> None:
    """Serve the REST API until SIGINT or SIGTERM; running requests get to end."""
    try:
        options = {"host": host, "port": port}
        settings = load_settings(**{k: v for k, v in options.items() if v is not None})
        configure_logging(settings)
        address = _address(settings)
        _check_exposure(settings)
        app = create_app(MemoryDriverManager(settings))
        listener = _listen(settings, address)
    except ConfigurationError as error:
        refuse(error.reason)
    _tell_exposure(settings)
    logging.getLogger("uvicorn.error").addFilter(_SaidAlready(app))
    server = _Server(
        uvicorn.Config(
            app,
            http=bounded(HttpProtocol),
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # a caller is who connects; `was_forwarded` reads these headers
            backlog=_BACKLOG,
            timeout_graceful_shutdown=settings.shutdown_timeout,
            server_header=False,
        ),
        app.state.driver.name,
    )
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    except SystemExit:
        if app.state.failure is None:
            raise
        refuse(app.state.failure.reason)
    finally:
        listener.close()


class _Server(uvicorn.Server):
    """Says where the documentation is, once requests are answered."""

    def __init__(self, config: uvicorn.Config, driver: str) -> None:
        super().__init__(config)
        self._driver = driver

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What was loaded stays: no collection of garbage goes through it again.
        gc.collect()
        gc.freeze()
        if sockets and self.started and not self.should_exit:
            host, port = sockets[0].getsockname()[:2]
            if ipaddress.ip_address(host).is_unspecified:
                host = "localhost"
            shown = f"[{host}]" if ":" in host else host
            typer.echo(f"Ready: http://{shown}:{port}/docs (driver: {self._driver})")


class _SaidAlready(logging.Filter):
    """Drops the second traceback of an error that we logged, and that of a refused start."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__()
        self._app = app

    def filter(self, record: logging.LogRecord) -> bool:
        if self._app.state.failure is not None:
            return False
        return not record.getMessage().startswith("Exception in ASGI application")


def _check_exposure(settings: Settings) -> None:
    if not (settings.accepted_keys or settings.allow_anonymous or _is_loopback(settings.host)):
        raise ConfigurationError(
            f"MEMORY_HOST: {settings.host} is reachable from other machines and there is no API "
            "key: set MEMORY_API_KEYS, or MEMORY_ALLOW_ANONYMOUS=true"
        )


def _tell_exposure(settings: Settings) -> None:
    if settings.accepted_keys:
        return
    if settings.allow_anonymous:
        names = ", ".join(("localhost", "an IP address", *sorted(settings.host_names)))
        _log.warning(
            "no_api_key", effect="anyone who reaches this address is served", called_by=names
        )
    else:
        _log.info("no_api_key", effect="only this machine is served")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(settings: Settings) -> Address:
    """Where to listen; raises `ConfigurationError` for a host that is none."""
    try:
        return socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise _cant_listen(settings, str(error.strerror)) from None
    except UnicodeError:
        raise _cant_listen(settings, "it is no name of a host") from None


def _listen(settings: Settings, place: Address) -> socket.socket:
    """The address, taken before anything is started, so that a port in use is told at once.

    Bound alone it could still be lost to another process; who calls early waits for the start.
    """
    family, kind, protocol, _, address = place
    try:
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _cant_listen(settings, str(error.strerror)) from None
    return listener


def _cant_listen(settings: Settings, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"MEMORY_HOST, MEMORY_PORT: can't listen on {settings.host}:{settings.port} ({reason})"
    )
