"""Who may call: holders of an API key, or, while there is no key, this machine."""

import hashlib
import hmac
import ipaddress
import re

from fastapi import Request

from app.errors import Forbidden, Unauthorized
from app.settings import Settings

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def authorise(request: Request, settings: Settings) -> None:
    """Raise `Unauthorized` or `Forbidden` unless the caller may use the service."""
    accepted = settings.api_key_digests
    if accepted:
        if not _is_accepted(_token(request), accepted):
            raise Unauthorized
    elif not settings.allow_anonymous and not _is_local(request):
        raise Forbidden


def _token(request: Request) -> bytes:
    given = [bytes(value) for name, value in request.scope["headers"] if name == b"authorization"]
    if len(given) != 1:
        return b""
    scheme, _, token = given[0].partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _is_accepted(token: bytes, accepted: frozenset[bytes]) -> bool:
    """Compare with every key, so that the time tells nothing about any."""
    digest = hashlib.sha256(token).digest()
    matches = [hmac.compare_digest(digest, key) for key in accepted]
    return bool(token) and any(matches)


def _is_local(request: Request) -> bool:
    """Whether the caller is on this machine and means it: a foreign Host is a rebound DNS name."""
    name = re.sub(r":\d+$", "", request.headers.get("host", ""))
    try:
        local = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        local = False
    return local and name.lower() in _LOCAL_NAMES
