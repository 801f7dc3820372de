"""What a caller lets a cache do. The API sets it from a request's `Cache-Control`."""

from contextvars import ContextVar
from typing import Literal

Freshness = Literal["cached", "fresh", "unkept"]
"""cached: answer from the cache; fresh: compute, and keep it; unkept: compute, and keep nothing."""

freshness: ContextVar[Freshness] = ContextVar("freshness", default="cached")
