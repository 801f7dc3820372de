"""What reranking endpoints are asked, and what they answer."""

import json
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from app.errors import DriverError
from app.reranking.logits import logistic

_NONSENSE = (ValueError, TypeError, LookupError, RecursionError, OverflowError)

Form: TypeAlias = Literal["tei", "jina", "cohere"]


def body(form: Form, name: str | None, query: str, texts: Sequence[str]) -> dict[str, Any]:
    """The request that asks for the scores of all texts.

    Jina's servers give the texts back unless they are told not to. Cohere's never do, and refuse a
    request that speaks of it. TEI refuses a text that is too long unless it may cut it; the others
    cut it.
    """
    if form == "tei":
        return {"query": query, "texts": list(texts), "raw_scores": False, "truncate": True}
    asked = {"model": name, "query": query, "documents": list(texts), "top_n": len(texts)}
    return asked if form == "cohere" else {**asked, "return_documents": False}


def scores(content: bytes, count: int) -> list[float]:
    """The scores of an answer in the order of the texts, 0..1.

    Some servers answer with logits: where a score of the answer is not within 0..1, all of them go
    through the logistic function. Raises `DriverError`.
    """
    try:
        answer = json.loads(content)
        items = answer["results"] if isinstance(answer, dict) else answer
        if len(items) != count:
            raise DriverError(reason=f"the reranker gave {len(items)} scores for {count} texts")
        found = dict(_scored(item) for item in items)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise DriverError(reason="the reranker's answer makes no sense") from error
    if found.keys() != set(range(count)):
        raise DriverError(reason="the reranker's answer has wrong indexes")
    if not all(map(math.isfinite, found.values())):
        raise DriverError(reason="the reranker gave a score that is no number")
    in_order = [found[n] for n in range(count)]
    if all(0 <= score <= 1 for score in in_order):
        return in_order
    return list(map(logistic, in_order))


def _scored(item: Any) -> tuple[int, float]:
    index = item["index"]
    score = item["relevance_score"] if "relevance_score" in item else item["score"]
    if type(index) is not int or type(score) not in (int, float):  # true is an int too
        raise TypeError
    return index, float(score)
