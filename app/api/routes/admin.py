"""Operations on the service, for keys that may administer it."""

from typing import Annotated

from fastapi import APIRouter, Query, Request

from app.api.auth import needs
from app.api.dependencies import ALWAYS, OPTIONAL, WITH_BODY, ManagerDep
from app.api.problems import problems
from app.api.requests import CallOffParameters, ReembedRequest, RepairRequest
from app.api.responses import CalledOff, Reembedding, Repaired
from app.api.route import ApiRoute
from app.core.memory.manager import MemoryDriverManager
from app.core.memory.record_driver import RecordDriver
from app.errors import Conflict, InvalidInput
from app.transfer.reembedding_here import ReembeddingsHere
from app.transfer.repair import complete, repair_named
from app.wrappers.base import WrappingDriver

router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=ApiRoute)


@router.post("/repair", operation_id="repair", responses=problems(*WITH_BODY, *OPTIONAL))
@needs("admin")
async def repair(request: RepairRequest, manager: ManagerDep) -> Repaired:
    """Compare two drivers record by record, and make the target hold what the source holds."""
    found = await repair_named(
        manager.built(), request.source, request.target, dry_run=request.dry_run
    )
    return Repaired.model_validate(found)


@router.post(
    "/reembed",
    operation_id="reembed",
    status_code=202,
    responses=problems(*WITH_BODY, *OPTIONAL, Conflict),
)
@needs("admin")
async def reembed(body: ReembedRequest, request: Request, manager: ManagerDep) -> Reembedding:
    """Bring the records of a driver to another model, in the background.

    Asked again, tell how far it is. Until one switch all records keep their vectors. Where the
    service has ended meanwhile, the next call goes on.
    """
    here: ReembeddingsHere = request.app.state.reembeddings
    driver = _keeping(manager, body.driver)
    told = await here.start(driver, manager.embedder_of(body.model), force=body.force)
    return Reembedding.model_validate(told)


@router.delete("/reembed", operation_id="call_off_reembed", responses=problems(*ALWAYS, *OPTIONAL))
@needs("admin")
async def call_off_reembed(
    parameters: Annotated[CallOffParameters, Query()], request: Request, manager: ManagerDep
) -> CalledOff:
    """Leave the records of a driver as they are, and delete the vectors of another model."""
    here: ReembeddingsHere = request.app.state.reembeddings
    driver = _keeping(manager, parameters.driver)
    model = manager.embedder_of(manager.settings.embedding.model)
    return CalledOff(called_off=await here.call_off(driver, model))


def _keeping(manager: MemoryDriverManager, name: str | None) -> RecordDriver:
    """The driver of that name, or the only one that keeps records itself."""
    built = manager.built()
    keeping = [each for each, driver in built.items() if not isinstance(driver, WrappingDriver)]
    chosen = name if name is not None or len(keeping) != 1 else keeping[0]
    if chosen not in built:
        raise InvalidInput(f"driver must be one of: {', '.join(keeping)}", ("driver",))
    return complete(built[chosen])
