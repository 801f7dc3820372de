"""Operations on the service, for keys that may administer it."""

from fastapi import APIRouter

from app.api.auth import needs
from app.api.dependencies import OPTIONAL, WITH_BODY, ManagerDep
from app.api.problems import problems
from app.api.requests import RepairRequest
from app.api.responses import Repaired
from app.api.route import ApiRoute
from app.transfer.repair import repair_named

router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=ApiRoute)


@router.post("/repair", operation_id="repair", responses=problems(*WITH_BODY, *OPTIONAL))
@needs("admin")
async def repair(request: RepairRequest, manager: ManagerDep) -> Repaired:
    """Compare two drivers record by record, and make the target hold what the source holds."""
    found = await repair_named(
        manager.built(), request.source, request.target, dry_run=request.dry_run
    )
    return Repaired.model_validate(found)
