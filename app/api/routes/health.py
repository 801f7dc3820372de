"""For probes; these need no API key, which shows more to who has one."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app import __version__
from app.api.auth import may_see_figures
from app.api.dependencies import ManagerDep, WholeDriverDep
from app.api.problems import problems
from app.api.responses import Health, Live
from app.errors import DriverUnavailable

router = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "",
    operation_id="health",
    responses={503: {"model": Health, "description": "The driver is unavailable."}},
)
async def health(
    driver: WholeDriverDep, manager: ManagerDep, request: Request, response: Response
) -> Health:
    """Tell each driver's state, and its figures to who may read; 503 when it can't serve."""
    state = await driver.health_check()
    if state.status == "unavailable":
        response.status_code = 503
    figures = may_see_figures(request, manager.settings)
    return Health.of(state, __version__, driver.capabilities(), figures=figures)


@router.get("/live", operation_id="live")
async def live() -> Live:
    """Tell that the process answers; no backend is asked."""
    return Live()


@router.get("/ready", operation_id="ready", responses=problems(DriverUnavailable))
async def ready(driver: WholeDriverDep) -> Live:
    """Tell that requests can be served; 503 until the driver can."""
    state = await driver.health_check()
    if state.status == "unavailable":
        raise DriverUnavailable(state.detail)
    return Live()


metrics = APIRouter(tags=["health"])


@metrics.get(
    "/metrics",
    operation_id="metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {}}}},
)
async def tell_metrics(driver: WholeDriverDep) -> PlainTextResponse:
    """Tell what this process counts, for Prometheus."""
    await driver.health_check()  # some gauges are as they were last looked at
    return PlainTextResponse(generate_latest(), media_type=CONTENT_TYPE_LATEST)
