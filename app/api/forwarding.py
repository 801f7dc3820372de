"""Whether a request came through a proxy, as far as the request tells."""

import re
from functools import lru_cache

from fastapi import Request

_FORWARDING = re.compile(
    r"""
    .*forwarded.*           # Forwarded, X-Forwarded-For, X-Original-Forwarded-For
    | .*proxy.*             # Proxy-Connection, WL-Proxy-Client-IP
    | (x-)?via | cdn-loop
    | (.*-)?(client|socket)?ip                  # X-Real-IP, True-Client-IP, X-Azure-ClientIP
    | (.*-)?(client|external|remote)-addr(ess)?
    | x-orig(inal)?-.* | x-rewrite-.* | x-(real-|http-)?host(-override)?
    | (x-)?(url-)?scheme | front-end-https
    | (cf|fastly|fly|x-amz-cf|x-amzn|x-appengine|x-arr|x-azure|x-cloud-trace|x-envoy)-.*
    """,
    re.VERBOSE,
)
"""Headers by which proxies, balancers and content networks tell whose request they pass on."""


def was_forwarded(request: Request) -> bool:
    """Whether a proxy passed the request on: by a header that proxies add, or by HTTP/1.0.

    nginx before 1.29.7 asks in HTTP/1.0 and adds nothing unless it is told to; no client of today
    does. A proxy that adds nothing and speaks HTTP/1.1, as newer ones do, looks like a client.
    """
    if request.scope["http_version"] in {"0.9", "1.0"}:
        return True
    return any(_is_of_a_proxy(name) for name, _ in request.scope["headers"])


@lru_cache(maxsize=1_024)
def _is_of_a_proxy(header: bytes) -> bool:
    return bool(_FORWARDING.fullmatch(header.decode("latin-1").replace("_", "-")))
