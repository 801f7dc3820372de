"""A batch that is refused: beside what its model refuses, what the driver would refuse is named."""

from sys import maxsize
from typing import Any, get_args

from fastapi.exceptions import RequestValidationError

from app.api.knowledge_requests import StoreKnowledgeRequest
from app.api.requests import StoreRequest
from app.core.memory.batches import MOST_NAMED
from app.core.memory.record_driver import RecordDriver
from app.errors import InvalidInput
from app.pieces import in_pieces


async def with_entries_refused(
    error: RequestValidationError, model: Any, driver: RecordDriver
) -> RequestValidationError:
    """The error with those of the other entries that `driver` would not store.

    `model` is the body's, and has a `batch`. Once `MOST_NAMED` entries are bad, no more are looked
    at.
    """
    batch = model.batch
    given = error.body.get(batch) if isinstance(error.body, dict) else None
    if not isinstance(given, list):
        return error
    (entry,) = get_args(model.model_fields[batch].annotation)
    errors = [*error.errors()]
    bad = {e["loc"][2] for e in errors if e["loc"][:2] == ("body", batch) and len(e["loc"]) > 2}
    if not bad:  # the batch itself is refused
        return error

    def check(n: int) -> None:
        if n in bad or len(bad) >= MOST_NAMED:
            return
        request: StoreRequest | StoreKnowledgeRequest = entry.model_validate(given[n])
        try:
            driver.check_new(request.new(), ("body", batch, n))
        except InvalidInput as refused:
            bad.add(n)
            errors.append({"loc": refused.loc, "msg": str(refused), "type": refused.code})

    await in_pieces(check, range(len(given)))
    return RequestValidationError(sorted(errors, key=_place), body=error.body)


def _place(error: dict[str, Any]) -> int:
    """Where it stands among the others: by its entry's number; last, where it is of no entry."""
    loc = error["loc"]
    return loc[2] if len(loc) > 2 and isinstance(loc[2], int) else maxsize
