"""How many processors this process may use."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = _QUOTA) -> int:
    """At least 1: those the scheduler lets it run on, and no more than a container's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    try:
        most, period = quota.read_text().split()
        count = min(count, math.ceil(int(most) / int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max"
        pass
    return max(count, 1)
