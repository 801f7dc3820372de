"""Requests made up from openapi.json, valid and not: every answer is as it says."""

import json
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, assume, settings
from schemathesis import AuthContext, Case
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    positive_data_acceptance,
    unsupported_method,
)

from tests.service.conftest import KEY
from tests.service.service import ROOT, Service

DOCUMENT = ROOT / "openapi.json"
MORE_THAN_A_SCHEMA_SAYS = [
    # Text with a NUL, and a cursor that no page gave, are strings; they are refused with 422.
    positive_data_acceptance,
    # /v1/memories/batch is also what GET, PATCH and DELETE take for a memory's path.
    allow_header_conformance,
    unsupported_method,
]
schema = schemathesis.openapi.from_path(DOCUMENT)


@schema.auth()
class Key:
    """Sends the API key, except where a request is made up without one."""

    def get(self, case: Case[Any], context: AuthContext) -> str:
        return KEY

    def set(self, case: Case[Any], data: str, context: AuthContext) -> None:
        case.headers["Authorization"] = f"Bearer {data}"


def test_the_service_is_what_the_document_describes(service: Service) -> None:
    assert httpx.get(f"{service.url}/openapi.json").json() == json.loads(DOCUMENT.read_text())


@schema.parametrize()
@settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_documented(case: Case[Any], service: Service) -> None:
    assume(not is_large(case.body))
    case.call_and_validate(base_url=service.url, excluded_checks=MORE_THAN_A_SCHEMA_SAYS)


def is_large(body: Any) -> bool:
    """Whether it is a batch that takes seconds to embed, and shows no more than a small one."""
    lists = body.values() if isinstance(body, dict) else ()
    return any(len(value) > 20 for value in lists if isinstance(value, list))
