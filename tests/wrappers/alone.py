"""How soon, and for how long, a driver is left alone: constants that a test may change."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.wrappers.node import FAILURES


@contextmanager
def left_alone(*, after: int = FAILURES, seconds: float = 0.05) -> Iterator[None]:
    """Drivers that are made within it leave one alone after so many failures, so long."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("app.wrappers.node.FAILURES", after)
        patched.setattr("app.wrappers.node.COOLDOWN", seconds)
        yield
