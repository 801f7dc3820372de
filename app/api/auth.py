"""Who may call, and what: holders of an API key, or, while there is no key, this machine."""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, TypeVar

from fastapi import Request

from app.api.forwarding import was_forwarded
from app.errors import Forbidden, OutOfScope, Unauthorized
from app.settings import ApiKey, Scope, Settings, host_name

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_VERBS: dict[Scope, str] = {"read": "read", "write": "write", "admin": "administer the service"}

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def needs(scope: Scope, *, of_tenant: Scope | None = None) -> Callable[[Endpoint], Endpoint]:
    """Mark what a key must be allowed for the endpoint; no `ApiRoute` can be made without it.

    `of_tenant`: what a tenant's key must be, where the tenant's part needs less than the whole.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        vars(endpoint)["scope"] = scope
        vars(endpoint)["tenant_scope"] = of_tenant or scope
        return endpoint

    return mark


def scope_of(endpoint: Callable[..., Any], *, of_tenant: bool = False) -> Scope:
    """What a key, or a tenant's, needs for the endpoint; raises TypeError without a mark."""
    scope: Scope | None = vars(endpoint).get("tenant_scope" if of_tenant else "scope")
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
    if not settings.allow_anonymous:
        if not _is_local(request):
            raise Forbidden
        if was_forwarded(request):
            raise Forbidden(
                "No API key is configured, so only requests from this machine are served, and "
                "none that a proxy passed on."
            )
    if not _is_meant(request, settings):
        raise Forbidden(
            "No API key is configured, and the request's Host is neither localhost nor one of "
            "MEMORY_ALLOWED_HOSTS."
        )
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


def may_see_figures(request: Request, settings: Settings) -> bool:
    """Whether the caller may see figures in which every tenant's records count.

    Who is served without a key may; so may a key without a tenant that reads or administers.
    """
    try:
        key = authorise(request, settings)
    except (Unauthorized, Forbidden):
        return False
    return key is None or (key.tenant is None and not key.scopes.isdisjoint({"read", "admin"}))


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
    return matches[0] if token and matches else None


def _is_meant(request: Request, settings: Settings) -> bool:
    """Whether the caller means this service: another Host is a web page's name, led here.

    Who owns a name can let it lead anywhere, and a page of that name may then call what is there.
    Nobody can let an address lead elsewhere.
    """
    name = host_name(re.sub(r":\d*$", "", request.headers.get("host", "")))
    if name is None:
        return False
    if name in _LOCAL_NAMES or name in settings.host_names:
        return True
    return settings.allow_anonymous and _address(name) is not None


def _is_local(request: Request) -> bool:
    address = _address(request.client.host) if request.client is not None else None
    return address is not None and address.is_loopback


@lru_cache(maxsize=1_024)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
