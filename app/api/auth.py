"""Who may call, and what: holders of an API key, or, while there is no key, this machine."""

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import Request

from app.errors import Forbidden, OutOfScope, Unauthorized
from app.settings import ApiKey, Scope, Settings

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_VERBS: dict[Scope, str] = {"read": "read", "write": "write", "admin": "administer the service"}

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Mark what a key must be allowed for the endpoint; no `ApiRoute` can be made without it."""

    def mark(endpoint: Endpoint) -> Endpoint:
        vars(endpoint)["scope"] = scope
        return endpoint

    return mark


def scope_of(endpoint: Callable[..., Any]) -> Scope:
    """What a key must be allowed for the endpoint; raises TypeError without a mark."""
    scope: Scope | None = vars(endpoint).get("scope")
    if scope is None:
        raise TypeError(f"{endpoint.__qualname__} lacks @needs(scope)")
    return scope


def authorise(request: Request, settings: Settings) -> ApiKey | None:
    """The caller's key, or None while there are no keys.

    Raises `Unauthorized` or `Forbidden` unless the caller may use the service.
    """
    accepted = settings.accepted_keys
    if accepted:
        key = _find(_token(request), accepted)
        if key is None:
            raise Unauthorized
        return key
    if not settings.allow_anonymous and not _is_local(request):
        raise Forbidden
    return None


def check_scope(key: ApiKey | None, scope: Scope) -> None:
    """Raise `OutOfScope` unless the key may do this; without a key everything may be done.

    A tenant's key never administers: the service is others' too.
    """
    if key is None:
        return
    if scope not in key.scopes:
        raise OutOfScope(f"This API key may not {_VERBS[scope]}.")
    if scope == "admin" and key.tenant is not None:
        raise OutOfScope("This API key may not administer the service: it is a tenant's.")


def _token(request: Request) -> bytes:
    given = [bytes(value) for name, value in request.scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return b""
    scheme, _, token = given[0].partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _find(token: bytes, accepted: Sequence[ApiKey]) -> ApiKey | None:
    """Compare with every key, so that the time tells nothing about any."""
    digest = hashlib.sha256(token).digest()
    matches = [key for key in accepted if hmac.compare_digest(digest, key.digest)]
def may_see_figures(request: Request, settings: Settings) -> bool:
    """Whether the caller may see figures in which every tenant's records count.

    Who is served without a key may; so may a key without a tenant that reads or administers.
    """
    try:
        key = authorise(request, settings)
    except (Unauthorized, Forbidden):
        return False
    return key is None or (key.tenant is None and not key.scopes.isdisjoint({"read", "admin"}))


    return matches[0] if token and matches else None


def _is_local(request: Request) -> bool:
    """Whether the caller is on this machine and means it: a foreign Host is a rebound DNS name."""
    name = re.sub(r":\d+$", "", request.headers.get("host", ""))
    try:
        local = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        local = False
    return local and name.lower() in _LOCAL_NAMES
