"""Knowledge for everyone."""

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
    KnowledgeIdPath,
)
from app.api.etag import TAGGED, IfMatchDep, etag
from app.api.idempotency import IdempotencyKeyDep, status_of, stored_as
from app.api.knowledge_requests import (
    ListKnowledgeParameters,
    RecallKnowledgeRequest,
    StoreKnowledgeManyRequest,
    StoreKnowledgeRequest,
    UpdateKnowledgeRequest,
)
from app.api.problems import problems
from app.api.responses import Knowledge, KnowledgeList, KnowledgePage, RecallKnowledgeResponse
from app.api.route import ApiRoute
from app.embedding import noting_truncated
from app.errors import NotFound
from app.pieces import in_pieces

router = APIRouter(prefix="/v1/knowledge", tags=["knowledge"], route_class=ApiRoute)


@router.post(
    "",
    operation_id="store_knowledge",
    status_code=201,
    responses={**stored_as(Knowledge, **TAGGED), **problems(*STORED)},
)
@needs("write")
async def store_knowledge(
    request: StoreKnowledgeRequest, key: IdempotencyKeyDep, driver: DriverDep, response: Response
) -> Knowledge:
    """Store knowledge. The next recall can find it."""
    with noting_truncated() as truncated:
        stored = await driver.store_global_knowledge(
            request.content,
            request.category,
            request.title,
            request.doc_id,
            request.metadata,
            expires_at=request.expires_at,
            ttl=request.ttl,
            knowledge_id=key.knowledge_id(request.knowledge_id),
        )
    response.status_code = status_of([stored])
    response.headers["ETag"] = etag(stored.updated_at)
    return Knowledge.of(stored, truncated)


@router.post(
    "/batch",
    operation_id="store_knowledge_many",
    status_code=201,
    responses={**stored_as(KnowledgeList), **problems(*STORED)},
)
@needs("write")
async def store_knowledge_many(
    request: StoreKnowledgeManyRequest,
    key: IdempotencyKeyDep,
    driver: DriverDep,
    response: Response,
) -> KnowledgeList:
    """Store knowledge, all or none."""
    new = await in_pieces(lambda entry: entry[1].new(key, entry[0]), enumerate(request.knowledge))
    with noting_truncated() as truncated:
        stored = await driver.store_knowledge_many(new)
    response.status_code = status_of(stored)
    return KnowledgeList(
        knowledge=await in_pieces(lambda each: Knowledge.of(each, truncated), stored)
    )


@router.post(
    "/recall",
    operation_id="recall_knowledge",
    response_model=RecallKnowledgeResponse,
    responses=problems(*WITH_BODY),
)
@needs("read")
async def recall_knowledge(request: RecallKnowledgeRequest, driver: DriverDep) -> Response:
    """Return the knowledge that best answers the query, best first."""
    found = await driver.recall_global_knowledge(
        request.query,
        request.top_k,
        request.category,
        doc_id=request.doc_id,
        filter=request.filter,
    )
    return RecallKnowledgeResponse.of(found, driver).response()


@router.get("", operation_id="list_knowledge", responses=problems(*ALWAYS, *OPTIONAL))
@needs("read")
async def list_knowledge(
    parameters: Annotated[ListKnowledgeParameters, Query()], driver: DriverDep
) -> KnowledgePage:
    """List knowledge, newest first; that of one document in its order."""
    page = await driver.list_knowledge(
        parameters.category,
        parameters.doc_id,
        parameters.cursor,
        parameters.limit,
        filter=parameters.wanted(),
    )
    return KnowledgePage.model_validate(page)


@router.get(
    "/{knowledge_id}",
    operation_id="get_knowledge",
    responses={200: TAGGED, **problems(*LOOKED_UP, *OPTIONAL)},
)
@needs("read")
async def get_knowledge(
    knowledge_id: KnowledgeIdPath, driver: DriverDep, response: Response
) -> Knowledge:
    """Return one record."""
    knowledge = await driver.get_knowledge(knowledge_id)
    if knowledge is None:
        raise NotFound
    response.headers["ETag"] = etag(knowledge.updated_at)
    return Knowledge.model_validate(knowledge)


@router.patch(
    "/{knowledge_id}",
    operation_id="update_knowledge",
    responses={200: TAGGED, **problems(*CHANGED, *OPTIONAL)},
)
@needs("write")
async def update_knowledge(
    knowledge_id: KnowledgeIdPath,
    request: UpdateKnowledgeRequest,
    if_match: IfMatchDep,
    driver: DriverDep,
    response: Response,
) -> Knowledge:
    """Change one record."""
    with noting_truncated() as truncated:
        knowledge = await driver.update_knowledge(knowledge_id, request.patch(), if_match=if_match)
    if knowledge is None:
        raise NotFound
    response.headers["ETag"] = etag(knowledge.updated_at)
    return Knowledge.of(knowledge, truncated)


@router.delete(
    "/{knowledge_id}",
    operation_id="delete_knowledge",
    status_code=204,
    responses=problems(*LOOKED_UP, *OPTIONAL),
)
@needs("write")
async def delete_knowledge(knowledge_id: KnowledgeIdPath, driver: DriverDep) -> None:
    """Delete one record."""
    if not await driver.delete_knowledge(knowledge_id):
        raise NotFound
