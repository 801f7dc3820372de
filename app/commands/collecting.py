"""How often a command that goes through many records lets Python look for cycles."""

import gc
from typing import Final

_ALLOCATIONS: Final = 50_000
"""Containers that are new since the last look: some batches of records."""


def collect_seldom() -> None:
    """Look at what is new seldom, and at what is there now never again.

    Records have no cycles, and some thousands of them live at a time: a look after each 700 new
    containers, as Python has it, goes through all of those for nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
