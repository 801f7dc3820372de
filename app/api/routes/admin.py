"""Operations on the service, for keys that may administer it."""

from fastapi import APIRouter

from app.api.auth import needs
from app.api.dependencies import OPTIONAL, WITH_BODY, ManagerDep
from app.api.models import Repaired, RepairRequest
from app.api.problems import problems
from app.api.route import ApiRoute
from app.errors import InvalidInput
from app.transfer.repair import repair as repair_drivers
from app.wrappers.base import WrappingDriver

router = APIRouter(prefix="/v1/admin", tags=["admin"], route_class=ApiRoute)


@router.post("/repair", operation_id="repair", responses=problems(*WITH_BODY, *OPTIONAL))
@needs("admin")
async def repair(request: RepairRequest, manager: ManagerDep) -> Repaired:
    """Compare two drivers record by record, and make the target hold what the source holds."""
    drivers = manager.built()
    for field, name in (("source", request.source), ("target", request.target)):
        if name not in drivers:
            raise InvalidInput(f"{field} must be one of: {', '.join(drivers)}", ("body", field))
    if request.source == request.target:
        raise InvalidInput("target must be another driver than source", ("body", "target"))
    holding = [driver for driver in drivers.values() if isinstance(driver, WrappingDriver)]
    if not request.dry_run:  # or what waits for it would undo the repair later
        for driver in holding:
            await driver.catch_up(request.target)

    async def settled() -> None:
        for driver in holding:
            await driver.settled(request.source)

    try:
        found = await repair_drivers(
            drivers[request.source],
            drivers[request.target],
            dry_run=request.dry_run,
            settled=settled,
        )
    finally:  # a repair that failed may have mended a part
        if not request.dry_run:
            for driver in holding:
                await driver.mended(request.target)
    return Repaired.model_validate(found)
