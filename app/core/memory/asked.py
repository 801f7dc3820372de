"""A digest of what a caller asked for, by which the same request is known again."""

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID


def digest(asked: Mapping[str, Any]) -> UUID:
    """128 bits that are the same for the same values, in whatever order their names are.

    The values are JSON's, and moments, which count with their offset.
    """
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), default=datetime.isoformat)
    return UUID(bytes=blake2b(text.encode(), digest_size=16).digest())
