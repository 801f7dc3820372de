"""A user's memories."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from app.api.auth import needs
from app.api.dependencies import (
    ALWAYS,
    CHANGED,
    LOOKED_UP,
    OPTIONAL,
    STORED,
    WITH_BODY,
    DriverDep,
    MemoryIdPath,
)
from app.api.etag import TAGGED, IfMatchDep, etag
from app.api.idempotency import IdempotencyKeyDep, status_of, stored_as
from app.api.problems import problems
from app.api.requests import (
    DeleteManyRequest,
    ListParameters,
    OwnerParameters,
    RecallRequest,
    StoreManyRequest,
    StoreRequest,
    UpdateRequest,
)
from app.api.responses import Deleted, Memories, Memory, MemoryPage, RecallResponse
from app.api.route import ApiRoute
from app.embedding import noting_truncated
from app.errors import NotFound
from app.pieces import in_pieces

router = APIRouter(prefix="/v1", tags=["memories"], route_class=ApiRoute)


@router.post(
    "/memories",
    operation_id="store",
    status_code=201,
    responses={**stored_as(Memory, **TAGGED), **problems(*STORED)},
)
@needs("write")
async def store(
    request: StoreRequest, key: IdempotencyKeyDep, driver: DriverDep, response: Response
) -> Memory:
    """Store a memory. The next recall can find it."""
    with noting_truncated() as truncated:
        stored = await driver.store(
            request.user_id,
            request.content,
            request.conversation_id,
            request.tags,
            request.metadata,
            occurred_at=request.occurred_at,
            expires_at=request.expires_at,
            ttl=request.ttl,
            memory_id=key.memory_id(request.memory_id, request.user_id),
        )
    response.status_code = status_of([stored])
    response.headers["ETag"] = etag(stored.updated_at)
    return Memory.of(stored, truncated)


@router.post(
    "/memories/batch",
    operation_id="store_many",
    status_code=201,
    responses={**stored_as(Memories), **problems(*STORED)},
)
@needs("write")
async def store_many(
    request: StoreManyRequest, key: IdempotencyKeyDep, driver: DriverDep, response: Response
) -> Memories:
    """Store memories, all or none."""
    new = await in_pieces(lambda entry: entry[1].new(key, entry[0]), enumerate(request.memories))
    with noting_truncated() as truncated:
        stored = await driver.store_many(new)
    response.status_code = status_of(stored)
    return Memories(memories=await in_pieces(lambda each: Memory.of(each, truncated), stored))


@router.post(
    "/memories/recall",
    operation_id="recall",
    response_model=RecallResponse,
    responses=problems(*WITH_BODY, *OPTIONAL),
)
@needs("read")
async def recall(request: RecallRequest, driver: DriverDep) -> Response:
    """Return the memories that best answer the query, best first."""
    found = await driver.recall(
        request.user_id,
        request.conversation_id,
        request.query,
        request.top_k,
        request.use_vector,
        request.exclude_tags,
        explain=request.explain,
        recency=request.recency.weighed() if request.recency is not None else None,
        as_of=request.as_of,
        filter=request.filter,
    )
    return RecallResponse.of(found, driver).response()


@router.post(
    "/memories/delete",
    operation_id="delete_many",
    responses=problems(*WITH_BODY, *OPTIONAL),
)
@needs("write")
async def delete_many(request: DeleteManyRequest, driver: DriverDep) -> Deleted:
    """Delete the user's memories of a conversation, of a filter, or created before a moment."""
    deleted = await driver.delete_many(
        request.user_id,
        request.conversation_id,
        request.filter,
        request.before,
        dry_run=request.dry_run,
    )
    return Deleted(deleted=deleted)


@router.get("/memories", operation_id="list_memories", responses=problems(*ALWAYS, *OPTIONAL))
@needs("read")
async def list_memories(
    parameters: Annotated[ListParameters, Query()], driver: DriverDep
) -> MemoryPage:
    """List a user's memories, newest first."""
    page = await driver.list_memories(
        parameters.user_id,
        parameters.conversation_id,
        parameters.cursor,
        parameters.limit,
        filter=parameters.wanted(),
    )
    return MemoryPage.model_validate(page)


@router.get(
    "/memories/{memory_id}",
    operation_id="get_memory",
    responses={200: TAGGED, **problems(*LOOKED_UP, *OPTIONAL)},
)
@needs("read")
async def get_memory(
    memory_id: MemoryIdPath,
    owner: Annotated[OwnerParameters, Query()],
    driver: DriverDep,
    response: Response,
) -> Memory:
    """Return one memory of the user. Missing and another user's look the same."""
    memory = await driver.get(memory_id, owner.user_id)
    if memory is None:
        raise NotFound
    response.headers["ETag"] = etag(memory.updated_at)
    return Memory.model_validate(memory)


@router.patch(
    "/memories/{memory_id}",
    operation_id="update",
    responses={200: TAGGED, **problems(*CHANGED, *OPTIONAL)},
)
@needs("write")
async def update(
    memory_id: MemoryIdPath,
    owner: Annotated[OwnerParameters, Query()],
    request: UpdateRequest,
    if_match: IfMatchDep,
    driver: DriverDep,
    response: Response,
) -> Memory:
    """Change one memory of the user. Missing and another user's look the same."""
    with noting_truncated() as truncated:
        memory = await driver.update(memory_id, owner.user_id, request.patch(), if_match=if_match)
    if memory is None:
        raise NotFound
    response.headers["ETag"] = etag(memory.updated_at)
    return Memory.of(memory, truncated)


@router.delete(
    "/memories/{memory_id}",
    operation_id="delete",
    status_code=204,
    responses=problems(*LOOKED_UP),
)
@needs("write")
async def delete(
    memory_id: MemoryIdPath, owner: Annotated[OwnerParameters, Query()], driver: DriverDep
) -> None:
    """Delete one memory of the user. Missing and another user's look the same."""
    if not await driver.delete(memory_id, owner.user_id):
        raise NotFound
