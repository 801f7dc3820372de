"""The users who have memories."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.auth import needs
from app.api.dependencies import ALWAYS, OPTIONAL, WITH_BODY, DriverDep, UserIdPath
from app.api.paths import instead
from app.api.problems import problems
from app.api.requests import ForgetRequest, UsersParameters
from app.api.responses import Deleted, UserPage
from app.api.route import ApiRoute

router = APIRouter(prefix="/v1/users", tags=["users"], route_class=ApiRoute)


@router.get("", operation_id="list_users", responses=problems(*ALWAYS, *OPTIONAL))
@needs("admin", of_tenant="read")
async def list_users(
    parameters: Annotated[UsersParameters, Query()], driver: DriverDep
) -> UserPage:
    """List the users who have memories, by id; for a tenant's key, the tenant's own."""
    page = await driver.list_users(parameters.cursor, parameters.limit)
    return UserPage.model_validate(page)


@router.delete(
    "/{user_id:any}/memories",
    operation_id="delete_user",
    responses=problems(*ALWAYS, *OPTIONAL),
)
@needs("write")
@instead("POST /v1/users/forget")
async def delete_user(user_id: UserIdPath, driver: DriverDep) -> Deleted:
    """Delete all memories of a user whose id no proxy rewrites; `forget_user` takes any id."""
    return Deleted(deleted=await driver.delete_user(user_id))


@router.post(
    "/forget",
    operation_id="forget_user",
    responses=problems(*WITH_BODY, *OPTIONAL),
)
@needs("write")
async def forget_user(request: ForgetRequest, driver: DriverDep) -> Deleted:
    """Delete all of a user's memories."""
    return Deleted(deleted=await driver.delete_user(request.user_id))
