"""How much of what is random or long a run tries: a short form, or with `make storm` all of it."""

import os

STORM = os.environ.get("TEST_STORM") == "1"


def times(short: int, storm: int) -> int:
    """How often: `short` times in `make test`, `storm` times in `make storm`."""
    return storm if STORM else short
