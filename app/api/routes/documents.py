"""Documents: knowledge that is replaced and deleted as a whole."""

from fastapi import APIRouter

from app.api.auth import needs
from app.api.dependencies import ALWAYS, OPTIONAL, WITH_BODY, DocIdPath, DriverDep
from app.api.knowledge_requests import (
    DeleteDocumentRequest,
    PutAnyDocumentRequest,
    PutDocumentRequest,
)
from app.api.paths import instead
from app.api.problems import problems
from app.api.responses import Deleted, Knowledge, KnowledgeList
from app.api.route import ApiRoute
from app.core.memory.record_driver import RecordDriver
from app.embedding import noting_truncated
from app.pieces import in_pieces

router = APIRouter(prefix="/v1/knowledge/documents", tags=["knowledge"], route_class=ApiRoute)


@router.put(
    "/{doc_id:any}",
    operation_id="put_document",
    responses=problems(*WITH_BODY, *OPTIONAL),
)
@needs("write")
@instead("POST /v1/knowledge/documents")
async def put_document(
    doc_id: DocIdPath, request: PutDocumentRequest, driver: DriverDep
) -> KnowledgeList:
    """Put the pieces in the place of all knowledge of the document, at once.

    Of an id that no proxy rewrites in a path; `put_any_document` takes any.
    """
    return await _put(doc_id, request, driver)


@router.post("", operation_id="put_any_document", responses=problems(*WITH_BODY, *OPTIONAL))
@needs("write")
async def put_any_document(request: PutAnyDocumentRequest, driver: DriverDep) -> KnowledgeList:
    """Put the pieces in the place of all knowledge of the document, at once."""
    return await _put(request.doc_id, request, driver)


async def _put(doc_id: str, request: PutDocumentRequest, driver: RecordDriver) -> KnowledgeList:
    with noting_truncated() as truncated:
        kept = await driver.put_document(doc_id, **request.arguments())
    return KnowledgeList(
        knowledge=await in_pieces(lambda each: Knowledge.of(each, truncated), kept)
    )


@router.delete(
    "/{doc_id:any}",
    operation_id="delete_document",
    responses=problems(*ALWAYS, *OPTIONAL),
)
@needs("write")
@instead("POST /v1/knowledge/documents/delete")
async def delete_document(doc_id: DocIdPath, driver: DriverDep) -> Deleted:
    """Delete a document whose id no proxy rewrites; `delete_any_document` takes any id."""
    return Deleted(deleted=await driver.delete_document(doc_id))


@router.post(
    "/delete",
    operation_id="delete_any_document",
    responses=problems(*WITH_BODY, *OPTIONAL),
)
@needs("write")
async def delete_any_document(request: DeleteDocumentRequest, driver: DriverDep) -> Deleted:
    """Delete all knowledge of the document."""
    return Deleted(deleted=await driver.delete_document(request.doc_id))
